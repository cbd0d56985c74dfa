"""Dimension clusters: the widths and heights that stand for all objects (YOLOv2, Redmon & Farhadi 2017, section 2).

k-means, but the distance of two boxes is 1 - IoU with their corners laid together: large boxes do not count more.
"""

from __future__ import annotations

import torch
from torch import Tensor

STARTS = 10  # the best of so many
MOST_ROUNDS = 300


def shape_iou(sizes: Tensor, others: Tensor) -> Tensor:
    """IoU of boxes that share a corner: [N, 2] and [K, 2] → [N, K]"""
    shared = torch.minimum(sizes[:, None], others).prod(2)
    return shared / (sizes.prod(1)[:, None] + others.prod(1) - shared)


def mean_iou(sizes: Tensor, anchors: Tensor) -> float:
    """The mean over boxes of the IoU with the anchor nearest to each."""
    return float(shape_iou(sizes, anchors).amax(1).mean())


def cluster(sizes: Tensor, count: int, seed: int = 0) -> Tensor:
    """`count` widths and heights, float [count, 2], by rising area.

    Args:
        sizes: float [N, 2], above 0; at least `count` of them.
        seed: of the starts: the first at random, each further one where boxes are far from those there are.
    """
    generator = torch.Generator().manual_seed(seed)
    best, found = -1.0, sizes[:count]
    for _ in range(STARTS):
        anchors = _descended(sizes, _spread(sizes, count, generator))
        score = mean_iou(sizes, anchors)
        if score > best:
            best, found = score, anchors
    return found[found.prod(1).argsort()]


def _spread(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Starts as of k-means++ (Arthur & Vassilvitskii 2007), by the square of 1 - IoU."""
    chosen = [int(torch.randint(len(sizes), (), generator=generator))]
    while len(chosen) < count:
        far = (1 - shape_iou(sizes, sizes[chosen]).amax(1)).square() + 1e-9
        chosen.append(int(torch.multinomial(far, 1, generator=generator)))
    return sizes[chosen]


def _descended(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Assign and take means until no box changes sides; a cluster that lost all keeps its place."""
    owner = torch.full((len(sizes),), -1)
    for _ in range(MOST_ROUNDS):
        nearest = shape_iou(sizes, anchors).argmax(1)
        if torch.equal(nearest, owner):
            break
        owner = nearest
        sums = torch.zeros_like(anchors).index_add_(0, owner, sizes)
        counts = torch.bincount(owner, minlength=len(anchors))[:, None]
        anchors = torch.where(counts > 0, sums / counts.clamp(min=1), anchors)
    return anchors
