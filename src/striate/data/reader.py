"""One picture with its target, read, augmented: what reading processes do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from striate.data.geometry import Target
from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.spatial import eval_placed, without_masks
from striate.errors import DataError, ImageError
from striate.images import read_image

if TYPE_CHECKING:
    from striate.data.loaders import Split


def read_sample(sample: Sample) -> Tensor:
    """The picture of a sample, uint8 [3, H, W] from a file, [C, H, W] as it is from memory.

    Raises:
        ImageError: it cannot be read.
    """
    return sample.image if isinstance(sample.image, Tensor) else read_image(sample.image)


class LoadedItem(NamedTuple):
    row: int
    picture: Tensor  # uint8 [C, H, W], as the network sees it
    size: tuple[int, int]  # as it was read
    target: Target  # where it moved with the picture


class LoadError(NamedTuple):
    row: int
    error: str


class Reader(torch.utils.data.Dataset[Any]):
    """What worker processes run: (epoch, index) → a picture, or why there is none."""

    def __init__(self, split: Split) -> None:
        self.samples, self.pictures, self.sizes = split.samples, split.pictures, split.sizes
        self.transform, self.seed, self.random = split.transform, split.seed, split.augment is not None
        self.preprocess, self.moves = split.preprocess, split.collate is not None
        self.places = split.places if split.pictures is not None else []

    def __getitem__(self, place: tuple[int, int]) -> LoadedItem | LoadError:
        epoch, index = place
        try:
            picture, target = self._pair(index)
        except ImageError as error:
            return LoadError(index, str(error))
        height, width = self.sizes[index].tolist() if self.pictures is not None else picture.shape[-2:]
        size = (height, width)
        if not self.random:
            seen, target = (
                eval_placed(picture, target, self.preprocess) if self.moves else (self.transform(picture), None)
            )
            return LoadedItem(index, seen, size, target)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed, "augment", epoch, index))
            if self.moves:
                seen, target = self.transform(picture, target, self._another)
            else:
                seen, target = self.transform(picture), None
            return LoadedItem(index, seen, size, target)

    def _pair(self, index: int) -> tuple[Tensor, Target]:
        if self.pictures is not None:
            return self.pictures[index], self.places[index] if self.moves else None
        sample = self.samples[index]
        return read_sample(sample), without_masks(sample.target) if self.moves else None

    def _another(self) -> tuple[Tensor, Target]:
        """Any picture that can be read, for a mosaic."""
        for _ in range(100):
            try:
                return self._pair(int(torch.randint(len(self.samples), ())))
            except ImageError:
                continue
        raise DataError("a hundred pictures in a row could not be read")


def identity(results: list[LoadedItem | LoadError]) -> list[LoadedItem | LoadError]:
    return results
