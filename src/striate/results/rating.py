"""How people would grade a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.results.result import Result, as_pillow
from striate.results.words import finite, visible

if TYPE_CHECKING:
    from striate.inference.sources import Source


@dataclass(frozen=True, slots=True, eq=False)
class Rating(Result):
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

    def confidence_of(self, label: int) -> float:
        """The share of the grade."""
        return float(self.shares[label])

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, score, spread, the share of each grade; target where known."""
        found: dict[str, Any] = {"source": self.source.name}
        found |= {"score": finite(self.score), "spread": finite(self.spread)}
        found["shares"] = {
            f"{g:g}": finite(round(s, 5)) for g, s in zip(self.grades, self.shares.tolist(), strict=True)
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

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture over the histogram of its grades."""
        from striate.drawing import with_histogram

        picture = as_pillow(self.source.load() if image is None else image)
        return with_histogram(picture, self.grades, self.shares.tolist(), self.score, self.spread)
