"""What a kind of target knows: how it is read, where it goes with its picture, which classes it holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from striate.data.geometry import Affine, hflip

if TYPE_CHECKING:
    from PIL import Image

    from striate.data.targets.objects import Objects

Names = str | tuple[str, ...] | float | None
Stratum = int | tuple[int, ...] | float | None


class Target(ABC):
    """One picture's target. Those with a body here are what a label of a whole picture wants."""

    __slots__ = ()

    spatial: ClassVar[bool] = False  # it is somewhere in the picture, and moves with it

    @property
    def lazy(self) -> bool:
        """It is large, and made where its picture is read (`load`), never kept."""
        return False

    def load(self, size: tuple[int, int]) -> Target:
        """With all that lies in files read, for a picture of (height, width); called where pictures are read."""
        return self

    def warp(self, by: Affine, size: tuple[int, int]) -> Target:
        """After its picture went through `by` and was cut to (height, width)."""
        return self

    def hflip(self, size: tuple[int, int], pairs: tuple[int, ...] | None = None) -> Target | None:
        """After its picture of (height, width) was flipped left to right; None where that must not be.

        Args:
            pairs: of landmarks, which becomes which.
        """
        return self.warp(hflip(size[1]), size)

    def joined(self, others: Sequence[Any]) -> Target:
        """Of several pictures laid on one canvas, each with its target in the canvas' pixels: the target of all."""
        return self

    @abstractmethod
    def class_ids(self) -> tuple[int, ...]:
        """The classes that it stands for, each as often as it does."""

    def objects(self) -> Objects | None:
        """The objects that it lists one by one; None where it lists none."""
        return None

    def stratum(self) -> Stratum:
        """What held-out samples are balanced by: a class, a set of classes, a number to be ranked, or nothing."""
        return None

    @abstractmethod
    def remap(self, index: Sequence[int], count: int) -> Target:
        """The same for other classes: `index[i]` of `count` is what class i is among them."""

    def names(self, classes: Sequence[str]) -> Names:
        """As people read it: a name, several names, a number; None where a few words will not do."""
        return None

    @abstractmethod
    def digest(self) -> bytes:
        """All that it says, for a fingerprint of the data; files are not opened."""

    def describe(self, classes: Sequence[str]) -> str:
        """A few words to stand under the picture; empty where there is nothing to say."""
        names = self.names(classes)
        if isinstance(names, tuple):
            return ", ".join(names)
        return f"{names:.2f}" if isinstance(names, float) else str(names or "")

    def draw(self, image: Image.Image, scale: tuple[float, float], classes: Sequence[str]) -> Image.Image:
        """It on its picture, an RGB image that is `scale` (x, y) times the size at which the target is."""
        return image


def content(values: Tensor) -> bytes:
    """All of a tensor, for a digest: the repr of a long one leaves out its middle."""
    return values.contiguous().numpy().tobytes()
