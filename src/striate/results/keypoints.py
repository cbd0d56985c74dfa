"""Where named points of a picture are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.drawing import draw_points
from striate.results.result import as_pillow, save_result
from striate.results.words import visible

if TYPE_CHECKING:
    from striate.inference.sources import Source

INK = "#f97316"


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
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

    @property
    def correct(self) -> None:
        """Points are near or far, never right or wrong."""
        return None

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

    def __str__(self) -> str:
        return self.describe()

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The picture with its points, joined where they are known to be of one line; unsure ones are hollow.

        Args:
            image: the picture, if at hand; by default it is read again from its source.

        Raises:
            ImageError: it can no longer be read.
        """
        picture = as_pillow(self.source.load() if image is None else image)
        return draw_points(picture, self.points, self.lines, INK)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the drawn picture, or with a name ending in `.json` the numbers.

        Raises:
            UsageError: a file stands there, or its ending is of no known format.
        """
        return save_result(self, path, overwrite)

    def show(self) -> None:
        """Open the drawn picture in the system's viewer."""
        self.draw().show()


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
