"""Boxes as numbers: how much two overlap, what that costs, and boxes as offsets from anchors or points.

A box is x1 y1 x2 y2, outer edges in pixels, so it is x2 - x1 wide. What torchvision has is used as it is, and stands
here so that detectors look in one place: `box_convert` (xyxy, xywh, cxcywh), `box_area`, `clip_boxes_to_image`, and
of all pairs `generalized_box_iou`, `distance_box_iou`, `complete_box_iou`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou,
    complete_box_iou_loss,
    distance_box_iou,
    distance_box_iou_loss,
    generalized_box_iou,
    generalized_box_iou_loss,
)

__all__ = [
    "box_area",
    "box_convert",
    "box_loss",
    "boxes_at_distances",
    "clip_boxes_to_image",
    "complete_box_iou",
    "decode_boxes",
    "distance_box_iou",
    "distances_to_edges",
    "encode_boxes",
    "generalized_box_iou",
    "iou",
    "paired_iou",
]

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # 1 / (0.1, 0.1, 0.2, 0.2), the offsets' usual spread (Fast R-CNN, section 2.3)
MOST_GROWTH = math.log(1000 / 16)  # a box grows to at most 62.5 × its anchor: exp of a wild output stays finite

Overlap = Literal["iou", "giou", "diou", "ciou"]


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of all pairs, [..., N, 4] and [..., M, 4] → [..., N, M]; 0 where both are empty."""
    return box_iou(boxes, others).nan_to_num(0.0)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each box with its partner, both [..., 4] → [...]; 0 where both are empty."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (others[..., 2:] - others[..., :2]).prod(-1) - shared
    return shared / union.where(union > 0, torch.ones_like(union))  # not 0/0: its gradient would be NaN too


def box_loss(boxes: Tensor, truths: Tensor, kind: Overlap = "giou") -> Tensor:
    """What each box's misfit costs, both [N, 4] → [N]: 1 minus its overlap, 0 where it fits.

    iou (Yu et al. 2016) is flat where boxes do not touch; giou (Rezatofighi et al. 2019) pulls them together by the box
    around both, diou by the distance of their centres, ciou also by their shapes (Zheng et al. 2020).
    """
    if kind == "iou":
        return 1 - paired_iou(boxes, truths)
    losses = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
    return losses[kind](boxes, truths)


def encode_boxes(boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = WEIGHTS) -> Tensor:
    """Boxes as offsets from anchors, both [..., 4] → dx dy dw dh [..., 4] (R-CNN, appendix C).

    The centre moves in units of the anchor's size, the size is a logarithm; all times `weights`. Boxes and anchors have
    a width and a height above 0.
    """
    x, y, w, h = box_convert(boxes, "xyxy", "cxcywh").unbind(-1)
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    offsets = torch.stack([(x - ax) / aw, (y - ay) / ah, (w / aw).log(), (h / ah).log()], -1)
    return offsets * offsets.new_tensor(weights)


def decode_boxes(offsets: Tensor, anchors: Tensor, weights: tuple[float, float, float, float] = WEIGHTS) -> Tensor:
    """The boxes [..., 4] that offsets [..., 4] from anchors [..., 4] mean; undoes `encode_boxes`."""
    dx, dy, dw, dh = (offsets / offsets.new_tensor(weights)).unbind(-1)
    ax, ay, aw, ah = box_convert(anchors, "xyxy", "cxcywh").unbind(-1)
    centre = ax + dx * aw, ay + dy * ah
    size = aw * dw.clamp(max=MOST_GROWTH).exp(), ah * dh.clamp(max=MOST_GROWTH).exp()
    return box_convert(torch.stack([*centre, *size], -1), "cxcywh", "xyxy")


def distances_to_edges(points: Tensor, boxes: Tensor) -> Tensor:
    """How far the left, top, right and bottom edge lie from a point (FCOS, section 3.1), negative beyond the edge.

    Args:
        points: [..., 2], x and y.
        boxes: [..., 4].

    Returns:
        [..., 4]: l t r b.
    """
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def boxes_at_distances(points: Tensor, distances: Tensor) -> Tensor:
    """The boxes [..., 4] whose edges lie l t r b [..., 4] from points [..., 2]; undoes `distances_to_edges`."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)
