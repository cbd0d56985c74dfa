"""One picture with its target, read, augmented: what reading processes do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from striate.data.sample import Sample
from striate.data.seeds import seed_of
from striate.data.spatial import eval_pair
from striate.data.targets import Target
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
    target: Target | None  # where it moved with the picture
    reference: Target | None  # in pixels of the picture as it was read; for evaluation alone


class LoadError(NamedTuple):
    row: int
    error: str


class Reader(torch.utils.data.Dataset[Any]):
    """What worker processes run: (epoch, index) → a picture, or why there is none."""

    def __init__(self, split: Split) -> None:
        self.samples, self.targets = split.samples, split.raw_targets
        self.pictures, self.sizes, self.kept_targets = split.pictures, split.sizes, split.kept_targets
        self.transform, self.seed, self.random = split.transform, split.seed, split.augment is not None
        self.preprocess, self.moves = split.preprocess, split.spatial

    def __getitem__(self, place: tuple[int, int]) -> LoadedItem | LoadError:
        epoch, index = place
        try:
            picture, target, reference, size = self._loaded(index)
        except ImageError as error:
            return LoadError(index, str(error))
        if not self.random:
            if self.moves:
                picture, target = eval_pair(picture, target, self.preprocess)
            else:
                picture = self.transform(picture)
            return LoadedItem(index, picture, size, target, reference)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.seed, "augment", epoch, index))
            if self.moves:
                picture, target = self.transform(picture, target, self._another)
            else:
                picture = self.transform(picture)
        return LoadedItem(index, picture, size, target, None)

    def _loaded(self, index: int) -> tuple[Tensor, Target | None, Target | None, tuple[int, int]]:
        """Picture, its target in the picture's pixels and in those as it was read, and its size as it was read."""
        raw = self.targets[index]
        if self.pictures is not None:
            height, width = self.sizes[index].tolist()
            return self.pictures[index], self.kept_targets[index], raw, (height, width)
        picture = read_sample(self.samples[index])
        size = (picture.shape[-2], picture.shape[-1])
        target = None if raw is None else raw.load(size)
        return picture, target, target, size

    def _another(self) -> tuple[Tensor, Target | None]:
        """Any picture that can be read, for a mosaic."""
        for _ in range(100):
            try:
                return self._loaded(int(torch.randint(len(self.samples), ())))[:2]
            except ImageError:
                continue
        raise DataError("a hundred pictures in a row could not be read")


def identity(results: list[LoadedItem | LoadError]) -> list[LoadedItem | LoadError]:
    return results
