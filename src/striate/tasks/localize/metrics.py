"""Judging one object a picture: is it seen, is it named, is it boxed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from striate.errors import UsageError
from striate.tasks.bootstrap import RESAMPLES, bootstrap_mean, interval
from striate.tasks.metrics import Predictions, RowMetrics, as_rows

OVERLAP = 0.5  # IoU from which on a box is right (ImageNet's localisation task, Russakovsky et al. 2015, section 4.2)

DESCRIPTIONS = {  # what each scalar means, for people
    "localized": "pictures right in all: object seen, named and boxed (IoU at least a half), or seen to be none",
    "presence": "pictures where it is rightly said whether there is an object",
    "accuracy": "objects named rightly, seen or not",
    "boxed": "objects whose box has an IoU of at least a half, seen or not",
    "iou": "mean overlap (IoU) of said and true box, over objects",
}


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of the boxes of each row, float [N], of two [N, 4]; 0 where both are empty."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(one[:, 2:] - one[:, :2]).clamp(min=0).prod(1) for one in (boxes, others)]
    whole = areas[0] + areas[1] - both
    return (both / whole.where(whole > 0, torch.ones_like(whole))).where(whole > 0, torch.zeros_like(whole))


class LocalizeMetrics(RowMetrics):
    """What is said and true of each picture, and what follows.

    Attributes:
        best: the metric that decides; higher is better.
    """

    best = "localized"

    def __init__(self, classes: Sequence[str], threshold: float) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.threshold = threshold

    def update(self, predictions: Predictions, targets: Tensor) -> None:
        """Take a batch, places in pixels of the pictures as they were read.

        Args:
            predictions: B times float [5 + K]: x1, y1, x2, y2, p, classes.
            targets: float [B, 1, 7].
        """
        outputs = as_rows(predictions)
        width = 5 + len(self.classes)
        if outputs.ndim != 2 or outputs.shape[1] != width or targets.shape != (len(outputs), 1, 7):
            raise UsageError(
                f"outputs are {list(outputs.shape)} and targets {list(targets.shape)}, "
                f"expected [B, {width}] and [B, 1, 7]"
            )
        self.keep(outputs, targets[:, 0])

    def of_pictures(self) -> dict[str, Tensor]:
        """Of every picture, [N] each: `there`, `seen`, `named`, `right` (in all) are bool, `iou` float64, 0 if none."""
        said, truth = self.gathered()
        there, seen = truth[:, 4] >= 0, said[:, 4] >= self.threshold
        named = (said[:, 5:].argmax(1) == truth[:, 4].long()) & there
        iou = overlaps(said[:, :4].double(), truth[:, :4].double()) * there
        right = torch.where(there, seen & named & (iou >= OVERLAP), ~seen)
        return {"there": there, "seen": seen, "named": named, "iou": iou, "right": right}

    def values(self) -> dict[str, Tensor]:
        """Each scalar's value for every picture that it is of, float64; the scalar is their mean."""
        of = self.of_pictures()
        there = of["there"]
        found = {"localized": of["right"].double(), "presence": (of["seen"] == there).double()}
        if there.any():
            found |= {"accuracy": of["named"][there].double(), "boxed": (of["iou"][there] >= OVERLAP).double()}
            found["iou"] = of["iou"][there]
        return found

    def compute(self) -> dict[str, float]:
        """The scalars; those of objects are left out where no picture has one.

        Raises:
            DataError: nothing to judge.
        """
        return {name: float(values.mean()) for name, values in self.values().items()}

    def of_classes(self) -> list[dict[str, Any]]:
        """Of each class: name, pictures, accuracy, boxed, iou, localized; None where it has no pictures."""
        of, (_, truth) = self.of_pictures(), self.gathered()
        rows = []
        for index, name in enumerate(self.classes):
            chosen = truth[:, 4] == index
            count = int(chosen.sum())
            means = {
                "accuracy": of["named"],
                "boxed": of["iou"] >= OVERLAP,
                "iou": of["iou"],
                "localized": of["right"],
            }
            row = {key: float(values[chosen].double().mean()) if count else None for key, values in means.items()}
            rows.append({"name": name, "pictures": count, **row})
        return rows

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON: scalars with 95 % intervals (percentile bootstrap over pictures), every class."""
        generator = torch.Generator().manual_seed(seed)
        scalars: dict[str, Any] = {}
        for name, values in self.values().items():
            low, high = interval(bootstrap_mean(values, generator))
            meaning = {"meaning": DESCRIPTIONS[name], "share": True}
            scalars[name] = {"value": float(values.mean()), "low": low, "high": high, **meaning}
        samples, best = len(self.gathered()[0]), scalars[self.best]
        return {
            "samples": samples,
            "objects": int(self.of_pictures()["there"].sum()),
            "threshold": self.threshold,
            "best": self.best,
            "sentence": (
                f"{100 * best['value']:.1f} % of {samples:,} pictures are right in all: object seen, named and boxed, "
                f"or seen to be none (95 % interval {100 * best['low']:.1f} to {100 * best['high']:.1f})."
            ),
            "scalars": scalars,
            "classes": self.of_classes(),
            "resamples": RESAMPLES,
        }
