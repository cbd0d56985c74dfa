"""What is on a picture: one label, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from striate.results.result import Result, as_pillow
from striate.results.words import finite, percent, spelt, visible

if TYPE_CHECKING:
    from striate.inference.sources import Source

LABELS = 5  # told of a picture, unless asked for more or fewer


@dataclass(frozen=True, slots=True, eq=False)
class Classification(Result):
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
    has_answer: ClassVar[bool] = True
    has_confidence: ClassVar[bool] = True

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

    @property
    def answer(self) -> int | tuple[int, ...]:
        if self.thresholds is None:
            return int(self.probabilities.argmax())
        return tuple((self.probabilities >= torch.tensor(self.thresholds)).nonzero().flatten().tolist())

    def confidence_of(self, label: int) -> float:
        return float(self.probabilities[label])

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, label or labels, confidence, top; target and correct where known."""
        best = [
            {"label": label, "probability": finite(value)} for label, value in self.top(LABELS if top is None else top)
        ]
        found: dict[str, Any] = {"source": self.source.name}
        found |= {"label": self.label} if self.thresholds is None else {"labels": list(self.labels)}
        found |= {"confidence": finite(self.confidence), "top": best}
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
            said += f"  (wrong: it is {visible(spelt(self.source.target))})"
        return f"{visible(self.source.name)}: {said}"

    def caption(self) -> str:
        """A few words to stand under a small picture: `cat 98 %`, and `≠ dog` where it is known to be another."""
        said = ", ".join(self.labels) or "none"
        percents = f" {100 * self.confidence:.0f} %" if len(self.labels) == 1 else ""
        return f"{said}{percents}" + (f" ≠ {spelt(self.source.target)}" if self.correct is False else "")

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture over a bar with its three best labels."""
        from striate.drawing import captioned

        held = None if self.correct is None else ("right" if self.correct else "wrong")
        return captioned(as_pillow(self.source.load() if image is None else image), self.top(3), held)
