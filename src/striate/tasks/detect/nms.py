"""Non-maximum suppression: of boxes that say the same thing, the best one stays.

Boxes [N, 4], scores [N], labels int64 [N] or None; boxes of different labels never suppress each other, and None takes
all for one class. To do several pictures at once, give each picture and class a label of its own.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from striate.tasks.detect.boxes import iou


def nms(
    boxes: Tensor, scores: Tensor, labels: Tensor | None = None, threshold: float = 0.5, limit: int | None = None
) -> Tensor:
    """Drop every box that overlaps a better one that stayed by more than `threshold`.

    Returns:
        int64 [k]: what stays, best first (of equal scores the earlier), at most `limit`.
    """
    # on moving classes apart float32 loses what decides close calls; torchvision's batched_nms moves in float32, and
    # not far enough where coordinates are negative
    if boxes.device.type != "mps":  # has no float64
        boxes = boxes.double()
    if labels is not None and len(boxes):
        span = (boxes.max() - boxes.min()).ceil() + 1  # whole, so that boxes on whole pixels stay exact
        boxes = boxes + (labels * span)[:, None]
    return torchvision.ops.nms(boxes, scores.to(boxes.dtype), threshold)[:limit]


def weighted_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor | None = None, threshold: float = 0.5, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """`nms`, and each box that stays moves to the mean of those around it (box voting, Gidaris & Komodakis 2015, 4.3).

    All boxes of its label that overlap it by more than `threshold` vote, itself among them, weighted by their scores.

    Returns:
        int64 [k], what stays, and the boxes [k, 4] that take their places.
    """
    kept = nms(boxes, scores, labels, threshold, limit)
    votes = scores * (iou(boxes[kept], boxes) > threshold)  # [k, N]
    if labels is not None:
        votes = votes * (labels[kept][:, None] == labels)
    votes[torch.arange(len(kept), device=kept.device), kept] = scores[kept].clamp(min=1e-12)  # also where it is empty
    return kept, votes @ boxes / votes.sum(1, keepdim=True)
