"""Heads that place points: peaks, centres and crops against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.tasks.keypoints.networks import (
    CROP,
    Correction,
    Heatmaps,
    Regression,
    centres,
    cropped,
    gaussians,
    nearby,
    peaks,
)


def test_gaussians_are_one_at_their_point_and_fall_by_distance():
    found = gaussians(torch.tensor([[[0.4, 0.7]]]), 10, 20, 1.5)[0, 0].numpy()
    y, x = np.mgrid[:10, :20] + 0.5
    expected = np.exp(-((x - 8.0) ** 2 + (y - 7.0) ** 2) / (2 * 1.5**2))
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.floats(0.15, 0.85), st.floats(0.15, 0.85), st.floats(0.9, 2.0))
@settings(deadline=None)
def test_the_peak_of_a_gaussian_is_found_between_cells(x: float, y: float, sigma: float):
    """The logarithm of a Gaussian is a paraboloid, so the answer is exact."""
    points, height = peaks(gaussians(torch.tensor([[[x, y]]]), 24, 32, sigma))
    assert points[0, 0].tolist() == pytest.approx([x, y], abs=1e-3)
    assert 0.7 < float(height) <= 1


def test_peaks_at_the_edge_of_flat_and_of_negative_maps_stay_in_their_cell():
    maps = torch.zeros(1, 4, 6, 8)
    maps[0, 0, 0, 7] = 1  # in the corner
    maps[0, 1] = 0.3  # flat
    maps[0, 2] = -1
    maps[0, 3, 2, 3] = 1e9
    points, _ = peaks(maps)
    assert points.isfinite().all()
    assert points[0, 0].tolist() == pytest.approx([7.5 / 8, 0.5 / 6])
    assert ((points >= 0) & (points <= 1)).all()
    assert points[0, 3].tolist() == pytest.approx([3.5 / 8, 2.5 / 6])


def test_centres_are_the_mean_place_under_the_softmax():
    maps = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    found = centres(maps)
    for b in range(2):
        for k in range(3):
            share = np.exp(maps[b, k].double().numpy())
            share /= share.sum()
            y, x = np.mgrid[:5, :7] + 0.5
            assert found[b, k].tolist() == pytest.approx([(share * x).sum() / 7, (share * y).sum() / 5], abs=1e-6)


def test_nearby_is_the_share_of_cells_within_two():
    maps = torch.zeros(1, 1, 9, 9)
    assert float(nearby(maps, torch.full((1, 1, 2), 0.5))) == pytest.approx(25 / 81)
    maps[0, 0, 4, 4] = 100
    assert float(nearby(maps, torch.full((1, 1, 2), 0.5))) == pytest.approx(1)


def test_a_crop_shows_what_lies_around_its_middle():
    """A picture whose pixels say where they are: bilinear reading of it gives the place itself."""
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    image = torch.stack((x, y))[None]
    middle, half = torch.tensor([[[0.5, 0.4], [0.3, 0.6]]]), torch.tensor([[[0.1, 0.2]]])
    crops = cropped(image, middle, half)
    assert crops.shape == (1, 2, 2, CROP, CROP)
    steps = (torch.arange(CROP) + 0.5) / CROP * 2 - 1
    for k, (mx, my) in enumerate(((0.5, 0.4), (0.3, 0.6))):
        assert crops[0, k, 0, 0].tolist() == pytest.approx((100 * (mx + 0.1 * steps)).tolist(), abs=1e-3)
        assert crops[0, k, 1, :, 0].tolist() == pytest.approx((60 * (my + 0.2 * steps)).tolist(), abs=1e-3)


def test_a_correction_begins_with_none_and_is_jittered_in_training_only():
    stage = Correction(3, 1).eval()
    images, points = torch.rand(2, 1, 40, 40), torch.rand(2, 3, 2)
    assert torch.equal(stage(images, points), points)
    assert not torch.equal(stage.train()(images, points), points)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet20_cifar", "mobilenet_v3_small"])
def test_heat_maps_on_any_backbone(architecture: str, soft: bool):
    network = Heatmaps(architecture, 5, 3, soft)
    outputs = network(torch.randn(2, 3, 96, 64))
    assert outputs["image_size"].tolist() == [96, 64]
    assert outputs["maps"].shape[:2] == (2, 5)
    assert (96 / outputs["maps"].shape[2], 64 / outputs["maps"].shape[3]) == pytest.approx((4, 4), abs=0.5)
    assert ("points" in outputs) == soft
    outputs["maps"].square().sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_a_cascade_gives_every_stage_and_begins_in_the_middle():
    torch.manual_seed(0)
    network = Regression("resnet20_cifar", 4, 1, stages=3).eval()
    outputs = network(torch.randn(2, 1, 48, 48))
    assert outputs["points"].shape == (2, 3, 4, 2)
    assert "maps" not in outputs
    assert (outputs["points"] - 0.5).abs().mean() < 0.2
    network.train()
    network(torch.randn(2, 1, 48, 48))["points"].sum().backward()
    assert all(p.grad is not None for p in network.parameters())
