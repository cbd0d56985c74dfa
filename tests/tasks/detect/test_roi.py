from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.ops import box_iou, roi_pool

from striate.data.targets import CROWD, DIFFICULT, Objects
from striate.tasks.detect.boxes import encode_boxes
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.roi import RegionCoder, SampledRegions, judge, judged, region_losses, sample_rois, stage_of


def random_boxes(count: int, size: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=generator) * size
    return torch.cat((corners.amin(1), corners.amax(1) + 4), 1)


def target_of(boxes: object, labels: object, **more: object) -> Tensor:
    return collate_objects([Objects.of(boxes, labels, **more)], rows=6)[0]


def test_a_quarter_at_most_is_foreground_and_labels_are_shifted():
    torch.manual_seed(0)
    target = target_of([[10, 10, 50, 50], [60, 60, 100, 90]], [2, 0])
    near = target[torch.arange(40) % 2, :4] + torch.rand(40, 4) * 6
    far = random_boxes(300, 120, torch.Generator().manual_seed(0))
    drawn = sample_rois(torch.cat((near, far)), target, 64)
    assert len(drawn.boxes) == 64
    assert int((drawn.labels > 0).sum()) == 16
    overlap, whose = box_iou(drawn.boxes, target[:2, :4]).max(1)
    front = drawn.labels > 0
    assert (overlap[front] >= 0.5).all()
    assert (overlap[~front] < 0.5).all()
    assert torch.equal(drawn.labels[front], target[whose[front], 4].long() + 1)
    assert torch.equal(drawn.objects[front], target[whose[front], :4])


def test_hard_background_first_and_easy_only_to_fill_up():
    torch.manual_seed(0)
    target = target_of([[0, 0, 40, 40]], [1])
    hard = torch.tensor([[20.0, 0, 60, 40]]).repeat(10, 1)  # IoU 1/3
    easy = torch.tensor([[80.0, 80, 90, 90]]).repeat(30, 1)
    proposals = torch.cat((hard, easy))
    some = sample_rois(proposals, target, 10, background=(0.1, 0.5))
    assert box_iou(some.boxes, target[:1, :4])[some.labels == 0].min() > 0.3
    more = sample_rois(proposals, target, 24, background=(0.1, 0.5))
    assert int((box_iou(more.boxes, target[:1, :4])[:, 0] > 0.1).sum()) == 11  # the object and all hard ones
    assert len(more.boxes) == 24


@pytest.mark.parametrize("kind", [CROWD, DIFFICULT])
def test_crowds_and_difficult_objects_are_neither_object_nor_background(kind: int):
    target = target_of([[0, 0, 100, 100]], [1], kinds=[kind])
    inside, outside = torch.tensor([[10.0, 10, 30, 30]]), torch.tensor([[200.0, 200, 240, 240]])
    drawn = sample_rois(torch.cat((inside, outside)), target, 8)
    assert drawn.boxes.tolist() == outside.tolist()
    assert drawn.labels.tolist() == [0]


def test_pictures_without_objects_or_proposals():
    nothing = target_of([], [])
    proposals = torch.tensor([[0.0, 0, 20, 20]])
    one = sample_rois(proposals, nothing, 8, background=(0.1, 0.5))
    assert one.labels.tolist() == [0]
    none = sample_rois(torch.zeros(0, 4), nothing, 8)
    assert none.boxes.shape == none.objects.shape == (0, 4)
    only_object = sample_rois(torch.zeros(0, 4), target_of([[5, 5, 9, 9]], [3]), 8)
    assert only_object.labels.tolist() == [4]
    losses = region_losses(torch.zeros(0, 5), torch.zeros(0, 20), [none])
    assert losses["loss"] == 0


def test_regions_and_objects_without_area_are_never_drawn():
    target = target_of([[5, 5, 5, 9], [10, 10, 40, 40]], [0, 1])
    drawn = sample_rois(torch.tensor([[3.0, 3, 3, 8], [50, 50, 80, 80]]), target, 8)
    assert torch.isfinite(encode_boxes(drawn.objects, drawn.boxes)[drawn.labels > 0]).all()
    assert sorted(drawn.labels.tolist()) == [0, 2]


@pytest.mark.parametrize("seed", range(8))
def test_judging_is_torchvisions(seed: int):
    generator = torch.Generator().manual_seed(seed)
    counts, classes, size = [50, 1, 30], 4, (90, 120)
    regions = [random_boxes(count, 120, generator) for count in counts]
    logits = 2 * torch.randn(sum(counts), 1 + classes, generator=generator)
    codes = torch.randn(sum(counts), 4 * (1 + classes), generator=generator)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 8, 0.25, (10.0, 10.0, 5.0, 5.0), 0.05, 0.5, 20)
    theirs = heads.postprocess_detections(logits, codes, regions, [size] * 3)
    ours = judge(logits.softmax(1), codes, regions, size, 20, 0.05, 0.5)
    for index in range(3):
        assert torch.allclose(ours[0][index], theirs[0][index], atol=1e-4)
        assert torch.allclose(ours[1][index], theirs[1][index], atol=1e-6)
        assert torch.equal(ours[2][index] + 1, theirs[2][index])


def test_losses_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    regions, objects = random_boxes(40, 100, generator), random_boxes(40, 100, generator)
    labels = torch.randint(0, 4, (40,), generator=generator)
    logits, codes = torch.randn(40, 4, generator=generator), torch.randn(40, 16, generator=generator)
    ours = region_losses(logits, codes, [SampledRegions(regions, labels, objects)])
    classes, boxes = fastrcnn_loss(logits, codes, [labels], [encode_boxes(objects, regions)])
    assert ours["classes"].item() == pytest.approx(classes.item(), rel=1e-6)
    assert ours["boxes"].item() == pytest.approx(boxes.item(), rel=1e-5)
    assert ours["loss"].item() == pytest.approx((classes + boxes).item(), rel=1e-5)


def test_pooling_of_regions_word_for_word():
    """Section 2.1: the region on the grid of the map, in 3 x 3 parts, the largest value of each."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 12, 15, generator=generator)
    boxes = torch.tensor([[16.0, 16, 112, 96], [0, 0, 239, 191], [40, 8, 88, 56]])
    found = roi_pool(features, [boxes], 3, 1 / 16)
    for row, box in zip(found, (boxes / 16 + 0.5).floor().int().tolist(), strict=True):
        x1, y1, x2, y2 = box
        wide, high = (x2 - x1 + 1) / 3, (y2 - y1 + 1) / 3  # both ends belong to it
        for i in range(3):
            for j in range(3):
                top, bottom = y1 + math.floor(i * high), y1 + math.ceil((i + 1) * high)
                left, right = x1 + math.floor(j * wide), x1 + math.ceil((j + 1) * wide)
                cell = features[0, :, max(top, 0) : min(bottom, 12), max(left, 0) : min(right, 15)]
                assert torch.equal(row[:, i, j], cell.amax((1, 2)))


def test_outputs_are_read_by_the_coder():
    coder = RegionCoder()
    learnt = {"loss": torch.tensor(1.0)}
    assert coder.losses(learnt, torch.zeros(1, 1, 7))["loss"] == 1
    with pytest.raises(RuntimeError, match=r"eval\(\)"):
        coder.detections(learnt)
    empty = judged(torch.zeros(0, 3), torch.zeros(0, 12), [torch.zeros(0, 4)] * 2, torch.tensor([32, 32]))
    found = coder.detections(empty, 5)
    assert found.shape == (2, 5, 6)
    assert (found[:, :, 5] == -1).all()
    assert coder.losses(empty, torch.zeros(2, 1, 7)) == {}


@pytest.mark.parametrize(("stride", "reduction"), [(4, 4), (8, 8), (16, 16), (100, 32), (1, 2)])
def test_the_deepest_stage_that_is_fine_enough(stride: int, reduction: int):
    network = stage_of("resnet18", 3, stride)
    assert network.reductions() == [reduction]
    assert network(torch.zeros(1, 3, 64, 64))[0].shape[-1] == 64 // reduction
