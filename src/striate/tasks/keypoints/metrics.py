"""Judging points: how far off, measured by the size of what they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from striate.errors import DataError, UsageError
from striate.tasks.bootstrap import RESAMPLES, bootstrap_mean, interval
from striate.tasks.keypoints.schemes import Scheme
from striate.tasks.metrics import Predictions, RowMetrics, as_rows

FAILED = 0.1  # of the unit: a picture whose mean error is above has failed, as 300-W counts it
ALONE = 100.0  # pixels: the unit where a picture can have but one point

DESCRIPTIONS = {  # what each scalar means, for people
    "nme": "normalised mean error: mean distance of said and true point in units of the face or body; lower is better; "
    "this one decides which weights are kept",
    "auc": "area under the curve of pictures by error, up to a tenth of the unit; 1 is perfect",
    "failures": "pictures whose mean error is above a tenth of the unit; lower is better",
    "pck_05": "points within a twentieth of the unit (PCK@0.05)",
    "pck_10": "points within a tenth of the unit (PCK@0.1)",
    "pixels": "mean distance in pixels of the pictures; lower is better",
}
SHARES = ("auc", "failures", "pck_05", "pck_10")
PCK = {"pck_05": 0.05, "pck_10": 0.1}


def units(truth: Tensor, scheme: Scheme) -> Tensor:
    """What measures errors in each picture, float64 [N], in pixels; NaN where it has none.

    The distance of the scheme's two points (outer eye corners), else the diagonal of the box around the known points;
    100 pixels where there is but one point to know.

    Args:
        truth: float [N, K, 3].
    """
    points, known = truth[..., :2].double(), truth[..., 2] > 0
    if truth.shape[1] == 1:
        unit = torch.full((len(truth),), ALONE, dtype=torch.float64).where(known[:, 0], torch.tensor(float("nan")))
    elif scheme.unit is not None:
        one, other = scheme.unit
        unit = (points[:, one] - points[:, other]).norm(dim=1)
        unit[~(known[:, one] & known[:, other])] = float("nan")
    else:
        far = torch.tensor(float("inf"), dtype=torch.float64)
        low = points.where(known[..., None], far).amin(1)
        high = points.where(known[..., None], -far).amax(1)
        unit = (high - low).norm(dim=1)
    return unit.where((unit > 0) & unit.isfinite(), torch.tensor(float("nan"), dtype=torch.float64))


class KeypointMetrics(RowMetrics):
    """Points said and true of each picture, and what follows.

    Attributes:
        best: NME, which unlike PCK and AUC still tells bad networks from worse ones in the first epochs.
    """

    best = "nme"
    mode = "min"

    def __init__(self, classes: Sequence[str], scheme: Scheme) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.scheme = scheme

    def update(self, predictions: Predictions, targets: Tensor) -> None:
        """Take a batch, both in pixels of the pictures as they were read.

        Args:
            predictions: B times float [K, 3]: x, y, how sure.
            targets: float [B, K, 3]: x, y, known.
        """
        outputs, expected = as_rows(predictions), (len(self.classes), 3)
        if outputs.shape != targets.shape or outputs.ndim != 3 or tuple(outputs.shape[1:]) != expected:
            raise UsageError(
                f"points are {list(outputs.shape)} and targets {list(targets.shape)}, expected [B, {expected[0]}, 3]"
            )
        self.keep(outputs, targets)

    def errors(self) -> Tensor:
        """Distance of each point in units of its picture, float64 [N, K]; NaN where the point or the unit is unknown.

        Raises:
            DataError: no picture can be judged.
        """
        distances = self.distances()
        _, truth = self.gathered()
        found = distances / units(truth, self.scheme)[:, None]
        if bool(found.isnan().all()):
            raise DataError("no picture has points to judge by: none is known, or all of a picture's lie on one place")
        return found

    def distances(self) -> Tensor:
        """Distance of each point in pixels, float64 [N, K]; NaN where the point is unknown."""
        said, truth = self.gathered()
        distances = (said[..., :2].double() - truth[..., :2].double()).norm(dim=2)
        return distances.where(truth[..., 2] > 0, torch.tensor(float("nan"), dtype=torch.float64))

    def of_pictures(self) -> dict[str, Tensor]:
        """Each scalar's value for every picture that can be judged, float64 [M]; the scalar is their mean."""
        errors = self.errors()
        judged = ~errors.isnan().all(1)
        errors = errors[judged]
        known = ~errors.isnan()
        nme = errors.nanmean(1)
        found = {"nme": nme}
        # the area under a picture's own step, cut at FAILED, is what is left of FAILED after its error
        found |= {"auc": (1 - nme / FAILED).clamp(min=0), "failures": (nme > FAILED).double()}
        for name, share in PCK.items():
            found[name] = ((errors <= share) & known).sum(1) / known.sum(1).double()
        return found | {"pixels": self.distances()[judged].nanmean(1)}

    def compute(self) -> dict[str, float]:
        """The scalars: means over pictures.

        Raises:
            DataError: nothing to judge.
        """
        return {name: float(values.mean()) for name, values in self.of_pictures().items()}

    def of_points(self) -> Tensor:
        """Mean error of each point in units, float64 [K]; NaN where it is never known."""
        return self.errors().nanmean(0)

    def full(self, seed: int = 0) -> dict[str, Any]:
        """Everything, ready for JSON: scalars with 95 % intervals (percentile bootstrap over pictures), every point."""
        generator = torch.Generator().manual_seed(seed)
        scalars: dict[str, Any] = {}
        for name, values in self.of_pictures().items():
            low, high = interval(bootstrap_mean(values, generator))
            meaning = {"meaning": DESCRIPTIONS[name], "share": name in SHARES}
            scalars[name] = {"value": float(values.mean()), "low": low, "high": high, **meaning}
        samples, judged = len(self.gathered()[0]), len(self.of_pictures()["nme"])
        nme = scalars["nme"]
        return {
            "samples": samples,
            "judged": judged,
            "unit": self.unit_name,
            "best": self.best,
            "sentence": (
                f"Points are off by {100 * nme['value']:.2f} % of {self.unit_name} on {judged:,} pictures "
                f"(95 % interval {100 * nme['low']:.2f} to {100 * nme['high']:.2f}); "
                f"{100 * scalars['failures']['value']:.1f} % of the pictures fail."
            ),
            "scalars": scalars,
            "points": {
                name: None if error != error else error
                for name, error in zip(self.classes, self.of_points().tolist(), strict=True)
            },
            "resamples": RESAMPLES,
        }

    @property
    def unit_name(self) -> str:
        if len(self.classes) == 1:
            return f"{ALONE:g} pixels"
        if self.scheme.unit is None:
            return "the diagonal of the box around the points"
        one, other = (self.classes[index] for index in self.scheme.unit)
        return f"the distance of points {one} and {other}"
