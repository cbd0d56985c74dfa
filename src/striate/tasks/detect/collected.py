"""All detections and objects of a split as rows, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.errors import DataError, StriateError
from striate.tasks.detect.average_precision import best_thresholds, coco_evaluation
from striate.tasks.detect.matching import Found, Matches, Truth, match
from striate.tasks.metrics import Predictions

if TYPE_CHECKING:
    import numpy as np


def same_length(predictions: Predictions) -> Tensor:
    """B times float [K, 6] as one tensor, rows of class -1 at the ends of the shorter ones."""
    if isinstance(predictions, Tensor):
        return predictions
    most = max((len(rows) for rows in predictions), default=0)
    whole = torch.zeros(len(predictions), most, 6)
    whole[..., 5] = -1
    for row, rows in zip(whole, predictions, strict=True):
        row[: len(rows)] = rows
    return whole


class CollectedDetections:
    """Everything that was taken as rows, and what follows from it, worked out when first asked for."""

    def __init__(self, classes: tuple[str, ...], parts: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.classes = len(classes)
        self.pictures = sum(len(targets) for _, targets in parts)
        if not self.pictures:
            raise DataError("no pictures to judge: the split is empty")
        self.found = Found.of([detections.cpu() for detections, _ in parts])
        self.truth = Truth.of([targets.cpu() for _, targets in parts])
        self.errors: dict[int, dict[str, float]] = {}  # of seeds
        self.check()

    def check(self) -> None:
        found, truth = self.found, self.truth
        broken = ~(found.boxes.isfinite().all(1) & found.scores.isfinite() & (found.labels >= 0))
        if broken.any():
            raise StriateError(
                f"a detection on picture {int(found.pictures[broken][0])} of {self.pictures} is NaN or infinite "
                f"({int(broken.sum())} in all): train with a lower learning rate, or precision=fp32"
            )
        for rows, what, error in ((found, "a detection", StriateError), (truth, "an object", DataError)):
            beyond = rows.labels >= self.classes
            if beyond.any():
                raise error(
                    f"{what} on picture {int(rows.pictures[beyond][0])} is class {int(rows.labels[beyond][0])}, there "
                    f"are only {self.classes} classes, from 0 on"
                )
        if not truth.boxes.isfinite().all():
            where = int(truth.pictures[~truth.boxes.isfinite().all(1)][0])
            raise DataError(f"an object on picture {where} has a box that is NaN or infinite")

    @cached_property
    def evaluation(self) -> Any:
        return coco_evaluation(self.found, self.truth, self.classes, self.pictures)

    @cached_property
    def precision(self) -> np.ndarray:
        """float64 [10 IoUs, 101 recalls, K, 4 size bands, 3 limits]; -1 where there are no objects."""
        return self.evaluation.eval["precision"]

    @cached_property
    def recall(self) -> np.ndarray:
        """float64 [10 IoUs, K, 4 size bands, 3 limits]; -1 where there are no objects."""
        return self.evaluation.eval["recall"]

    @cached_property
    def matches(self) -> Matches:
        """Which detections found which objects of their class at IoU 0.5."""
        return match(self.found, self.truth, self.pictures)

    @cached_property
    def tuned(self) -> list[float]:
        return best_thresholds(self.found, self.truth, self.matches, self.classes)
