"""Detections of overlapping windows of one picture as one list, each object once.

What a window's border cuts through appears as a part there and, if the overlap is as wide as the object, whole in the
neighbour; what is larger than a tile is whole in the picture as a whole. A part is therefore dropped where a fuller
one of its class, seen through another window, covers it; sliced inference as in Akyol et al. 2022 (arXiv:2202.06934),
who do not ask whether a box was cut.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_area

from striate.tasks.detect.outputs import stack_detections

LIMIT = 1000  # objects kept of one picture
SAME = 0.5  # IoU from which two boxes of a class are one object
COVERED = 0.7  # share of a cut box that a fuller one must cover
NEAR = 0.01  # of a window's side: a box that ends so near to its border is taken to be cut by it
CONVINCED = 0.5  # of the cut one's score that the fuller one must have, lest noise erase what is sure


def stitch_detections(
    detections: Tensor, windows: Tensor, size: tuple[int, int], limit: int = LIMIT, same: float = SAME
) -> Tensor:
    """What was seen through several windows as one list, each object once.

    1. A box is cut if it ends at a border of its window that is none of the picture's. It is dropped if a larger box
       of its class, seen through another window, covers `COVERED` of it with at least `CONVINCED` of its score.
    2. Of the rest, class by class, those that overlap a better one by more than `same` (IoU) are dropped.

    An object larger than the overlap of its tiles that was not found in the whole picture stays in pieces.

    Args:
        detections: float [T, K, 6] as in `striate.tasks.detect.outputs`, in pixels of each window.
        windows: int64 [T, 4], x1 y1 x2 y2 in the picture; the whole picture may be one of them.
        size: height and width of the picture.

    Returns:
        float32 [limit, 6] in pixels of the picture, best first.
    """
    index = torch.arange(len(windows))[:, None].expand(detections.shape[:2])
    held = detections[..., 5] >= 0
    rows, index = detections[held].float(), index[held]  # [N, 6], [N]
    cut = _cut(rows, windows[index].float(), size)
    boxes = rows[:, :4] + windows[index][:, :2].repeat(1, 2)
    keep = ~_covered(boxes, rows[:, 4], rows[:, 5], index, cut)
    boxes, scores, labels = boxes[keep], rows[keep, 4], rows[keep, 5]
    best = batched_nms(boxes, scores, labels, same)
    return stack_detections([boxes[best]], [scores[best]], [labels[best]], limit)[0]


def _cut(rows: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """bool [N]: whether each box [N, 6], in pixels of its window [N, 4], ends at a border inside the picture."""
    height, width = size
    sides = windows[:, 2:] - windows[:, :2]  # [N, 2]
    near = NEAR * sides
    inside_first = windows[:, :2] > 0
    inside_last = windows[:, 2:] < torch.tensor([width, height])
    return ((inside_first & (rows[:, :2] <= near)) | (inside_last & (rows[:, 2:4] >= sides - near))).any(1)


def _covered(boxes: Tensor, scores: Tensor, labels: Tensor, windows: Tensor, cut: Tensor) -> Tensor:
    """bool [N]: the cut boxes that a fuller one of another window covers. All are judged at once: a box that is itself
    covered may cover others, for what covers it lies over them too."""
    areas = box_area(boxes)
    covered = torch.zeros(len(boxes), dtype=torch.bool)
    for label in labels[cut].unique():
        same = labels == label
        part, all_of = (cut & same).nonzero()[:, 0], same.nonzero()[:, 0]
        first = torch.maximum(boxes[part, None, :2], boxes[None, all_of, :2])  # [P, A, 2]
        last = torch.minimum(boxes[part, None, 2:], boxes[None, all_of, 2:])
        shared = (last - first).clamp(min=0).prod(2)  # [P, A]
        fuller = areas[all_of] > areas[part, None]
        elsewhere = windows[all_of] != windows[part, None]
        convinced = scores[all_of] >= CONVINCED * scores[part, None]
        covers = shared >= COVERED * areas[part, None]
        covered[part] = (fuller & elsewhere & convinced & covers).any(1)
    return covered
