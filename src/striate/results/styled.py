"""A painted picture, and how the loss fell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image
from torch import Tensor

from striate.results.result import Result, as_pillow
from striate.results.words import visible

if TYPE_CHECKING:
    from striate.inference.sources import Source


@dataclass(frozen=True)
class Styled(Result):
    """A picture painted in a style.

    Attributes:
        image: uint8 [3, H, W].
        losses: one row a step: size (the scale it belongs to), step, total, and its terms content, style, variation
            before their weights: total = 1000 (content + 50 strength style + 10 smooth variation). Empty where a
            trained network painted.
        seconds: that it took; 0 where that was not measured.
        source: the photo; None where it was no file.
    """

    image: Tensor
    losses: list[dict[str, float]] = field(default_factory=list, repr=False)
    seconds: float = 0.0
    source: Source | None = None  # type: ignore[assignment]

    columns: ClassVar[tuple[str, ...]] = ("source", "height", "width", "error")

    @property
    def name(self) -> str:
        return visible(self.source.name) if self.source is not None else "a photo"

    def confidence_of(self, label: int) -> float:
        return 0.0

    def to_pillow(self) -> Image.Image:
        return as_pillow(self.image)

    def draw(self, image: Image.Image | Tensor | None = None) -> Image.Image:
        """The painted picture itself."""
        return self.to_pillow()

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """All but the pixels."""
        height, width = self.image.shape[1:]
        told = {"height": height, "width": width, "seconds": round(self.seconds, 2), "losses": self.losses}
        return told if self.source is None else {"source": self.source.name, **told}

    def describe(self, top: int = 3) -> str:
        height, width = self.image.shape[1:]
        return f"{self.name}: painted, {width} × {height}"

    def caption(self) -> str:
        return "painted"
