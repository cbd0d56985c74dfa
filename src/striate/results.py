"""What a prediction is: typed results that print, draw, save and become JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Protocol

from PIL import Image
from torch import Tensor

from striate.errors import UsageError
from striate.files import refuse_overwrite, write_atomic
from striate.sources import Source


class Result(Protocol):
    """What every task's result can do."""

    columns: ClassVar[tuple[str, ...]]  # keys of `to_dict` that make a table

    @property
    def source(self) -> Source: ...
    @property
    def correct(self) -> bool | None: ...
    def to_dict(self, top: int = 5) -> dict[str, Any]: ...
    def describe(self, top: int = 3) -> str: ...
    def caption(self) -> str: ...
    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image: ...
    def save(self, path: str | Path, overwrite: bool = False) -> Path: ...
    def show(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be predicted on, and why."""

    source: Source
    error: str

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source.name, "error": self.error}

    def __str__(self) -> str:
        return visible(self.error)


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What is on one picture.

    Attributes:
        source: the picture; it is read again to be drawn.
        classes: K names.
        probabilities: float [K] on the CPU.
        thresholds: K numbers, from which probability on a label holds, when several may; None: exactly one holds.
    """

    source: Source
    classes: tuple[str, ...]
    probabilities: Tensor
    thresholds: Sequence[float] | None = None

    columns: ClassVar[tuple[str, ...]] = ("source", "label", "confidence", "target", "correct", "error", "top")

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable labels, best first; equal ones in the order of the classes."""
        values, order = self.probabilities.float().sort(descending=True, stable=True)
        pairs = zip(order[:k].tolist(), values[:k].tolist(), strict=True)
        return [(self.classes[index], value) for index, value in pairs]

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.top(1)[0][0]

    @property
    def confidence(self) -> float:
        """The probability of the most probable label."""
        return self.top(1)[0][1]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that hold, most probable first: one, or where several may, those that reach their thresholds."""
        if self.thresholds is None:
            return (self.label,)
        bars = dict(zip(self.classes, self.thresholds, strict=True))
        return tuple(label for label, value in self.top(len(self.classes)) if value >= bars[label])

    @property
    def correct(self) -> bool | None:
        """Whether the labels are those the source is known to have; None where that is unknown."""
        target = self.source.target
        if not isinstance(target, str | tuple):
            return None
        return set(self.labels) == ({target} if isinstance(target, str) else set(target))

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, label or labels, confidence, top; target and correct where known."""
        best = [{"label": label, "probability": _finite(value)} for label, value in self.top(top)]
        found: dict[str, Any] = {"source": self.source.name}
        found |= {"label": self.label} if self.thresholds is None else {"labels": list(self.labels)}
        found |= {"confidence": _finite(self.confidence), "top": best}
        if self.correct is not None:
            target = self.source.target
            shown = list(target) if isinstance(target, tuple) else target
            found |= {"target": shown, "correct": self.correct}
        return found

    def describe(self, top: int = 3) -> str:
        """One line: `cat.jpg: cat 98.1 %  dog 1.2 %`; labels under half a percent are left out."""
        best = [pair for rank, pair in enumerate(self.top(top)) if rank == 0 or pair[1] >= 0.005]
        if self.thresholds is not None:
            held = set(self.labels)
            best = [pair for pair in best if pair[0] in held]
        said = "  ".join(f"{visible(label)} {percent(value)}" for label, value in best) or "none of the labels"
        if self.correct is False:
            said += f"  (wrong: it is {visible(_names(self.source.target))})"
        return f"{visible(self.source.name)}: {said}"

    def caption(self) -> str:
        """A few words to stand under a small picture: `cat 98 %`, and `≠ dog` where it is known to be another."""
        said = ", ".join(self.labels) or "none"
        percents = f" {100 * self.confidence:.0f} %" if len(self.labels) == 1 else ""
        return f"{said}{percents}" + (f" ≠ {_names(self.source.target)}" if self.correct is False else "")

    def __str__(self) -> str:
        return self.describe()

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture over a bar with its three best labels.

        Args:
            image: the picture, if at hand; by default it is read again from its source.

        Raises:
            ImageError: it can no longer be read.
        """
        from striate.drawing import captioned

        held = None if self.correct is None else ("right" if self.correct else "wrong")
        return captioned(as_pillow(self.source.load() if image is None else image), self.top(3), held)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the drawn picture, or with a name ending in `.json` the numbers.

        Raises:
            UsageError: a file stands there, or its ending is of no known format.
        """
        return save_result(self, path, overwrite)

    def show(self) -> None:
        """Open the drawn picture in the system's viewer."""
        self.draw().show()


@dataclass(frozen=True, slots=True, eq=False)
class Rating:
    """How people would grade one picture.

    Attributes:
        source: the picture; it is read again to be drawn.
        grades: K numbers, from low to high.
        shares: float [K] on the CPU: what share of people gives each grade; they add to 1.
    """

    source: Source
    grades: tuple[float, ...]
    shares: Tensor

    columns: ClassVar[tuple[str, ...]] = ("source", "score", "spread", "target", "error", "shares")

    @property
    def score(self) -> float:
        """The mean grade."""
        return sum(grade * share for grade, share in zip(self.grades, self.shares.tolist(), strict=True))

    @property
    def spread(self) -> float:
        """The standard deviation of the grades: how much people quarrel about the picture."""
        mean = self.score
        pairs = zip(self.grades, self.shares.tolist(), strict=True)
        return math.sqrt(sum(share * (grade - mean) ** 2 for grade, share in pairs))

    @property
    def correct(self) -> None:
        """A score is near or far, never right or wrong."""
        return None

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, score, spread, the share of each grade; target where known."""
        found: dict[str, Any] = {"source": self.source.name}
        found |= {"score": _finite(self.score), "spread": _finite(self.spread)}
        found["shares"] = {
            f"{g:g}": _finite(round(s, 5)) for g, s in zip(self.grades, self.shares.tolist(), strict=True)
        }
        if isinstance(self.source.target, float):
            found["target"] = self.source.target
        return found

    def describe(self, top: int = 3) -> str:
        """One line: `dune.jpg: 6.21 ± 1.38 of 1 to 10`."""
        said = f"{self.score:.2f} ± {self.spread:.2f} of {self.grades[0]:g} to {self.grades[-1]:g}"
        target = self.source.target
        voted = f"  (people: {target:.2f})" if isinstance(target, float) else ""
        return f"{visible(self.source.name)}: {said}{voted}"

    def caption(self) -> str:
        """A few words to stand under a small picture: `6.2 ± 1.4`, and `(6.5)` where people's mean is known."""
        target = self.source.target
        return f"{self.score:.1f} ± {self.spread:.1f}" + (f" ({target:.1f})" if isinstance(target, float) else "")

    def __str__(self) -> str:
        return self.describe()

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture over the histogram of its grades.

        Args:
            image: the picture, if at hand; by default it is read again from its source.

        Raises:
            ImageError: it can no longer be read.
        """
        from striate.drawing import with_histogram

        picture = as_pillow(self.source.load() if image is None else image)
        return with_histogram(picture, self.grades, self.shares.tolist(), self.score, self.spread)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the drawn picture, or with a name ending in `.json` the numbers.

        Raises:
            UsageError: a file stands there, or its ending is of no known format.
        """
        return save_result(self, path, overwrite)

    def show(self) -> None:
        """Open the drawn picture in the system's viewer."""
        self.draw().show()


def save_result(result: Result, path: str | Path, overwrite: bool = False) -> Path:
    path = refuse_overwrite(path, overwrite)
    if path.suffix.lower() == ".json":
        return write_atomic(path, json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")
    return save_picture(result.draw(), path)


def save_picture(picture: Image.Image, path: str | Path) -> Path:
    """Write a picture in the format its ending asks for, whole or not at all.

    Raises:
        UsageError: no such format.
    """
    path = Path(path)
    format = Image.registered_extensions().get(path.suffix.lower())
    if format not in Image.SAVE:
        raise UsageError(f'{path}: "{path.suffix}" is not a picture format; use .png, .jpg or .webp')
    buffer = BytesIO()
    picture.save(buffer, format=format, quality=92)
    return write_atomic(path, buffer.getvalue())


def as_pillow(image: Image.Image | Tensor) -> Image.Image:
    """uint8 [1 or 3, H, W] as a PIL image; a PIL image as RGB."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    return Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy())


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def visible(text: str) -> str:
    """Text on one line: line breaks and terminal codes in file names shown as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _names(target: str | tuple[str, ...] | float | None) -> str:
    return ", ".join(target) or "none" if isinstance(target, tuple) else str(target)
