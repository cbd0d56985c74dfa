"""What evaluation collects of a split, batch by batch, and works its numbers out from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from striate.errors import DataError, StriateError, UsageError

Predictions = Sequence[Any] | Tensor  # one a picture


class Metrics(ABC):
    """State that is updated with predictions, merged with that of other processes, and computed from.

    Attributes:
        best: the metric that decides which weights are kept.
        mode: whether a larger or a smaller one is better.
    """

    best: str
    mode: ClassVar[Literal["max", "min"]] = "max"

    @abstractmethod
    def update(self, predictions: Predictions, targets: Any) -> None:
        """Take a batch: what `Task.postprocess` gave, one a picture, and what `Task.collate` made of their targets in
        pixels of the pictures as they were read."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Take all that another one has collected, after one's own."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The scalars, cheap enough for every epoch.

        Raises:
            DataError: there is nothing to evaluate.
        """

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON; `scalars` of name to {"value", "low", "high", "meaning", "share"} at least."""
        return {"best": self.best, "scalars": {name: {"value": value} for name, value in self.compute().items()}}


class RowMetrics(Metrics):
    """Metrics whose state is a row of numbers a picture, as many for each, and its target: what rankings, calibration
    and intervals (a bootstrap over pictures) need."""

    def __init__(self) -> None:
        self.parts: list[tuple[Tensor, Tensor]] = []
        self._rows: tuple[Tensor, Tensor] | None = None  # all parts as one, once they were found in order

    def keep(self, rows: Tensor, targets: Tensor) -> None:
        """A batch, [B, …] each; it stays on its device, nothing is waited for."""
        self._rows = None
        # a copy: compiled networks may write their next output where this one lies
        self.parts.append((rows.detach().to(torch.float32, copy=True), targets.detach().clone()))

    def merge(self, other: Any) -> None:
        self._rows = None
        self.parts += other.parts

    def gathered(self) -> tuple[Tensor, Tensor]:
        """All rows float32 [N, …] and targets on the CPU, in the order of updates.

        Raises:
            DataError: there is nothing to evaluate.
            StriateError: a number is NaN or infinite.
        """
        if self._rows is None:
            self._rows = self.checked(*self._joined())
        return self._rows

    def __len__(self) -> int:
        return sum(len(rows) for rows, _ in self.parts)

    def checked(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What all rows and targets become, once; refuses what cannot be."""
        return rows, targets

    def _joined(self) -> tuple[Tensor, Tensor]:
        if not len(self):
            raise DataError("no pictures to judge: the split is empty")
        rows, targets = (torch.cat([part[side] for part in self.parts]).cpu() for side in (0, 1))
        self.parts = [(rows, targets)]
        finite = rows.isfinite().flatten(1).all(1)
        if not finite.all():
            where = int((~finite).nonzero()[0])
            raise StriateError(
                f"the network's output for picture {where} of {len(rows)} is NaN or infinite "
                f"({int((~finite).sum())} such pictures): train with a lower learning rate, or precision=fp32"
            )
        return rows, targets


def as_rows(predictions: Predictions) -> Tensor:
    """Predictions of one shape as one tensor [B, …].

    Raises:
        UsageError: their shapes differ.
    """
    if isinstance(predictions, Tensor):
        return predictions
    if len({prediction.shape for prediction in predictions}) > 1:
        raise UsageError("predictions of one batch differ in shape, expected as many numbers for each picture")
    return torch.stack(list(predictions)) if len(predictions) else torch.zeros(0)
