"""How a trained model's answers hold when pictures get harder: its best metric over graded disturbances."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from striate.data.corruptions import CORRUPTIONS, Corruption, disturb, graded
from striate.data.loaders import Split
from striate.data.seeds import seed_of
from striate.data.targets import target_names
from striate.errors import UsageError, did_you_mean
from striate.files import refuse_overwrite, write_atomic
from striate.inference.evaluate import labelled_samples
from striate.inference.predictor import automatic_batch
from striate.inference.sources import Source
from striate.results import Result
from striate.robustness.figure import DPI, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.model import Model

MOST_STRENGTHS = 10  # columns that one can still look at
CANDIDATES = 16  # for the example


@dataclass(frozen=True, slots=True)
class Grade:
    """One strength of one disturbance.

    Attributes:
        strength: in the disturbance's unit; 0 is the picture as it is.
        value: the best metric over all pictures, so disturbed.
        picture: the example, so disturbed: uint8 [C, H, W].
        result: what the model says of it.
    """

    strength: float
    value: float
    picture: Tensor
    result: Result

    @property
    def right(self) -> bool | None:
        return self.result.correct


@dataclass(frozen=True, slots=True)
class Curve:
    """The grades of one disturbance, rising.

    Attributes:
        kept: the mean value over its grades, relative to that of undisturbed pictures (of an error the other way
            round); None where that is 0 or less.
    """

    name: str
    grades: list[Grade]
    kept: float | None

    @property
    def disturbance(self) -> Corruption:
        return CORRUPTIONS[self.name]

    @property
    def strengths(self) -> list[float]:
        return [grade.strength for grade in self.grades]

    @property
    def values(self) -> list[float]:
        return [grade.value for grade in self.grades]


@dataclass(frozen=True)
class Robustness:
    """How a model's best metric falls with each disturbance.

    Attributes:
        split: judged on.
        metric: the task's best one, by name. mode: whether a larger (`max`) or a smaller value of it is better.
        clean: pictures as they are.
        curves: by the name of the disturbance.
        count: pictures judged.
        skipped: a message for each picture that could not be read.
    """

    split: str
    metric: str
    clean: Grade
    curves: dict[str, Curve]
    count: int
    skipped: list[str]
    seed: int
    mode: str = "max"

    def __getitem__(self, name: str) -> Curve:
        return self.curves[name]

    @property
    def weakest(self) -> Curve:
        """The disturbance that costs most, over the mean of its grades."""
        return min(self.curves.values(), key=lambda curve: self._worth(fmean(curve.values)))

    def _worth(self, value: float) -> float:
        return value if self.mode == "max" else -value

    @property
    def sentence(self) -> str:
        """Where the model is weakest, for a person who reads one line."""
        curve, metric, clean = self.weakest, self.metric, self.clean.value
        worst = min(reversed(curve.grades), key=lambda grade: self._worth(grade.value))
        if self._worth(worst.value) >= self._worth(clean):
            return f"nothing tried costs anything: undisturbed, {metric} is {clean:.2f}"
        kept = "" if curve.kept is None else f"; over all its strengths {100 * curve.kept:.0f} % is kept"
        by = curve.disturbance.write(worst.strength)
        goes = "falls" if self.mode == "max" else "rises"
        return f"{curve.name} costs most: by {by}, {metric} {goes} from {clean:.2f} to {worst.value:.2f}{kept}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "count": self.count,
            "seed": self.seed,
            "metric": self.metric,
            "clean": self.clean.value,
            "weakest": self.weakest.name,
            "sentence": self.sentence,
            "disturbances": {
                curve.name: {
                    "unit": curve.disturbance.unit,
                    "strengths": curve.strengths,
                    "values": curve.values,
                    "kept": curve.kept,
                }
                for curve in self.curves.values()
            },
            "example": self.clean.result.source.name,
            "skipped": self.skipped,
        }

    def figure(self, title: str = "") -> Figure:
        """A row a disturbance: its curve, and the example at each strength with what the model says of it."""
        return draw(self, title)

    def save(self, path: str | Path, overwrite: bool = False, title: str = "") -> Path:
        """Write the picture, or with a name ending in `.json` the numbers.

        Raises:
            UsageError: a file stands there, or its ending is of no known format.
        """
        path = writable(path, overwrite)
        if path.suffix.lower() == ".json":
            return write_atomic(path, json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n")
        content = BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks: a box is drawn
            self.figure(title).savefig(content, format=path.suffix[1:].lower(), dpi=DPI)
        return write_atomic(path, content.getvalue())


def writable(path: str | Path, overwrite: bool) -> Path:
    """The path, if `Robustness.save` can write there: to be asked before the long work.

    Raises:
        UsageError: a file stands there, or its ending is of no known format.
    """
    path = refuse_overwrite(path, overwrite)
    if path.suffix.lower() not in (".json", ".png", ".jpg", ".svg", ".pdf"):
        raise UsageError(f'{path}: "{path.suffix}" is not a format to draw in; use .png, .jpg, .svg or .pdf')
    return path


def measure_robustness(
    model: Model,
    data: str,
    split: str | None = None,
    *,
    only: Sequence[str] | None = None,
    strengths: int = 5,
    limit: int | None = None,
    seed: int = 0,
    download: bool = False,
    progress: Callable[[int, int], object] = lambda judged, total: None,
) -> Robustness:
    """The best metric on a split as it is, and with each disturbance at each strength.

    Pictures are read once: every disturbance is applied to a batch while it is at hand. The same seed gives the same
    pixels, whatever the batch, the limit and the other disturbances.

    Args:
        data, split, download: as for `evaluate_model`.
        only: names out of CORRUPTIONS; all when not given.
        strengths: how many grades, 1..10; 5 are those of the table, other numbers lie on the line through them.
        limit: at most so many pictures, drawn at random.
        progress: told how many pictures are judged, of how many.

    Raises:
        DataError: as `evaluate_model`.
        UsageError: no such disturbance, or a number out of its range.
    """
    names = known_names(only)
    if not 1 <= strengths <= MOST_STRENGTHS:
        raise UsageError(f"strengths must be a number from 1 to {MOST_STRENGTHS}, not {strengths}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    chosen, samples = labelled_samples(model, data, split, download)
    if limit is not None and limit < len(samples):
        generator = torch.Generator().manual_seed(seed_of(seed, "limit"))
        samples = [
            samples[index] for index in sorted(torch.randperm(len(samples), generator=generator)[:limit].tolist())
        ]
    task, preprocess = model.task, model.card.preprocess
    pictures = Split(samples, task.collate, preprocess, target_transform=task.target_transform)
    grades = {name: graded(CORRUPTIONS[name].strengths, strengths) for name in names}
    kinds = [("", 0.0)] + [(name, strength) for name in names for strength in grades[name]]
    metrics = {kind: task.metrics() for kind in kinds}
    generator = torch.Generator().manual_seed(seed_of(seed, "example"))
    drawn = set(torch.randperm(len(pictures), generator=generator)[:CANDIDATES].tolist())
    candidates: list[Candidate] = []
    judged = 0
    for batch in pictures.eval_batches(automatic_batch(preprocess.size, model.device)):
        pictures.skipped.extend(batch.skipped)
        members = [pictures.samples[index] for index in batch.indices.tolist()]
        places = [sample.name for sample in members]
        # should none of those drawn be readable, the first picture that is
        rows = [at for at, index in enumerate(batch.indices.tolist()) if index in drawn] or [0] * (not candidates)
        found = [Candidate(members[at].name, batch.images[at].clone(), {}) for at in rows]
        sources = [
            Source(members[at].name, members[at].image, target_names(members[at].target, task.classes)) for at in rows
        ]
        for name, strength in kinds:
            images = disturb(batch.images, name, strength, seed, places) if name else batch.images
            predictions = model.predictor.predict(images, batch.sizes)
            metrics[name, strength].update(predictions, task.collate(batch.references))
            for candidate, row, source in zip(found, rows, sources, strict=True):
                candidate.results[name, strength] = task.to_result(predictions[row], source)
        candidates += found
        judged += len(members)
        progress(judged, len(pictures))
    best, mode = metrics["", 0.0].best, metrics["", 0.0].mode
    values = {kind: metric.compute()[best] for kind, metric in metrics.items()}
    example = typical(candidates)

    def grade(name: str, strength: float) -> Grade:
        picture = example.picture[None]
        if name:
            picture = disturb(picture, name, strength, seed, [example.place])
        return Grade(strength, values[name, strength], picture[0], example.results[name, strength])

    clean = grade("", 0.0)
    curves = {}
    for name in names:
        rising = [grade(name, strength) for strength in grades[name]]
        mean = fmean(one.value for one in rising)
        worse, better = (mean, clean.value) if mode == "max" else (clean.value, mean)
        kept = worse / better if better > 0 else None
        curves[name] = Curve(name, rising, kept)
    return Robustness(chosen, best, clean, curves, judged, pictures.skipped, seed, mode)


class Candidate(NamedTuple):
    """A picture that may become the example: its name, uint8 [C, H, W], and what is said of it, however disturbed."""

    place: str
    picture: Tensor
    results: dict[tuple[str, float], Result]


def typical(candidates: Sequence[Candidate]) -> Candidate:
    """Of those that are right undisturbed, if any is, the one that is right about as often as they are on average."""
    right = torch.tensor([[float(one.correct or 0) for one in each.results.values()] for each in candidates])
    fit = (right[:, 0] == right[:, 0].max()).nonzero().flatten()
    often = right[fit].mean(1)
    return candidates[int(fit[(often - often.mean()).abs().argmin()])]


def known_names(only: Sequence[str] | None) -> list[str]:
    """The disturbances asked for, each once, in their order in the table."""
    if only is None:
        return list(CORRUPTIONS)
    for name in only:
        if name not in CORRUPTIONS:
            raise UsageError(
                f'there is no disturbance "{name}"; there are {", ".join(CORRUPTIONS)}.'
                f"{did_you_mean(name, CORRUPTIONS)}"
            )
    if not only:
        raise UsageError(f"no disturbance is named; there are {', '.join(CORRUPTIONS)}")
    return [name for name in CORRUPTIONS if name in only]
