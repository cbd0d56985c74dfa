"""Which cells are taught which object: those that classify and place it best already (TOOD, Feng et al., ICCV 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CLASS_POWER, OVERLAP_POWER = 0.5, 6.0  # of score and IoU in how well a cell is aligned (equation 4; 0.5 as YOLOv8)
TAKEN = 10  # cells an object is taught to
NEAR = 1e-9


class Aim(NamedTuple):
    """What the cells are to say.

    Attributes:
        scores: [B, N, K], 0 but for the class of a taught cell: how well aligned it is, scaled so that the best cell of
            an object has that object's best IoU.
        boxes: [B, N, 4]; of cells that are not taught, anything.
        taken: bool [B, N].
    """

    scores: Tensor
    boxes: Tensor
    taken: Tensor


@torch.no_grad()
def align(
    scores: Tensor, boxes: Tensor, points: Tensor, cells: Tensor, truths: Tensor, labels: Tensor, valid: Tensor
) -> Aim:
    """Choose the cells.

    Args:
        scores: probabilities [B, N, K], as the network says now. boxes: [B, N, 4].
        points: [N, 2]. cells: [N, 2], width and height of the square that a point stands for.
        truths: [B, M, 4]. labels: int64 [B, M]. valid: bool [B, M].
    """
    overlaps = pair_iou(truths, boxes)  # [B, M, N]
    index = labels.clamp(min=0)[:, :, None].expand(-1, -1, scores.shape[1])  # [B, M, N]
    said = scores.mT.gather(1, index)
    # a point inside the object; of objects smaller than a cell, the cell that holds their middle
    middle = (truths[..., :2] + truths[..., 2:]) / 2
    half = (truths[..., 2:] - truths[..., :2])[:, :, None] / 2  # [B, M, 1, 2]
    reach = torch.maximum(half, torch.where(cells == cells.amin(0), cells / 2 + NEAR, 0.0))
    away = (points - middle[:, :, None]).abs()  # [B, M, N, 2]
    inside = (away <= reach).all(-1) & valid[..., None]
    aligned = said**CLASS_POWER * overlaps**OVERLAP_POWER * inside
    top = (aligned + NEAR * inside).topk(min(TAKEN, aligned.shape[-1]), -1)
    taken = torch.zeros_like(inside).scatter_(-1, top.indices, top.values > 0)  # [B, M, N]
    # a cell that two objects want goes to the one it overlaps more
    owner = torch.where(taken, overlaps, -1.0).argmax(1)  # [B, N]
    taken &= torch.arange(taken.shape[1], device=taken.device)[:, None] == owner[:, None]
    aligned = aligned * taken
    best_aligned = aligned.amax(-1, keepdim=True)
    best_overlap = (overlaps * taken).amax(-1, keepdim=True)
    quality = (aligned / (best_aligned + NEAR) * best_overlap).amax(1)  # [B, N]
    is_taken = taken.any(1)
    picked = labels.clamp(min=0).gather(1, owner)
    wanted = torch.zeros_like(scores).scatter_(-1, picked[..., None], (quality * is_taken)[..., None])
    aim = truths.gather(1, owner[..., None].expand(-1, -1, 4))
    return Aim(wanted, aim, is_taken)


def pair_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU of every pair: [B, M, 4] and [B, N, 4] → [B, M, N]"""
    top = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    end = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    shared = (end - top).clamp(min=0).prod(-1)
    first = (one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1)
    second = (other[..., 2:] - other[..., :2]).clamp(min=0).prod(-1)
    return shared / (first[:, :, None] + second[:, None] - shared + NEAR)
