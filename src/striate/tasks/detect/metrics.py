"""Judging a detector: COCO's numbers every epoch, and the full account by class, size and object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from striate.errors import UsageError
from striate.tasks.bootstrap import f1_of
from striate.tasks.detect.average_precision import (
    coco_standard_errors,
    mean_counted,
    voc_ap,
)
from striate.tasks.detect.collected import CollectedDetections, same_length
from striate.tasks.detect.matching import Found, match
from striate.tasks.metrics import Metrics, Predictions

if TYPE_CHECKING:
    pass

ALL, SMALL, MEDIUM, LARGE = range(4)  # COCO's size bands
BANDS = {SMALL: (0.0, 32.0**2), MEDIUM: (32.0**2, 96.0**2), LARGE: (96.0**2, 1e10)}  # px², both ends belong to it
HUNDRED = 2  # of COCO's limits of 1, 10 and 100 detections a picture and class

DESCRIPTIONS = {  # hotcoco's name, and what it means for people
    "ap": ("AP", "average precision, the mean over classes and over IoU 0.50, 0.55 … 0.95 (COCO's AP)"),
    "ap50": ("AP50", "the same where an overlap (IoU) of 0.5 is enough"),
    "ap75": ("AP75", "the same where an overlap of 0.75 is asked for: are the boxes tight?"),
    "ap_small": ("APs", "average precision of objects of up to 32 × 32 pixels"),
    "ap_medium": ("APm", "average precision of objects of 32 × 32 to 96 × 96 pixels"),
    "ap_large": ("APl", "average precision of objects of 96 × 96 pixels and more"),
    "ar100": ("AR100", "objects found among 100 detections a picture, the mean over classes and IoU 0.50 … 0.95"),
}
RESAMPLES, LEAST_RESAMPLES = 200, 25  # enough for a standard error, and informative (Efron & Tibshirani 1993, 6.4)
DETECTIONS_RESAMPLED = 5_000_000  # between the two, so that large splits take seconds

Threshold = float | Sequence[float] | None


class DetectionMetrics(Metrics):
    """Detections and objects of each picture, and what follows.

    Crowds are treated as COCO treats them, difficult objects are neither hits nor misses. Means go over the classes
    that have objects.

    Attributes:
        best: the metric that decides; higher is better.
    """

    best = "ap"

    def __init__(self, classes: Sequence[str], thresholds: Sequence[float] | None = None) -> None:
        """
        Args:
            classes: names in index order.
            thresholds: of each class the least score of a detection that is shown. When not given, those that make F1
                best on what is judged: precision, recall and confusion then flatter a little. AP needs none.
        """
        if thresholds is not None and len(thresholds) != len(classes):
            raise UsageError(f"{len(thresholds)} thresholds for {len(classes)} classes: give one a class")
        self.classes = tuple(classes)
        self.given = None if thresholds is None else [float(threshold) for threshold in thresholds]
        self.parts: list[tuple[Tensor, Tensor]] = []
        self.kept: CollectedDetections | None = None  # what was worked out of all parts

    def update(self, predictions: Predictions, targets: Tensor) -> None:
        """Take a batch, in pixels of the pictures as they were read; it stays on its device, nothing is waited for.

        Args:
            predictions: B times float [K, 6], see `outputs`; K may differ.
            targets: float [B, M, 7].
        """
        detections = same_length(predictions)
        for name, rows, columns in (("detections", detections, 6), ("targets", targets, 7)):
            if rows.ndim != 3 or rows.shape[2] != columns or len(rows) != len(detections):
                raise UsageError(f"{name} are {list(rows.shape)}, expected [{len(detections)}, rows, {columns}]")
        self.kept = None
        # a copy: compiled networks may write their next output where this one lies
        self.parts.append((detections.detach().to(torch.float32, copy=True), targets.detach().float().clone()))

    def merge(self, other: Any) -> None:
        self.kept = None
        self.parts += other.parts

    @property
    def judged(self) -> CollectedDetections:
        """All parts as one, checked.

        Raises:
            DataError: there is nothing to judge, or a target is no class.
            StriateError: a detection is NaN, infinite or no class.
        """
        if self.kept is None:
            self.kept = CollectedDetections(self.classes, self.parts)
        return self.kept

    @property
    def thresholds(self) -> list[float]:
        """One a class: those given, else `tuned_thresholds()`."""
        return self.tuned_thresholds() if self.given is None else self.given

    def tuned_thresholds(self) -> list[float]:
        """Of each class the score from which on F1 at IoU 0.5 is best on what is judged; 0.5 where it has no object."""
        return self.judged.tuned

    def compute(self) -> dict[str, float]:
        """COCO's numbers, 0..1: ap, ap50, ap75, ap_small, ap_medium, ap_large, ar100.

        Size bands without objects are left out. Where no picture has an object that counts, the others are 0.
        """
        precision = self.judged.precision[:, :, :, :, HUNDRED]
        values = {
            "ap": mean_counted(precision[:, :, :, ALL]) or 0.0,
            "ap50": mean_counted(precision[0, :, :, ALL]) or 0.0,
            "ap75": mean_counted(precision[5, :, :, ALL]) or 0.0,
            "ap_small": mean_counted(precision[:, :, :, SMALL]),
            "ap_medium": mean_counted(precision[:, :, :, MEDIUM]),
            "ap_large": mean_counted(precision[:, :, :, LARGE]),
            "ar100": mean_counted(self.judged.recall[:, :, ALL, HUNDRED]) or 0.0,
        }
        return {name: value for name, value in values.items() if value is not None}

    def voc(self, metric: Literal["voc07", "voc12"]) -> float | None:
        """PASCAL VOC's AP at IoU 0.5, the mean over classes; None where no class has an object."""
        judged = self.judged
        found = voc_ap(judged.found, judged.truth, len(self.classes), judged.pictures, metric=metric)
        return None if found.isnan().all() else float(found.nanmean())

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON: scalars with 95 % intervals, per class, per size, curves, confusion.

        Intervals reach 1.96 standard errors to either side: those of a bootstrap over pictures (Efron, 1979), what the
        number would have been on other pictures of the same kind. Percentiles would sit too high: drawing a picture
        twice makes precision smoother, which average precision rewards.
        """
        judged = self.judged
        resamples = min(RESAMPLES, max(LEAST_RESAMPLES, DETECTIONS_RESAMPLED // max(1, len(judged.found))))
        if seed not in judged.errors:
            judged.errors[seed] = coco_standard_errors(judged.evaluation, resamples, seed)
        errors = judged.errors[seed]
        scalars = {}
        for name, value in self.compute().items():
            other, meaning = DESCRIPTIONS[name]
            low, high = (max(0.0, value - 1.96 * errors[other]), min(1.0, value + 1.96 * errors[other]))
            scalars[name] = {"value": value, "low": low, "high": high, "meaning": meaning, "share": True}
        objects = int(judged.truth.plain.sum())
        ap, ap50 = scalars["ap"], scalars["ap50"]
        return {
            "samples": judged.pictures,
            "objects": objects,
            "detections": len(judged.found),
            "classes": list(self.classes),
            "best": self.best,
            "sentence": (
                f"Average precision is {ap['value']:.1%} (95 % interval {ap['low']:.1%} to {ap['high']:.1%}), "
                f"{ap50['value']:.1%} at IoU 0.5, on {objects:,} objects of {judged.pictures:,} pictures."
            ),
            "scalars": scalars,
            "resamples": resamples,
            "voc07": self.voc("voc07"),
            "voc12": self.voc("voc12"),
            "per_class": self.per_class(),
            "per_size": self.per_size(),
            "curves": self.curves(),
            "thresholds": self.thresholds,
            "thresholds_given": self.given is not None,
            "confusion": self.confusion().tolist(),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """AP and AP50, and at the thresholds precision, recall and F1 at IoU 0.5; None where it is 0/0."""
        judged, thresholds, size = self.judged, self.thresholds, len(self.classes)
        found, truth, matches = judged.found, judged.truth, judged.matches
        shown = (found.scores >= torch.tensor(thresholds)[found.labels]) & ~matches.ignored
        said = torch.bincount(found.labels[shown], minlength=size)
        hits = torch.bincount(found.labels[shown & (matches.truths >= 0)], minlength=size)
        there = torch.bincount(truth.labels[truth.plain], minlength=size)
        said, hits, there = said.double(), hits.double(), there.double()
        return [
            {
                "class": name,
                "ap": mean_counted(judged.precision[:, :, k, ALL, HUNDRED]),
                "ap50": mean_counted(judged.precision[0, :, k, ALL, HUNDRED]),
                "precision": float(hits[k] / said[k]) if said[k] else None,
                "recall": float(hits[k] / there[k]) if there[k] else None,
                "f1": float(f1_of(hits[k], said[k], there[k])) if there[k] else None,
                "threshold": thresholds[k],
                "count": int(there[k]),
            }
            for k, name in enumerate(self.classes)
        ]

    def per_size(self) -> list[dict[str, Any]]:
        """AP, AP50, AR100 and the number of objects of each of COCO's size bands; None where it is empty."""
        judged = self.judged
        areas = judged.truth.areas[judged.truth.plain]
        rows = []
        for band, name in ((SMALL, "small"), (MEDIUM, "medium"), (LARGE, "large")):
            low, high = BANDS[band]
            rows.append(
                {
                    "size": name,
                    "ap": mean_counted(judged.precision[:, :, :, band, HUNDRED]),
                    "ap50": mean_counted(judged.precision[0, :, :, band, HUNDRED]),
                    "ar100": mean_counted(judged.recall[:, :, band, HUNDRED]),
                    "count": int(((areas >= low) & (areas <= high)).sum()),
                }
            )
        return rows

    def curves(self) -> list[list[float] | None]:
        """Of each class the best precision at IoU 0.5 from recall 0, 0.01 … 1 on; None where it has no object."""
        columns = self.judged.precision[0, :, :, ALL, HUNDRED].T  # [K, 101]
        return [None if column[0] < 0 else [round(float(value), 5) for value in column] for column in columns]

    def confusion(self, threshold: Threshold = None, iou: float = 0.5) -> Tensor:
        """What is taken for what, int64 [K+1, K+1]: rows are the truth, columns what was said, the last is background.

        Detections meet objects of their own class first, as for AP; what is left may meet what is left of other
        classes. The last column has objects that nothing met, the last row detections that met nothing. Crowds and
        difficult objects do not count, nor do detections that lie on them.

        Args:
            threshold: the least score, of all or of each class; the stored ones when not given.
            iou: the least overlap.
        """
        found, truth, size = self.shown(threshold), self.judged.truth, len(self.classes) + 1
        matches = match(found, truth, self.judged.pictures, iou)
        met = torch.maximum(matches.truths, matches.confused)
        hit, alarm = met >= 0, (met < 0) & ~matches.ignored
        left = truth.plain
        left[met[hit]] = False
        missed = truth.labels[left]
        rows = torch.cat([truth.labels[met[hit]], torch.full_like(found.labels[alarm], size - 1), missed])
        columns = torch.cat([found.labels[hit], found.labels[alarm], torch.full_like(missed, size - 1)])
        return torch.bincount(rows * size + columns, minlength=size**2).reshape(size, size)

    def misses(self, threshold: Threshold = None, iou: float = 0.5) -> list[dict[str, Any]]:
        """Objects that no detection of their class found, the largest first: {picture, box, class, area, score, said}.

        `score` is that of the detection that would have found it under a lower threshold, or 0; `said` the class that
        it was taken for, or None.
        """
        judged, found = self.judged, self.shown(threshold)
        truth = judged.truth
        matches, every = match(found, truth, judged.pictures, iou), judged.matches
        if iou != 0.5:
            every = match(judged.found, truth, judged.pictures, iou)
        taken_for, score = torch.full((len(truth),), -1), torch.zeros(len(truth))
        taken_for[matches.confused[matches.confused >= 0]] = found.labels[matches.confused >= 0]
        score[every.truths[every.truths >= 0]] = judged.found.scores[every.truths >= 0]
        rows = matches.missed(truth).nonzero()[:, 0]
        rows = rows[truth.areas[rows].argsort(descending=True, stable=True)]
        return [
            {
                "picture": int(truth.pictures[row]),
                "box": truth.boxes[row].tolist(),
                "class": self.classes[int(truth.labels[row])],
                "area": float(truth.areas[row]),
                "score": float(score[row]),
                "said": self.classes[int(taken_for[row])] if taken_for[row] >= 0 else None,
            }
            for row in rows.tolist()
        ]

    def false_alarms(self, threshold: Threshold = None, iou: float = 0.5) -> list[dict[str, Any]]:
        """Detections that found no object of their class, surest first: {picture, box, class, score, overlap, true}.

        `overlap` is the IoU with the nearest object of the class: under `iou` the box is off, above it the object was
        found twice. `true` is the class of the object that it mistook, or None.
        """
        judged, found = self.judged, self.shown(threshold)
        matches = match(found, judged.truth, judged.pictures, iou)
        rows = ((matches.truths < 0) & ~matches.ignored).nonzero()[:, 0]
        rows = rows[found.scores[rows].argsort(descending=True, stable=True)]
        return [
            {
                "picture": int(found.pictures[row]),
                "box": found.boxes[row].tolist(),
                "class": self.classes[int(found.labels[row])],
                "score": float(found.scores[row]),
                "overlap": float(matches.overlaps[row]),
                "true": self.classes[int(judged.truth.labels[object])] if object >= 0 else None,
            }
            for row, object in zip(rows.tolist(), matches.confused[rows].tolist(), strict=True)
        ]

    def shown(self, threshold: Threshold = None) -> Found:
        """The detections whose score is at least the threshold of their class."""
        least = torch.as_tensor(self.thresholds if threshold is None else threshold, dtype=torch.float32)
        found = self.judged.found
        return found.where(found.scores >= least.expand(len(self.classes))[found.labels])
