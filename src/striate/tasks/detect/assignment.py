"""Which box goes with which: anchors to the objects they learn, detections to the objects they found."""

from __future__ import annotations

import torch
from torch import Tensor

BELOW, BETWEEN = -1, -2  # an anchor that is background, and one that is neither


def match_anchors(overlap: Tensor, high: float, low: float, keep_best: bool = False) -> Tensor:
    """The object that each anchor is to learn (Faster R-CNN, section 3.1.2; torchvision's Matcher).

    Args:
        overlap: float [..., M, N], IoU of M objects and N anchors; rows of -1 are no objects and only fill up.
        high: an anchor learns the object that it overlaps most if by at least this.
        low: one that overlaps all by less is background; what lies between is left out of the loss.
        keep_best: each object also gets the anchors that overlap it most, however little; such an anchor learns the
            object that it overlaps most itself, which may be another.

    Returns:
        int64 [..., N]: index of the object, BELOW or BETWEEN.
    """
    if not overlap.shape[-2]:
        return torch.full((*overlap.shape[:-2], overlap.shape[-1]), BELOW, device=overlap.device)
    most, objects = overlap.max(-2)
    found = objects.where(most >= high, torch.where(most < low, BELOW, BETWEEN))
    if keep_best and overlap.shape[-1]:
        # an object that no anchor touches would claim them all
        best = (overlap == overlap.amax(-1, keepdim=True).clamp(min=1e-12)).any(-2)
        found = objects.where(best, found)
    return found


def match_greedily(overlap: Tensor, threshold: float) -> Tensor:
    """The object that each detection found: best first, each takes the free object that it overlaps most.

    Args:
        overlap: float [..., D, M], IoU of detections, best first, and objects; below 0 where they must not meet.
        threshold: the least overlap, above 0. Of objects overlapped alike the last is taken, as COCO does.

    Returns:
        int64 [..., D]: index of the object, or -1.
    """
    *batch, detections, objects = overlap.shape
    found = torch.full((*batch, detections), -1, device=overlap.device)
    if not objects:
        return found
    taken = torch.zeros(*batch, objects, dtype=torch.bool, device=overlap.device)
    place = torch.arange(1, objects + 1, device=overlap.device)
    for rank in range(detections):
        row = overlap[..., rank, :].masked_fill(taken, -1.0)
        most = row.amax(-1, keepdim=True)
        best = ((row == most) * place).argmax(-1, keepdim=True)
        hit = most >= threshold
        found[..., rank] = best.where(hit, -1).squeeze(-1)
        taken.scatter_(-1, best, hit | taken.gather(-1, best))
    return found
