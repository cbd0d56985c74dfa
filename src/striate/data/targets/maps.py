"""Targets that say something of every pixel. Their files are read where the picture is read, and never kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.data.geometry import Affine, warp
from striate.data.targets.target import Target, content
from striate.errors import ImageError
from striate.images import read_image

IGNORE = 255  # in a segmentation map: a pixel of no class, neither learnt nor evaluated


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationMap(Target):
    """The class of every pixel.

    Attributes:
        values: a file of class indices (an index or grey picture, one channel), or once loaded uint8 [H, W]; IGNORE is
            no class.
        table: what each index of the file is among the classes, where it is another.
    """

    values: str | Path | Tensor
    table: tuple[int, ...] | None = None

    spatial: ClassVar[bool] = True

    @property
    def lazy(self) -> bool:
        return True

    def load(self, size: tuple[int, int]) -> SegmentationMap:
        """A map of another size than its picture is brought to that, each pixel the nearest one's.

        Raises:
            ImageError: the file cannot be read.
        """
        values = self._indices()
        if tuple(values.shape) != size:
            by = Affine(size[1] / values.shape[1], 0.0, 0.0, 0.0, size[0] / values.shape[0], 0.0)
            values = warp(values[None], by, size, IGNORE, "nearest")[0]
        return SegmentationMap(values)

    def _indices(self) -> Tensor:
        values = self.values if isinstance(self.values, Tensor) else read_index_map(self.values)
        if self.table is None:
            return values
        table = torch.full((256,), IGNORE, dtype=torch.uint8)
        table[: len(self.table)] = torch.tensor(self.table, dtype=torch.uint8)
        return table[values.long()]

    def warp(self, by: Affine, size: tuple[int, int]) -> SegmentationMap:
        return SegmentationMap(warp(self._indices()[None], by, size, IGNORE, "nearest")[0])

    def joined(self, others: Sequence[SegmentationMap]) -> SegmentationMap:
        values = self._indices()
        for other in others:
            theirs = other._indices()
            values = torch.where(theirs == IGNORE, values, theirs)
        return SegmentationMap(values)

    def class_ids(self) -> tuple[int, ...]:
        """The classes on the picture, each once; a file is read for it."""
        return tuple(label for label in self._indices().unique().tolist() if label != IGNORE)

    def remap(self, index: Sequence[int], count: int) -> SegmentationMap:
        table = tuple(index) if self.table is None else tuple(index[i] if i < len(index) else i for i in self.table)
        return SegmentationMap(self.values, table)

    def digest(self) -> bytes:
        told = content(self.values) if isinstance(self.values, Tensor) else Path(self.values).name.encode()
        return told + repr(self.table).encode()

    def describe(self, classes: Sequence[str]) -> str:
        return ", ".join(classes[label] for label in self.class_ids() if label < len(classes))

    def draw(self, image: Image.Image, scale: tuple[float, float], classes: Sequence[str]) -> Image.Image:
        from striate.drawing import draw_map

        return draw_map(image, self._indices(), IGNORE)


@dataclass(frozen=True, slots=True, eq=False)
class ImageTarget(Target):
    """Another picture, which the network is to make of this one.

    Attributes:
        image: a file, or once loaded uint8 [C, H, W], at the picture's size or, of a network that enlarges, a whole
            number of times that.
    """

    image: str | Path | Tensor

    spatial: ClassVar[bool] = True

    @property
    def lazy(self) -> bool:
        return True

    def load(self, size: tuple[int, int]) -> ImageTarget:
        return ImageTarget(self.pixels())

    def pixels(self) -> Tensor:
        """uint8 [C, H, W].

        Raises:
            ImageError: the file cannot be read.
        """
        return self.image if isinstance(self.image, Tensor) else read_image(self.image)

    def warp(self, by: Affine, size: tuple[int, int]) -> ImageTarget:
        return ImageTarget(warp(self.pixels(), by, size))

    def joined(self, others: Sequence[ImageTarget]) -> ImageTarget:
        """Each is black outside its part of the canvas."""
        return ImageTarget(torch.stack([one.pixels() for one in (self, *others)]).amax(0))

    def class_ids(self) -> tuple[int, ...]:
        return ()

    def remap(self, index: Sequence[int], count: int) -> ImageTarget:
        return self

    def digest(self) -> bytes:
        return content(self.image) if isinstance(self.image, Tensor) else Path(self.image).name.encode()


def read_index_map(path: str | Path) -> Tensor:
    """uint8 [H, W]: the indices of a palette picture, or the values of a grey one.

    Raises:
        ImageError: it cannot be read, or has colours instead of indices.
    """
    try:
        with Image.open(path) as file:
            if file.mode not in ("P", "L", "1"):
                raise ImageError(f"{path}: a segmentation map has one channel of class indices, this has {file.mode}")
            return torch.from_numpy(np.array(file.convert("L") if file.mode == "1" else file))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as a segmentation map ({error})") from None
