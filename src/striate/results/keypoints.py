"""Where named points of a picture are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.drawing import draw_points
from striate.results.result import Result, as_pillow
from striate.results.words import visible

if TYPE_CHECKING:
    from striate.inference.sources import Source

INK = "#f97316"


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints(Result):
    """Where K points of one picture are.

    Attributes:
        source: the picture; it is read again to be drawn.
        names: K names.
        points: float [K, 3] on the CPU: x, y in pixels of the picture as it was read, and how sure, 0..1.
        lines: pairs of points that a drawing joins.
    """

    source: Source
    names: tuple[str, ...]
    points: Tensor
    lines: tuple[tuple[int, int], ...] = ()

    columns: ClassVar[tuple[str, ...]] = ("source", "sure", "error", "points")
    placed: ClassVar[bool] = True

    def __getitem__(self, name: str) -> tuple[float, float]:
        """x and y of the point of that name.

        Raises:
            KeyError: no such point.
        """
        if name not in self.names:
            raise KeyError(name)
        x, y, _ = self.points[self.names.index(name)].tolist()
        return x, y

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sure(self) -> float:
        """How sure the network is of its points, the mean, 0..1; 1 from networks that cannot say."""
        return float(self.points[:, 2].mean())

    def confidence_of(self, label: int) -> float:
        """How sure the network is of that point."""
        return float(self.points[label, 2])

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """JSON-able (RFC 8259: no NaN): source, sure, each point by its name as x, y, sure; `top`: so many."""
        points = {
            name: [_rounded(value, digits) for value, digits in zip(row, (2, 2, 4), strict=True)]
            for name, row in list(zip(self.names, self.points.tolist(), strict=True))[:top]
        }
        return {"source": self.source.name, "sure": _rounded(self.sure, 4), "points": points}

    def describe(self, top: int = 3) -> str:
        """One line: `face.jpg: 68 points from (41, 52) to (180, 201), 93 % sure`."""
        (left, up), (right, down) = (
            [round(value) for value in ends]
            for ends in (self.points[:, :2].amin(0).tolist(), self.points[:, :2].amax(0).tolist())
        )
        count = f"{len(self)} points" if len(self) > 1 else "1 point"
        where = f"from ({left}, {up}) to ({right}, {down})" if len(self) > 1 else f"at ({left}, {up})"
        return f"{visible(self.source.name)}: {count} {where}, {100 * self.sure:.0f} % sure"

    def caption(self) -> str:
        """A few words to stand under a small picture: `68 points`."""
        return f"{len(self)} points" if len(self) > 1 else "1 point"

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture with its points, joined where they are known to be of one line; unsure ones are hollow."""
        picture = as_pillow(self.source.load() if image is None else image)
        return draw_points(picture, self.points, self.lines, INK)


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
