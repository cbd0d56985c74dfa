"""Detections against objects over a whole split, row by row: which detection found which object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.data.targets import CROWD, PLAIN
from striate.tasks.detect.assignment import match_greedily
from striate.tasks.detect.boxes import box_area, iou

AT_ONCE = 256  # pictures whose overlaps are held together


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """All detections, row by row: by picture, and within a picture best first."""

    pictures: Tensor  # int64 [D]
    boxes: Tensor  # float32 [D, 4]
    scores: Tensor  # float32 [D]
    labels: Tensor  # int64 [D]

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> Found:
        """From batches of [B, K, 6]; rows of class -1 are left out."""
        pictures, rows = kept_rows([best_first(part) for part in parts], 5)
        return cls(pictures, rows[:, :4], rows[:, 4], rows[:, 5].long())

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, chosen: Tensor) -> Found:
        return Found(self.pictures[chosen], self.boxes[chosen], self.scores[chosen], self.labels[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All objects, row by row, by picture."""

    pictures: Tensor  # int64 [T]
    boxes: Tensor  # float32 [T, 4]
    labels: Tensor  # int64 [T]
    kinds: Tensor  # int64 [T]
    areas: Tensor  # float32 [T]

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> Truth:
        """From batches of [B, M, 7]; rows of class -1 are left out."""
        pictures, rows = kept_rows(parts, 4)
        return cls(pictures, rows[:, :4], rows[:, 4].long(), rows[:, 5].long(), rows[:, 6])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def plain(self) -> Tensor:
        """bool [T]: those that count."""
        return self.kinds == PLAIN


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What became of each detection.

    Attributes:
        truths: int64 [D], row of the plain object of its class that it was matched to, or -1.
        confused: int64 [D], row of the plain object of another class that it met instead, or -1.
        overlaps: float64 [D], the largest IoU with any plain object of its class, free or not; 0 where there is none.
        ignored: bool [D], it was matched to none but lies on a crowd or a difficult object of its class.
    """

    truths: Tensor
    confused: Tensor
    overlaps: Tensor
    ignored: Tensor

    def missed(self, truth: Truth) -> Tensor:
        """bool [T]: plain objects that no detection of their class found."""
        missed = truth.plain.clone()
        missed[self.truths[self.truths >= 0]] = False
        return missed


def best_first(detections: Tensor) -> Tensor:
    """Rows [B, K, 6] by falling score; of equal ones the earlier stays first."""
    order = detections[..., 4].argsort(dim=1, descending=True, stable=True)
    return detections.gather(1, order[..., None].expand_as(detections))


def kept_rows(parts: Sequence[Tensor], label: int) -> tuple[Tensor, Tensor]:
    """Picture numbers int64 [N] and rows [N, C] of batches [B, rows, C], without rows whose label is below 0."""
    pictures, rows, first = [], [], 0
    for part in parts:
        there = ~(part[..., label] < 0)  # NaN stays, to be told
        pictures.append(there.nonzero()[:, 0] + first)
        rows.append(part[there])
        first += len(part)
    return torch.cat(pictures), torch.cat(rows)


def padded(rows: Tensor, first: int, count: int) -> Tensor:
    """Row numbers of `count` pictures from `first`, [count, most]; -1 fills up. `rows` are sorted picture numbers."""
    bounds = torch.searchsorted(rows, torch.arange(first, first + count + 1))
    numbers = bounds[:-1, None] + torch.arange(int(bounds.diff().max()) if count else 0)
    return numbers.where(numbers < bounds[1:, None], -1)


def match(found: Found, truth: Truth, pictures: int, threshold: float = 0.5) -> Matches:
    """Match the detections of each picture to plain objects, best first; each object once.

    Each class is matched by itself, as for average precision. Detections that are left then meet objects of other
    classes that are left.

    Args:
        pictures: how many there are.
        threshold: the least IoU; for a crowd the least share of the detection that lies in it.
    """
    truths, confused = torch.full((2, len(found)), -1)
    overlaps = torch.zeros(len(found), dtype=torch.float64)
    ignored = torch.zeros(len(found), dtype=torch.bool)
    for first in range(0, pictures, AT_ONCE):
        count = min(AT_ONCE, pictures - first)
        said, there = padded(found.pictures, first, count), padded(truth.pictures, first, count)  # [B, D], [B, M]
        if not said.numel() or not there.numel():
            continue
        boxes, objects = found.boxes[said].double(), truth.boxes[there].double()
        both = (said >= 0)[:, :, None] & (there >= 0)[:, None]  # [B, D, M]
        same = both & (found.labels[said][:, :, None] == truth.labels[there][:, None])
        plain = truth.plain[there][:, None]
        crowd = (truth.kinds[there] == CROWD)[:, None]
        shared = iou(boxes, objects)
        own = shared.where(same & plain, -1.0)
        matched = match_greedily(own, threshold)
        inside = covered(boxes, objects).where(crowd, shared).where(same & ~plain, -1.0)
        fell = (matched < 0) & (inside >= threshold).any(-1)
        taken = (matched[:, :, None] == torch.arange(there.shape[1])).any(1)
        left = ((matched < 0) & ~fell)[:, :, None] & ~taken[:, None]
        others = match_greedily(shared.where(both & ~same & plain & left, -1.0), threshold)
        real = said >= 0
        rows = said[real]
        truths[rows] = there.gather(1, matched.clamp(min=0)).where(matched >= 0, -1)[real]
        confused[rows] = there.gather(1, others.clamp(min=0)).where(others >= 0, -1)[real]
        overlaps[rows] = own.amax(-1).clamp(min=0)[real]
        ignored[rows] = fell[real]
    return Matches(truths, confused, overlaps, ignored)


def covered(boxes: Tensor, others: Tensor) -> Tensor:
    """The share of each box that lies in each other, [..., N, 4] and [..., M, 4] → [..., N, M]; 0 of an empty box."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    return ((high - low).clamp(min=0).prod(-1) / box_area(boxes)[..., None]).nan_to_num(0.0, 0.0, 0.0)
