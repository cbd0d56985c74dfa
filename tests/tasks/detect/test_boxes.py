"""Overlaps against plain arithmetic on whole pixels, codings against torchvision's coder and against their inverse."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from striate.tasks.detect import boxes as ours


def random_boxes(count: int, seed: int = 0, whole: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    size = torch.rand(count, 2, generator=generator) * 30 + 1
    found = torch.cat([corner, corner + size], 1)
    return found.round() if whole else found


def overlaps_by_hand(a: list[float], b: list[float]) -> dict[str, float]:
    """IoU, GIoU, DIoU, CIoU as their papers write them."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    union = sum(area) - shared
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    angle = [math.atan((c[2] - c[0]) / (c[3] - c[1])) for c in (a, b)]
    v = 4 / math.pi**2 * (angle[0] - angle[1]) ** 2
    iou = shared / union
    diou = iou - apart / (width**2 + height**2)
    alpha = v / (1 - iou + v) if v else 0.0
    giou = iou - (width * height - union) / (width * height)
    return {"iou": iou, "giou": giou, "diou": diou, "ciou": diou - alpha * v}


def test_iou_counts_pixels():
    one, two = random_boxes(40, 1, whole=True), random_boxes(30, 2, whole=True)

    def painted(box: torch.Tensor) -> torch.Tensor:
        field = torch.zeros(80, 80, dtype=torch.bool)
        x1, y1, x2, y2 = box.int().tolist()
        field[y1:y2, x1:x2] = True
        return field

    fields = [painted(box) for box in one], [painted(box) for box in two]
    expected = torch.tensor([[float((a & b).sum()) / float((a | b).sum()) for b in fields[1]] for a in fields[0]])
    assert torch.equal(ours.iou(one.double(), two.double()), ours.iou(two.double(), one.double()).T)
    torch.testing.assert_close(ours.iou(one, two), expected)
    torch.testing.assert_close(ours.paired_iou(one[:30], two), expected[:30].diagonal())


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_losses_are_one_minus_the_papers_overlap(kind):
    one, two = random_boxes(60, 3).double(), random_boxes(60, 4).double()
    expected = [overlaps_by_hand(a, b)[kind] for a, b in zip(one.tolist(), two.tolist(), strict=True)]
    torch.testing.assert_close(1 - ours.box_loss(one, two, kind), torch.tensor(expected).double(), atol=1e-5, rtol=1e-5)
    assert ours.box_loss(one, one, kind).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_losses_have_a_gradient_where_boxes_touch_or_not(kind):
    apart = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]], requires_grad=True)
    ours.box_loss(apart, torch.tensor([[1.0, 1, 6, 5], [20, 20, 24, 30]]), kind).sum().backward()
    assert apart.grad.isfinite().all()
    assert apart.grad[0].any()
    assert apart.grad[1].any() == (kind != "iou")


def test_empty_boxes_overlap_nothing_and_make_no_nan():
    empty = torch.tensor([[3.0, 3, 3, 3], [0, 0, 0, 5]], requires_grad=True)
    assert ours.iou(empty, empty).tolist() == [[0, 0], [0, 0]]
    overlap = ours.paired_iou(empty, empty.detach())
    overlap.sum().backward()
    assert overlap.tolist() == [0, 0]
    assert empty.grad.isfinite().all()
    assert ours.iou(torch.zeros(0, 4), empty).shape == (0, 2)


def test_iou_takes_batches():
    one, two = random_boxes(12, 5).reshape(3, 4, 4), random_boxes(15, 6).reshape(3, 5, 4)
    assert torch.equal(ours.iou(one, two), torch.stack([ours.iou(a, b) for a, b in zip(one, two, strict=True)]))


def test_coding_is_torchvisions_and_comes_back():
    found, anchors = random_boxes(50, 7), random_boxes(50, 8)
    coder = BoxCoder(ours.WEIGHTS)
    offsets = ours.encode_boxes(found, anchors)
    torch.testing.assert_close(offsets, coder.encode_single(found, anchors))
    torch.testing.assert_close(ours.decode_boxes(offsets, anchors), found, atol=1e-4, rtol=1e-5)
    wild = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 100
    torch.testing.assert_close(ours.decode_boxes(wild, anchors), coder.decode_single(wild, anchors))


def test_decoding_stays_finite():
    assert ours.decode_boxes(torch.full((1, 4), 1e4), random_boxes(1)).isfinite().all()


def test_distances_come_back_and_are_signed():
    point, box = torch.tensor([[10.0, 20.0]]), torch.tensor([[4.0, 18.0, 9.0, 50.0]])
    assert ours.distances_to_edges(point, box).tolist() == [[6, 2, -1, 30]]
    points, found = torch.rand(40, 2) * 40, random_boxes(40, 9)
    torch.testing.assert_close(ours.boxes_at_distances(points, ours.distances_to_edges(points, found)), found)


def test_conversions_and_clip_are_there():
    box = torch.tensor([[-2.0, 4, 8, 20]])
    assert ours.box_convert(box, "xyxy", "xywh").tolist() == [[-2, 4, 10, 16]]
    assert ours.box_convert(box, "xyxy", "cxcywh").tolist() == [[3, 12, 10, 16]]
    assert ours.clip_boxes_to_image(box, (10, 5)).tolist() == [[0, 4, 5, 10]]
