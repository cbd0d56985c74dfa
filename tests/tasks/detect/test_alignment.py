"""Task-aligned assignment against a literal loop over cells and objects."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from striate.tasks.detect.alignment import CLASS_POWER, OVERLAP_POWER, TAKEN, align, pair_iou


def cells(size: int, strides: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    points, squares = [], []
    for stride in strides:
        steps = torch.arange(size // stride) * stride + stride / 2
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        points.append(torch.stack((x, y), -1).reshape(-1, 2))
        squares.append(torch.full((len(points[-1]), 2), float(stride)))
    return torch.cat(points), torch.cat(squares)


@pytest.mark.parametrize("seed", range(8))
def test_it_chooses_what_a_loop_chooses(seed: int):
    torch.manual_seed(seed)
    points, squares = cells(64, (8, 16))
    count, classes, most = len(points), 3, 4
    scores = torch.rand(1, count, classes)
    middles, halves = points + torch.randn(count, 2) * 3, torch.rand(count, 2) * 20 + 4
    boxes = torch.cat((middles - halves, middles + halves), 1)[None]
    corner, side = torch.rand(most, 2) * 40, torch.rand(most, 2) * 30 + 2
    truths = torch.cat((corner, corner + side), 1)[None]
    labels = torch.randint(0, classes, (1, most))
    valid = torch.tensor([[True, True, True, False]])
    found = align(scores, boxes, points, squares, truths, labels, valid)

    overlaps = box_iou(truths[0], boxes[0])  # [M, N]
    wanted: dict[int, tuple[int, float]] = {}  # cell -> its object, that object's IoU there
    values = torch.zeros(most, count)
    for object_ in range(3):
        x1, y1, x2, y2 = truths[0, object_].tolist()
        inside = []
        for cell, (x, y) in enumerate(points.tolist()):
            holds = x1 <= x <= x2 and y1 <= y <= y2
            fine = squares[cell, 0] == 8
            reach_x, reach_y = max((x2 - x1) / 2, 4), max((y2 - y1) / 2, 4)
            near = abs(x - (x1 + x2) / 2) <= reach_x and abs(y - (y1 + y2) / 2) <= reach_y
            if holds or (fine and near):
                inside.append(cell)
                said = float(scores[0, cell, labels[0, object_]])
                values[object_, cell] = said**CLASS_POWER * float(overlaps[object_, cell]) ** OVERLAP_POWER
        inside.sort(key=lambda cell: -float(values[object_, cell]))
        for cell in inside[:TAKEN]:
            here = float(overlaps[object_, cell])
            if cell not in wanted or here > wanted[cell][1]:
                wanted[cell] = (object_, here)
    assert found.taken[0].nonzero().flatten().tolist() == sorted(wanted)
    for object_ in range(3):
        own = [cell for cell, (taken, _) in wanted.items() if taken == object_]
        if not own:
            continue
        best_value = max(float(values[object_, cell]) for cell in own)
        best_overlap = max(float(overlaps[object_, cell]) for cell in own)
        for cell in own:
            torch.testing.assert_close(found.boxes[0, cell], truths[0, object_])
            expected = float(values[object_, cell]) / (best_value + 1e-9) * best_overlap
            assert float(found.scores[0, cell, labels[0, object_]]) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert float(found.scores[0, ~found.taken[0]].sum()) == 0


def test_an_object_smaller_than_a_cell_has_a_cell():
    points, squares = cells(64, (8, 16))
    boxes = torch.cat((points - 4, points + 4), 1)[None]
    truths = torch.tensor([[[17.0, 17.0, 19.0, 19.0]]])  # between the middles 12 and 20
    aim = align(
        torch.full((1, len(points), 1), 0.1),
        boxes,
        points,
        squares,
        truths,
        torch.zeros(1, 1).long(),
        torch.ones(1, 1) > 0,
    )
    assert aim.taken.any()
    assert (points[aim.taken[0]] - torch.tensor([18.0, 18.0])).abs().amax() <= 4


def test_pair_iou_is_torchvisions():
    torch.manual_seed(0)
    one, other = torch.rand(2, 5, 4), torch.rand(2, 7, 4)
    one[..., 2:] += one[..., :2]
    other[..., 2:] += other[..., :2]
    for number in range(2):
        torch.testing.assert_close(pair_iou(one, other)[number], box_iou(one[number], other[number]), atol=1e-6, rtol=0)
