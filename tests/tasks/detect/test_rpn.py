"""The parts of a two-stage detector against torchvision's: anchors, matching, coding, sampling, pooling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou

from striate.tasks.detect.assignment import BELOW, BETWEEN, match_anchors
from striate.tasks.detect.boxes import clip_boxes_to_image
from striate.tasks.detect.roi_align import level_of, pooled, pooled_as_bags, pooled_by_level
from striate.tasks.detect.rpn import PaddedObjects, RegionProposalNetwork, balanced


def random_boxes(count: int, height: float, width: float, least: float = 1.0) -> Tensor:
    sides = torch.tensor([width, height])
    corners = torch.rand(count, 2) * (sides - least)
    return torch.cat([corners, corners + least + torch.rand(count, 2) * (sides - corners - least)], 1)


@pytest.mark.parametrize("size", [(160, 160), (96, 224), (64, 32)])
def test_anchors_equal_torchvisions(size: tuple[int, int]):
    sizes, ratios = (8, 16, 32, 64, 128), (0.5, 1.0, 2.0)
    grids = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in (4, 8, 16, 32, 64)]
    theirs = AnchorGenerator(tuple((side,) for side in sizes), (ratios,) * 5)
    (expected,) = theirs(ImageList(torch.zeros(1, 3, *size), [size]), [torch.zeros(1, 1, *grid) for grid in grids])
    assert torch.equal(torch.cat(RegionProposalNetwork(4, sizes, ratios).anchors(grids, size)), expected)


def test_matching_equals_torchvisions():
    torch.manual_seed(1)
    network = RegionProposalNetwork(4, (16, 32, 64))
    anchors = torch.cat(network.anchors([(12, 16), (6, 8), (3, 4)], (96, 128)))
    counts = [0, 1, 3, 6, 2, 5]
    truth = PaddedObjects(
        torch.stack([torch.cat([random_boxes(count, 96, 128, 8), torch.zeros(6 - count, 4)]) for count in counts]),
        torch.zeros(6, 6, dtype=torch.int64),
        torch.arange(6) < torch.tensor(counts)[:, None],
    )
    found = match_anchors(truth.overlap(anchors), 0.7, 0.3, keep_best=True)
    assert (found[0] == BELOW).all()
    for index, count in enumerate(counts[1:], 1):
        expected = Matcher(0.7, 0.3, allow_low_quality_matches=True)(box_iou(truth.boxes[index, :count], anchors))
        assert torch.equal(found[index], expected)
        assert (expected >= 0).any()
        assert (expected == BETWEEN).any()


def test_an_object_that_no_anchor_touches_claims_none():
    """torchvision would give it all anchors, for all have the same highest overlap with it: 0."""
    truth = PaddedObjects(
        torch.tensor([[[500.0, 500, 510, 510]]]), torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1) > 0
    )
    (anchors,) = RegionProposalNetwork(4, (8,)).anchors([(4, 4)], (32, 32))
    assert (match_anchors(truth.overlap(anchors), 0.7, 0.3, keep_best=True) == BELOW).all()


@pytest.mark.parametrize(("objects", "others"), [(200, 1000), (10, 1000), (200, 20), (0, 5), (3, 0), (0, 0)])
def test_samples_are_balanced_and_distinct(objects: int, others: int):
    torch.manual_seed(2)
    matched = torch.cat([torch.arange(objects), torch.full((others,), BELOW), torch.full((50,), BETWEEN)])
    matched = torch.stack([matched[torch.randperm(len(matched))] for _ in range(3)])
    drawn_objects, drawn_others = balanced(matched, 256, 0.5)
    for row in range(3):
        first = drawn_objects.place[row][drawn_objects.there[row]]
        second = drawn_others.place[row][drawn_others.there[row]]
        assert len(first) == min(objects, 128)
        assert len(second) == min(others, 256 - len(first))
        assert (matched[row, first] >= 0).all()
        assert (matched[row, second] == BELOW).all()
        assert len({*first.tolist(), *second.tolist()}) == len(first) + len(second)


def test_every_row_is_drawn_equally_often():
    torch.manual_seed(3)
    _, others = balanced(torch.full((4000, 20), BELOW), 5, 0.5)
    often = torch.bincount(others.place[others.there], minlength=20) / 4000
    assert (often - 5 / 20).abs().max() < 0.03  # four standard deviations


@pytest.mark.parametrize("pool", [pooled_as_bags, pooled_by_level])
def test_pooling_equals_torchvisions_with_gradients(pool: Callable[..., Tensor]):
    torch.manual_seed(4)
    height, width, strides = 256, 320, (4, 8, 16, 32)
    levels = [torch.randn(2, 5, height // stride, width // stride, requires_grad=True) for stride in strides]
    twins = [values.detach().clone().requires_grad_() for values in levels]
    boxes = [random_boxes(60, height, width, 0.1), random_boxes(40, height, width, 0.1)]
    edge = torch.tensor([[319.5, 255.5, 320.0, 256.0], [0, 0, 320, 256], [0, 0, 0.5, 0.5], [300, 10, 320, 10.5]])
    boxes[1] = torch.cat([boxes[1], edge])
    rois = torch.cat([torch.cat([torch.full((len(box), 1), float(i)), box], 1) for i, box in enumerate(boxes)])
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    expected = theirs(OrderedDict(zip("0123", twins, strict=True)), boxes, [(height, width)] * 2)
    level = level_of(rois[:, 1:], strides)
    assert level.unique().tolist() == [0, 1, 2]
    found = pool(levels, strides, rois, level, 7)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours, twin in zip(levels[:3], twins[:3], strict=True):
        torch.testing.assert_close(ours.grad, twin.grad, atol=1e-3, rtol=1e-3)


def test_pooling_of_no_region_and_of_half_precision():
    levels = [torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)]
    assert pooled(levels, (4, 8), torch.zeros(0, 5)).shape == (0, 4, 7, 7)
    rois = torch.tensor([[0.0, 3, 3, 20, 30]])
    found = pooled([values.half() for values in levels], (4, 8), rois)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pooled(levels, (4, 8), rois), atol=5e-3, rtol=1e-2)


def test_level_of_a_region():
    """FPN, section 4.2: 224 px at stride 16, half as large one level finer."""
    sides = torch.tensor([10.0, 111, 112, 223, 224, 447, 448, 2000])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], 1)
    assert level_of(boxes, (4, 8, 16, 32)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert level_of(boxes, (4, 8, 16)).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


def test_proposals_are_whole_within_apart_and_best_first():
    torch.manual_seed(5)
    network = RegionProposalNetwork(8, (16, 32), before=(50, 30), after=(40, 20)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    levels = [torch.randn(3, 8, 12, 16), torch.randn(3, 8, 6, 8)]
    found, losses = network(levels, (96, 128), None)
    assert losses == {}
    assert found.boxes.shape == (3, 20, 4)
    boxes = found.boxes[found.there]
    assert torch.equal(clip_boxes_to_image(boxes, (96, 128)), boxes)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert not found.boxes.requires_grad
    assert network.train()(levels, (96, 128), None)[0].boxes.shape == (3, 40, 4)
