"""Judging a classifier: scalars an epoch, and the full account with intervals, per class, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.errors import DataError, UsageError
from striate.tasks.bootstrap import (
    average_precision,
    bootstrap_confusion,
    bootstrap_labels,
    bootstrap_mean,
    f1_of,
    interval,
    summarise_confusion,
)
from striate.tasks.calibration import expected_calibration_error, maximum_calibration_error, reliability_bins
from striate.tasks.metrics import Predictions, RowMetrics, as_rows

DESCRIPTIONS = {  # what each scalar means, for people
    "accuracy": "pictures named rightly, of all",
    "top5": "pictures whose true class is among the five likeliest",
    "balanced_accuracy": "recall, the mean over classes: every class counts alike, however rare",
    "macro_f1": "F1 (harmonic mean of precision and recall), the mean over classes",
    "nll": "negative log-likelihood of the truth: how surprised the network is; lower is better",
    "map": "average precision, the mean over classes: does the ranking put the right pictures first?",
    "micro_f1": "F1 over all labels of all pictures together",
    "exact_match": "pictures whose labels are all right, none missing, none too many",
}


class ClassificationMetrics(RowMetrics):
    """Logits of each picture, and what follows from them.

    Means over classes (balanced accuracy, macro F1, mAP) go over the classes that occur in the targets, as
    scikit-learn's do when told so: a class nobody asked for has no recall, and is listed with None.

    Attributes:
        best: the metric that decides; higher is better.
    """

    def __init__(
        self,
        classes: Sequence[str],
        multi_label: bool = False,
        thresholds: Sequence[float] | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise UsageError(f"temperature is {temperature}, it must be above 0")
        if thresholds is not None and len(thresholds) != len(classes):
            raise UsageError(f"{len(thresholds)} thresholds for {len(classes)} classes: give one a class")
        self.classes = tuple(classes)
        self.multi_label = multi_label
        self.thresholds = [0.5] * len(self.classes) if thresholds is None else list(thresholds)
        self.temperature = temperature
        self.best = "map" if multi_label else "accuracy"

    def update(self, predictions: Predictions, targets: Tensor) -> None:
        """Take a batch; it stays on its device, nothing is waited for.

        Args:
            predictions: B times logits, float [K].
            targets: int64 [B]; with several labels 0/1 [B, K].
        """
        logits = as_rows(predictions)
        wanted = tuple(logits.shape) if self.multi_label else (len(logits),)
        if logits.ndim != 2 or logits.shape[1] != len(self.classes):
            raise UsageError(f"logits are {list(logits.shape)}, expected [B, {len(self.classes)}]")
        if tuple(targets.shape) != wanted:
            raise UsageError(f"targets are {list(targets.shape)}, expected {list(wanted)}")
        self.keep(logits, targets)

    def checked(self, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits float32 [N, K] and targets, int64 [N] or float32 [N, K].

        Raises:
            DataError: a target is no class.
        """
        if self.multi_label:
            wrong = ((targets != 0) & (targets != 1)).any(1)
            if wrong.any():
                raise DataError(f"target {int(wrong.nonzero()[0])} has a value that is neither 0 nor 1")
            return rows, targets.float()
        wrong = (targets < 0) | (targets >= len(self.classes))
        if wrong.any():
            where = int(wrong.nonzero()[0])
            raise DataError(
                f"target {where} is class {int(targets[where])}, there are only {len(self.classes)} classes, from 0 on"
            )
        return rows, targets.long()

    def probabilities(self, temperature: float | None = None) -> Tensor:
        """Float32 [N, K]: softmax, or a sigmoid a label, of `logits / temperature` (its own when not given)."""
        scaled = self.gathered()[0] / (self.temperature if temperature is None else temperature)
        return scaled.sigmoid() if self.multi_label else scaled.softmax(1)

    def said(self) -> Tensor:
        """What the classifier answers: int64 [N], or with several labels bool [N, K]."""
        if self.multi_label:
            return self.probabilities() >= torch.tensor(self.thresholds)
        return self.gathered()[0].argmax(1)

    def confusion(self) -> Tensor:
        """Int64 [K, K]: rows are the truth, columns what was said (one label a picture)."""
        classes = len(self.classes)
        cells = self.gathered()[1] * classes + self.said()
        return torch.bincount(cells, minlength=classes**2).reshape(classes, classes)

    def surprise(self, temperature: float | None = None) -> Tensor:
        """Negative log-likelihood of each picture, float32 [N]; over labels it is their mean."""
        logits, targets = self.gathered()
        scaled = logits / (self.temperature if temperature is None else temperature)
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(scaled, targets, reduction="none").mean(1)
        return F.cross_entropy(scaled, targets, reduction="none")

    def in_top5(self) -> Tensor:
        """Whether the truth is among the five likeliest, bool [N]; of equal logits the earlier class comes first."""
        logits, targets = self.gathered()
        own = logits.gather(1, targets[:, None])
        earlier = torch.arange(logits.shape[1]) < targets[:, None]
        return ((logits > own) | ((logits == own) & earlier)).sum(1) < 5

    def label_counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """True positives, labels said and labels there, each float64 [K] (several labels a picture)."""
        truth, said = self.gathered()[1].bool(), self.said()
        return (truth & said).sum(0).double(), said.sum(0).double(), truth.sum(0).double()

    def average_precisions(self) -> Tensor:
        """Average precision of each class, float64 [K]; NaN where no picture has the label."""
        logits, targets = self.gathered()
        return torch.stack([average_precision(*column)[0] for column in zip(logits.T, targets.T, strict=True)])

    def compute(self) -> dict[str, float]:
        """The scalars, cheap enough for every epoch.

        Raises:
            DataError: nothing to judge; with several labels also when no picture has any.
        """
        if not self.multi_label:
            scalars = {name: float(value) for name, value in summarise_confusion(self.confusion()).items()}
            if len(self.classes) > 5:
                scalars["top5"] = float(self.in_top5().double().mean())
            return scalars | {"nll": float(self.surprise().double().mean())}
        hits, said, there = self.label_counts()
        if not there.any():
            raise DataError(f"none of the {len(self.gathered()[0])} pictures has any label: nothing to judge by")
        present = there > 0
        return {
            "map": float(self.average_precisions()[present].mean()),
            "macro_f1": float(f1_of(hits, said, there)[present].mean()),
            "micro_f1": float(f1_of(hits.sum(), said.sum(), there.sum())),
            "exact_match": float((self.said() == self.gathered()[1].bool()).all(1).double().mean()),
        }

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON: scalars with 95 % intervals, per class, confusion, calibration.

        Intervals are percentile bootstraps over pictures (Efron, 1979): what the number would have been on
        other pictures of the same kind; they do not say how other training runs would have come out.
        """
        values, spreads = self.compute(), self.resampled(torch.Generator().manual_seed(seed))
        scalars = {}
        for name, value in values.items():
            low, high = interval(spreads[name])
            scalars[name] = {
                "value": value,
                "low": low,
                "high": high,
                "meaning": DESCRIPTIONS[name],
                "share": name != "nll",
            }
        samples = len(self.gathered()[0])
        return {
            "samples": samples,
            "classes": list(self.classes),
            "multi_label": self.multi_label,
            "best": self.best,
            "sentence": sentence(self.best, scalars[self.best], samples),
            "scalars": scalars,
            "resamples": len(spreads[self.best]),
            "per_class": self.per_class(),
            "confusion": None if self.multi_label else self.confusion().tolist(),
            "thresholds": self.thresholds if self.multi_label else None,
            "calibration": self.calibration(self.temperature)
            | {"before": None if self.temperature == 1 else self.calibration(1.0)},
        }

    def resampled(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Each scalar on resampled pictures, float64 [R]."""
        logits, targets = self.gathered()
        if self.multi_label:
            return bootstrap_labels(logits, targets.bool(), self.said(), generator)
        spreads = bootstrap_confusion(self.confusion(), generator)
        if len(self.classes) > 5:
            spreads["top5"] = bootstrap_mean(self.in_top5(), generator)
        return spreads | {"nll": bootstrap_mean(self.surprise(), generator)}

    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of each class; None where it is 0/0 (never said, or never there)."""
        if self.multi_label:
            (hits, said, there), precisions = self.label_counts(), self.average_precisions()
        else:
            confusion = self.confusion().double()
            hits, said, there = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
            precisions = None
        rows = []
        for i, name in enumerate(self.classes):
            row: dict[str, Any] = {
                "class": name,
                "precision": float(hits[i] / said[i]) if said[i] else None,
                "recall": float(hits[i] / there[i]) if there[i] else None,
                "f1": float(f1_of(hits[i], said[i], there[i])) if there[i] else None,
                "support": int(there[i]),
            }
            if precisions is not None:
                row["average_precision"] = float(precisions[i]) if there[i] else None
                row["threshold"] = self.thresholds[i]
            rows.append(row)
        return rows

    def calibration(self, temperature: float) -> dict[str, Any]:
        """How well confidences agree with outcomes at this temperature.

        `brier` is the squared distance between probabilities and truth: summed over classes (0..2, Brier 1950)
        for one label, the mean over labels (0..1) for several.
        """
        probabilities, (_, targets) = self.probabilities(temperature), self.gathered()
        if self.multi_label:
            brier = float((probabilities - targets).double().square().mean())
        else:
            truth = F.one_hot(targets, len(self.classes))
            brier = float((probabilities - truth).double().square().sum(1).mean())
        return {
            "temperature": temperature,
            "ece": expected_calibration_error(probabilities, targets),
            "mce": maximum_calibration_error(probabilities, targets),
            "brier": brier,
            "nll": float(self.surprise(temperature).double().mean()),
            "bins": reliability_bins(probabilities, targets),
        }


def sentence(best: str, scalar: dict[str, Any], samples: int) -> str:
    """The number that decides, for a person who reads one line."""
    low, high = f"{scalar['low']:.1%}", f"{scalar['high']:.1%}"
    sure = f"With {samples:,} pictures to judge by, the true value lies between {low} and {high} (95 % sure)."
    if best == "map":
        return f"Ranked by the network's score, the right pictures come first to {scalar['value']:.1%}. {sure}"
    right = round(scalar["value"] * samples)
    return f"{right:,} of {samples:,} pictures were named rightly. {sure}"
