"""How people would grade a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.results.result import as_pillow, save_result
from striate.results.words import finite, visible

if TYPE_CHECKING:
    from striate.inference.sources import Source


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
    placed: ClassVar[bool] = False

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
