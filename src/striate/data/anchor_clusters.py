"""Dimension clusters: the widths and heights that stand for all objects (YOLOv2, Redmon & Farhadi 2017, section 2).

k-means, but the distance of two boxes is 1 - IoU with their corners laid together: large boxes do not count more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from striate.config import Preprocess
from striate.data.geometry import preprocess_affine
from striate.data.picture_sizes import picture_sizes
from striate.data.sample import Sample
from striate.data.targets import PLAIN

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
    """Assign and take means until no box changes sides; a cluster that lost all keeps its place. The best on the way is
    given: under this distance a mean is not always better than what it was before."""
    best, found = mean_iou(sizes, anchors), anchors
    owner = torch.full((len(sizes),), -1)
    for _ in range(MOST_ROUNDS):
        nearest = shape_iou(sizes, anchors).argmax(1)
        if torch.equal(nearest, owner):
            break
        owner = nearest
        sums = torch.zeros_like(anchors).index_add_(0, owner, sizes)
        counts = torch.bincount(owner, minlength=len(anchors))[:, None]
        anchors = torch.where(counts > 0, sums / counts.clamp(min=1), anchors)
        score = mean_iou(sizes, anchors)
        if score > best:
            best, found = score, anchors
    return found


def sizes_of(samples: Sequence[Sample], preprocess: Preprocess, most: int = 2000) -> Tensor:
    """Widths and heights of the objects that are to be learnt, float [N, 2], in pixels of what the network sees.

    Of `most` pictures spread over the samples; only headers of files are read.
    """
    chosen = samples[:: max(1, len(samples) // most)][:most]
    found: list[Tensor] = [torch.zeros(0, 2)]
    for sample, size in zip(chosen, picture_sizes([sample.image for sample in chosen]), strict=True):
        objects = None if sample.target is None else sample.target.objects()
        if size is None or objects is None:
            continue
        there = preprocess_affine(size, preprocess)
        boxes = objects.boxes[objects.kinds == PLAIN]
        found.append((boxes[:, 2:] - boxes[:, :2]) * torch.tensor([there.xx, there.yy]))
    sizes = torch.cat(found)
    return sizes[(sizes > 0).all(1)]


def draw(sizes: Tensor, anchors: Tensor, curve: Sequence[float], title: str) -> bytes:
    """A PNG: every box's width and height, the anchors among them, and the mean IoU by their number."""
    from io import BytesIO

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    nearest = shape_iou(sizes, anchors).argmax(1)
    left.scatter(*sizes.T.tolist(), s=5, c=nearest.tolist(), cmap="tab20", alpha=0.5, linewidths=0)
    left.scatter(*anchors.T.tolist(), marker="+", s=140, color="black", linewidths=1.8)
    left.set(xlabel="width, pixels", ylabel="height, pixels", title=title, xlim=(0, None), ylim=(0, None))
    right.plot(range(1, len(curve) + 1), curve, marker="o", color="#3b82f6")
    right.set(xlabel="anchors", ylabel="mean IoU with the nearest", title="What one more anchor gains")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
