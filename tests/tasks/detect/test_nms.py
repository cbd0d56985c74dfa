"""Suppression against the loops of the papers, on 300 random scenes with ties, empty boxes and negative corners."""

from __future__ import annotations

import pytest
import torch

from striate.tasks.detect.nms import nms, weighted_nms


def scene(seed: int, whole: bool = True) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Up to 40 boxes, crowded, on whole pixels so that overlaps tie; scores with few values so that they tie too."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, 41, (), generator=generator))
    corner = torch.randint(-20, 20, (count, 2), generator=generator).float()
    size = torch.randint(0, 12, (count, 2), generator=generator).float()
    if not whole:
        corner, size = corner + torch.rand(count, 2, generator=generator), size + 0.5
    scores = torch.randint(1, 12, (count,), generator=generator) / 12
    return torch.cat([corner, corner + size], 1), scores, torch.randint(0, 3, (count,), generator=generator)


def iou(a: list[float], b: list[float]) -> float:
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def nms_by_loop(boxes, scores, labels, threshold) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable
        if all(labels[i] != labels[j] or iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_nms_is_the_loop(threshold):
    for seed in range(150):
        boxes, scores, labels = scene(seed, whole=bool(seed % 2))
        rows = boxes.tolist(), scores.tolist(), labels.tolist()
        assert nms(boxes, scores, labels, threshold).tolist() == nms_by_loop(*rows, threshold)
        assert nms(boxes, scores, None, threshold).tolist() == nms_by_loop(*rows[:2], [0] * len(boxes), threshold)


def test_limit_keeps_the_best():
    boxes, scores, labels = scene(3)
    assert nms(boxes, scores, labels, limit=4).tolist() == nms(boxes, scores, labels)[:4].tolist()


def test_equal_boxes_of_other_classes_stay():
    boxes = torch.tensor([[-50.0, -50, -40, -40]]).repeat(3, 1)
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 1, 2])).tolist() == [1, 2, 0]
    assert nms(boxes, torch.tensor([0.5, 0.9, 0.7])).tolist() == [1]


def test_weighted_nms_is_the_weighted_mean():
    for seed in range(60):
        boxes, scores, labels = scene(seed, whole=False)
        kept, moved = weighted_nms(boxes, scores, labels, 0.4)
        assert kept.tolist() == nms(boxes, scores, labels, 0.4).tolist()
        for i, box in zip(kept.tolist(), moved, strict=True):
            voters = [
                j
                for j in range(len(boxes))
                if labels[j] == labels[i] and iou(boxes[i].tolist(), boxes[j].tolist()) > 0.4
            ]
            expected = sum(scores[j] * boxes[j] for j in voters) / sum(scores[j] for j in voters)
            torch.testing.assert_close(box, expected)


@pytest.mark.parametrize("suppress", [nms, weighted_nms])
def test_no_boxes(suppress):
    found = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert len(found if isinstance(found, torch.Tensor) else found[0]) == 0
