"""What painting gives: the picture, and how the loss fell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from striate.files import refuse_overwrite
from striate.results import as_pillow, save_picture


class Progress(NamedTuple):
    """Where the work stands: which of how many scales, and which step of it; `image()` is the picture so far,
    float [1, 3, H, W] in 0..1."""

    scale: int
    scales: int
    size: int
    step: int
    steps: int
    loss: float
    image: Callable[[], Tensor]


@dataclass(frozen=True)
class Styled:
    """A painted picture.

    Attributes:
        image: uint8 [3, H, W].
        losses: one row a step: size (the scale it belongs to), step, total, and its terms content, style, variation
            before their weights: total = 1000 (content + 50 strength style + 10 smooth variation). Empty where a
            trained network painted.
        seconds: that it took.
    """

    image: Tensor
    losses: list[dict[str, float]] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    def to_pillow(self) -> Image.Image:
        return as_pillow(self.image)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the picture; its ending says the format.

        Raises:
            UsageError: a file stands there, or no such format.
        """
        return save_picture(self.to_pillow(), refuse_overwrite(path, overwrite))

    def show(self) -> None:
        """Open it in the system's viewer."""
        self.to_pillow().show()

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels."""
        height, width = self.image.shape[1:]
        return {"height": height, "width": width, "seconds": round(self.seconds, 2), "losses": self.losses}
