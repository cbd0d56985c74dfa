"""Dissection against counting pixel by pixel, and a network whose units are known detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.errors import UsageError
from striate.explain.layers import place_of, readable_copy
from striate.explain.units.dissection import Dissection, View, active, dissect


def views_of(count: int, size: int = 24) -> list[View]:
    generator = torch.Generator().manual_seed(0)
    views = []
    for _ in range(count):
        masks = torch.zeros(3, size, size, dtype=torch.bool)
        for mask in masks:
            top, left = torch.randint(0, size - 6, (2,), generator=generator).tolist()
            mask[top : top + 5, left : left + 4] = True
        image = torch.rand(3, size, size, generator=generator)
        known = torch.ones(size, size, dtype=torch.bool)
        known[:3] = False
        views.append(View(image, masks, known))
    return views


def test_counted_by_hand():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 70, 5, stride=2, padding=2), nn.ReLU(inplace=True))
    views = views_of(7)
    found = dissect(network, "1", lambda: views, ("a", "b", "c"), 7, quantile=0.02)
    maps = torch.stack([network(view.image[None])[0] for view in views]).detach()  # [7, 70, 12, 12]
    values = np.sort(maps.transpose(0, 1).flatten(1).numpy(), axis=1)[:, ::-1]
    rank = int(0.02 * values.shape[1])
    thresholds = values[:, rank].copy()
    for unit in np.flatnonzero(values[:, rank - 1] == 0):  # seldom above 0: half of the least that is
        thresholds[unit] = min((value for value in values[unit] if value > 0), default=0) / 2
    np.testing.assert_array_equal(found.thresholds.numpy(), thresholds)
    np.testing.assert_array_equal(found.peaks.numpy(), maps.amax((2, 3)).numpy())

    # centres of fields lie at 0.5, 2.5, 4.5 …: enlarged to one pixel short of twice the size, corner to corner
    large = F.interpolate(maps, (23, 23), mode="bilinear", align_corners=True)
    large = F.pad(large, (0, 1, 0, 1), mode="replicate")
    for unit in (0, 1, 69):
        above = large[:, unit] > float(thresholds[unit])
        for concept in range(3):
            both = union = 0
            for view, pixels in zip(views, above, strict=True):
                for row, column in view.known.nonzero().tolist():
                    is_active, is_there = bool(pixels[row, column]), bool(view.masks[concept, row, column])
                    both += is_active and is_there
                    union += is_active or is_there
            assert float(found.iou[unit, concept]) == pytest.approx(both / union, abs=2e-3)
    shares = torch.stack([view.masks[:, view.known].sum(1) for view in views]).sum(0) / (7 * 21 * 24)
    assert torch.allclose(found.shares, shares.float())
    assert bool((found.iou <= found.possible() + 1e-6).all())


def test_a_detector_is_found_and_named():
    """The second unit sees what is red, and what is red is called so."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with torch.no_grad():
        colours = [[-1.0, 1, -1], [1, -1, -1], [-1, -1, 1], [-1, -1, -1]]
        network[0].weight.copy_(torch.tensor(colours)[:, :, None, None])
        network[0].bias.zero_()
    views = []
    for view in views_of(6):
        image = torch.rand(3, 24, 24) * 0.5
        image[:, view.masks[2]] = torch.tensor([[1.0], [0.0], [0.0]])
        views.append(view._replace(image=image))
    share = float(torch.stack([view.masks[2].float().mean() for view in views]).mean())
    found = dissect(network, "1", lambda: views, ("a", "b", "red"), 6, quantile=share * 1.001)
    unit, concept, iou = found.detectors()[0]
    assert (unit, concept) == (1, "red")
    assert iou > 0.99
    assert found.counts()["red"] >= 1


def test_enlarged_about_the_centres_of_fields():
    """A value that sees an even field of pixels 8 to 15 is highest between pixels 11 and 12."""
    network = nn.Sequential(nn.AvgPool2d(8))
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 8:16, 8:16] = 1
    place = place_of(readable_copy(network), "0", image)
    pixels = active(network(image)[0], torch.tensor([0.85]), (32, 32), place)[0]
    assert pixels.nonzero().tolist() == [[11, 11], [11, 12], [12, 11], [12, 12]]


def test_one_place_for_all():
    pixels = active(torch.tensor([[[2.0]], [[0.5]]]), torch.tensor([1.0, 1.0]), (3, 4), None)
    assert pixels[0].all()
    assert not pixels[1].any()


def test_a_unit_that_is_never_excited_detects_nothing():
    class Dead(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    views = views_of(2)
    found = dissect(nn.Sequential(Dead()), "0", lambda: views, ("a", "b", "c"), 2)
    assert not found.iou.any()
    assert not found.detectors()


def test_a_unit_that_is_seldom_excited_keeps_its_area():
    """Of 2 × 100 cells one is above 0; enlarged, what is above 0 would be four cells, 1600 pixels."""
    network = nn.Sequential(nn.AvgPool2d(20), nn.ReLU())
    views = []
    for value in (1.0, 0.0):
        image = torch.zeros(1, 200, 200)
        image[0, 40:60, 80:100] = value
        views.append(View(image, image > 0.5, torch.ones(200, 200, dtype=torch.bool)))
    found = dissect(network, "1", lambda: views, ("square",), 2, quantile=0.02)
    assert found.above == 4
    assert found.thresholds.tolist() == [0.5]
    area = 4 * 20**2 * (1 - math.log(2)) / 2  # where (1 - x)(1 - y) > 1/2, on all four sides
    assert float(found.areas) * 2 * 200**2 == pytest.approx(area, rel=0.03)
    assert float(found.iou) == pytest.approx(area / 20**2, rel=0.03)


def test_no_pictures():
    with pytest.raises(UsageError, match="no pictures"):
        dissect(nn.Sequential(nn.Identity()), "0", list, ("a",), 0)


def test_varied_takes_each_concept_in_turn():
    iou = torch.tensor([[0.3, 0.0], [0.2, 0.0], [0.0, 0.1], [0.01, 0.0]])
    nothing = torch.zeros(0)
    found = Dissection(("a", "b"), iou, nothing, nothing, nothing, None, nothing, 0)
    assert found.varied(3) == [0, 2, 1]
    assert [unit for unit, *_ in found.detectors()] == [0, 1, 2]
    assert found.counts() == {"a": 2, "b": 1}
