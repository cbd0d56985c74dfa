"""What a detector's outputs mean, and how targets and detections look as tensors.

Targets: float [B, M, 7], one row an object: x1, y1, x2, y2 (pixels of the picture the network sees), class, kind
(`striate.data.sample`: PLAIN, CROWD, DIFFICULT), area in px² of the picture as it was read. Rows that only fill up have
class -1 and stand at the end.

Detections: float32 [B, K, 6], one row a detection: x1, y1, x2, y2, score in 0..1, class; best first. Rows that only
fill up are all 0 but for class -1, and stand at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.data.targets import PLAIN, Objects

LIMIT = 100  # detections kept of a picture, as COCO counts them
LEAST_SCORE = 0.01  # below this a detection is not worth keeping


class DetectionCoder(ABC):
    """What a detector's outputs mean: their losses, and the detections in them.

    Outputs are plain tensors by name, whatever engine made them, of pictures [B, C, H, W]. A coder learns nothing and
    holds no tensors: only what is fixed when the network is built (anchors, thresholds). `image_size` in the outputs is
    int64 [2], height and width of the pictures.

    A two-stage network in training takes the targets too: `network(images, targets)`; it has `takes_targets = True`.
    """

    @abstractmethod
    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Scalars by name; `loss` is their weighted sum. Empty where judging makes no loss (two-stage networks)."""

    @abstractmethod
    def detections(self, outputs: dict[str, Tensor], limit: int = LIMIT) -> Tensor:
        """float32 [B, limit, 6] after non-maximum suppression, in pixels of the pictures the network saw."""

    @abstractmethod
    def class_scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """[B, N, C]: how much each of N candidates speaks for each class, before any suppression; differentiable.

        It rises with the score of the detection that the candidate would be. Where scores are probabilities it is the
        logarithm of their odds. -inf where a picture has fewer candidates than others, or the class is no candidate's.

        Raises:
            UsageError: the detector does not look at the whole picture at once.
        """

    @abstractmethod
    def candidate_boxes(self, outputs: dict[str, Tensor]) -> Tensor:
        """[B, N, 4]: the cell, anchor or region that each candidate of `class_scores` answers for, x1 y1 x2 y2 in
        pixels of the pictures the network saw; 0 where there is none."""


class SamplingCoder(DetectionCoder):
    """Of a network that takes the targets: in training its outputs are its losses, which need the samples it drew."""

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        return outputs if "loss" in outputs else {}


def answer(outputs: dict[str, Tensor], *names: str) -> list[Tensor]:
    """Those of a detector's outputs.

    Raises:
        RuntimeError: the network was training, and gave losses.
    """
    if "loss" in outputs:
        raise RuntimeError("in training this detector gives losses only: call eval() first, and pass images alone")
    return [outputs[name] for name in names]


def log_odds(logarithm: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p, with a gradient for p near 1 too."""
    return logarithm - (-logarithm.expm1()).clamp(min=1e-30).log()


def padded(rows: Sequence[Tensor], value: float) -> Tensor:
    """[B, N, C] of [n, C], those with fewer rows filled up with that value; N at least 1."""
    most = max(1, *(len(row) for row in rows))
    return torch.stack([F.pad(row, (0, 0, 0, most - len(row)), value=value) for row in rows])


def collate_objects(targets: Sequence[Objects | None], rows: int | None = None) -> Tensor:
    """Targets of several pictures as one tensor [B, M, 7]; M as many as the fullest has, at least 1, or `rows`."""
    most = max([1, *(len(target) for target in targets if target is not None)]) if rows is None else rows
    found = torch.zeros(len(targets), most, 7)
    found[:, :, 4] = -1
    for row, target in zip(found, targets, strict=True):
        if target is not None and len(target):
            count = len(target)
            row[:count, :4] = target.boxes
            row[:count, 4] = target.labels
            row[:count, 5] = target.kinds
            row[:count, 6] = target.areas
    return found


def learnable(target: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [N, 4] and labels int64 [N] that a network is to learn, of one picture's target [M, 7]."""
    rows = target[(target[:, 4] >= 0) & (target[:, 5] == PLAIN)]
    return rows[:, :4], rows[:, 4].long()


def stack_detections(boxes: Sequence[Tensor], scores: Sequence[Tensor], labels: Sequence[Tensor], limit: int) -> Tensor:
    """[B, limit, 6] from the boxes [n, 4], scores [n] and labels [n] of each picture, in any order."""
    found = torch.zeros(len(boxes), limit, 6, device=boxes[0].device if boxes else None)
    found[:, :, 5] = -1
    for number, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        order = score.detach().float().argsort(descending=True, stable=True)[:limit]
        count = len(order)
        found[number, :count, :4] = box.detach()[order].float()
        found[number, :count, 4] = score.detach()[order].float()
        found[number, :count, 5] = label[order].float()
    return found
