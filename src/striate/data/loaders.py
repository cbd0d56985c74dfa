"""From samples to batches, in an order and with an augmentation that depend on (seed, epoch, index) alone.

Sets that fit are decoded once. Of those, sets whose pictures the network sees at one size and whose augmentation is
plain geometry are kept as one uint8 tensor and augmented a batch at a time; all else goes, picture by picture, through
torchvision's transforms in worker processes. Targets that are somewhere in the picture move with it; those whose pixels
lie in files are read there, and never kept.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from striate.config import Augment, Preprocess
from striate.data.batch_augment import batch_augment, batchable
from striate.data.geometry import scaling
from striate.data.reader import LoadedItem, LoadError, Reader, identity, read_sample
from striate.data.sample import Sample
from striate.data.samplers import InOrder, Sampler, Shuffled
from striate.data.seeds import seed_of
from striate.data.spatial import TrainPair, fitted, resized_batch
from striate.data.targets import Target
from striate.data.transforms import eval_transform, group_by_shape, train_transform
from striate.errors import DataError, ImageError

CACHE_BYTES = 4 * 2**30
CACHE_SHORTER_SIDE = 1.5  # of the network's size: keeps room for random crops without keeping 12-megapixel photos


class Targets(Protocol):
    """A batch's targets, as the task collates them: one tensor where that will do, else a small object of its own."""

    def to(self, device: torch.device, /, *, non_blocking: bool = False) -> Any: ...


Collate = Callable[[Sequence[Any]], Any]


@dataclass
class Batch:
    """One step's pictures.

    Attributes:
        images: uint8 [B, C, H, W].
        targets: as the task collates them; places in pixels of `images`.
        indices: int64 [B], into the split.
        sizes: int64 [B, 2], height and width of the pictures as they were read.
        skipped: messages, one for each picture that could not be read.
        references: B targets in pixels of the pictures as they were read; of batches to be evaluated alone.
    """

    images: Tensor
    targets: Any
    indices: Tensor
    sizes: Tensor
    skipped: list[str] = field(default_factory=list)
    references: list[Target | None] = field(default_factory=list)


class BatchSource(Protocol):
    """What a run draws its batches from: a split, or anything else that gives them epoch by epoch."""

    skipped: list[str]

    def __len__(self) -> int: ...
    def batches(
        self, sampler: Sampler, *, epoch: int = 0, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The batches of one epoch that this process takes, from batch number `start` on."""
        ...


class Split:
    """One split, ready to be drawn from.

    Args:
        samples: of one split.
        collate: makes a batch's targets of those of its samples: `Task.collate`.
        preprocess: the size and channels that the network sees.
        augment: for training; None for evaluation.
        cache: decode once and keep; `auto` when it fits.
        workers: processes that read ahead when pictures are not kept as one tensor.
        seed: of order and augmentation.
        pairs: of landmarks, which becomes which in a horizontal flip.
        target_transform: what of a sample's target is wanted; all of it when not given.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        collate: Collate,
        preprocess: Preprocess,
        augment: Augment | None = None,
        cache: bool | str = "auto",
        workers: int = 0,
        seed: int = 0,
        pairs: tuple[int, ...] | None = None,
        target_transform: Callable[[Any], Target | None] = lambda target: target,
    ) -> None:
        self.samples = list(samples)
        self.collate = collate
        self.raw_targets = [target_transform(sample.target) for sample in self.samples]
        self.spatial = any(target is not None and target.spatial for target in self.raw_targets)
        self.lazy = any(target is not None and target.lazy for target in self.raw_targets)
        self.preprocess = preprocess
        self.augment = augment
        self.workers = workers
        self.seed = seed
        self.skipped: list[str] = []
        self.stack: Tensor | list[Tensor] | None = None  # uint8 [N, C, H, W], or as a list where sizes differ
        self.pictures: list[Tensor] | None = None
        self.sizes = torch.zeros(len(self.samples), 2, dtype=torch.int64)  # of pictures as read, where they are kept
        self.kept_targets: list[Target | None] = []  # in pixels of what is kept
        self.fixed = eval_transform(preprocess)
        if self.spatial and augment is not None:
            self.transform: Any = TrainPair(augment, preprocess, pairs)
        else:
            self.transform = self.fixed if augment is None else train_transform(augment, preprocess)
        self._loader: DataLoader[Any] | None = None
        self._sampler = _Rows()
        if not self.lazy and (cache is True or (cache == "auto" and self._fits())):
            self._decode()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def at_one_size(self) -> bool:
        """The batch path serves: evaluation, or training with plain geometry on pictures as they are."""
        if self.augment is None:
            return True
        own_size = self.preprocess.pad_multiple or self.preprocess.fit == "native"
        return not self.spatial and batchable(self.augment) and not own_size

    def _fits(self) -> bool:
        """Whether all decoded pictures are small enough to be kept; how large native ones are is not known."""
        height, width = self.preprocess.size
        area = height * width if self.at_one_size else height * width * CACHE_SHORTER_SIDE**2 * 1.5
        return self.preprocess.fit != "native" and len(self.samples) * area * 3 < CACHE_BYTES

    def _decode(self) -> None:
        """Read everything once, in threads; what cannot be read is dropped and remembered in `skipped`."""
        prepare = self.fixed if self.at_one_size else _shrink(self.preprocess)

        def read(sample: Sample) -> tuple[Tensor, torch.Size] | ImageError:
            try:
                picture = read_sample(sample)
            except ImageError as error:
                return error
            return prepare(picture), picture.shape[-2:]

        if all(isinstance(sample.image, Tensor) for sample in self.samples):
            pictures = [read(sample) for sample in self.samples]
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                pictures = list(pool.map(read, self.samples))
        good = [index for index, picture in enumerate(pictures) if isinstance(picture, tuple)]
        self.skipped = [str(picture) for picture in pictures if not isinstance(picture, tuple)]
        if not good:
            raise DataError(f"none of the {len(self.samples)} pictures could be read; the first: {self.skipped[0]}")
        if self.skipped:
            self.samples = [self.samples[index] for index in good]
            self.raw_targets = [self.raw_targets[index] for index in good]
        kept, sizes = zip(*(picture for picture in pictures if isinstance(picture, tuple)), strict=True)
        self.sizes = torch.tensor(sizes, dtype=torch.int64)
        if self.at_one_size:
            self.stack = torch.stack(kept) if len({picture.shape for picture in kept}) == 1 else list(kept)
        else:
            self.pictures = list(kept)
        self.kept_targets = [
            self._kept_target(target, tuple(size), picture)
            for target, size, picture in zip(self.raw_targets, sizes, kept, strict=True)
        ]

    def _kept_target(self, target: Target | None, size: tuple[int, int], picture: Tensor) -> Target | None:
        """A target in pixels of the picture that is kept: fitted for good, or only made smaller."""
        if target is None or not target.spatial:
            return target
        if self.at_one_size:
            return fitted(target, size, self.preprocess)
        height, width = picture.shape[-2:]
        return target.warp(scaling(width / size[1], height / size[0]), (height, width))

    def shuffled(self, batch: int) -> Shuffled:
        """The usual order of training: every sample once an epoch."""
        return Shuffled(len(self), batch, self.seed)

    def batches(
        self, sampler: Sampler, *, epoch: int = 0, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Training batches of one epoch, from batch number `start` on."""
        yield from self._iterate(sampler.batches(epoch, rank, world), epoch, start, rank)

    def eval_batches(self, batch: int, rank: int = 0, world: int = 1, every: int = 1) -> Iterator[Batch]:
        """Every sample once, in order, for evaluation; with several processes, each its share of every batch.

        Pictures of several shapes come in a batch for each shape.

        Args:
            every: only the first of each so many.
        """
        yield from self._iterate(InOrder(len(self), batch, every).batches(0, rank, world), 0, 0)

    def _iterate(self, rows: list[list[int]], epoch: int, start: int, rank: int = 0) -> Iterator[Batch]:
        if self.stack is None:
            yield from self._from_workers(rows, epoch, start)
            return
        for number in range(start, len(rows)):
            if isinstance(self.stack, list):
                for row in group_by_shape(rows[number], lambda index: self.stack[index].shape):  # type: ignore[index]
                    yield self._kept_batch(torch.stack([self.stack[index] for index in row]), row)
                continue
            images = self.stack[torch.tensor(rows[number])]
            if self.augment is not None:
                generator = torch.Generator().manual_seed(seed_of(self.seed, "augment", epoch, number, rank))
                images = batch_augment(images, self.augment, generator)
            yield self._kept_batch(images, rows[number])

    def _kept_batch(self, images: Tensor, row: list[int]) -> Batch:
        indices = torch.tensor(row)
        targets = self.collate([self.kept_targets[index] for index in row])
        references = [] if self.augment is not None else [self.raw_targets[index] for index in row]
        return Batch(images, targets, indices, self.sizes[indices], references=references)

    def _from_workers(self, rows: list[list[int]], epoch: int, start: int) -> Iterator[Batch]:
        """Through a DataLoader; should a worker die, the rest is read in this process, with the same result."""
        while start < len(rows):
            self._sampler.rows = [[(epoch, index) for index in row] for row in rows[start:]]
            if self._loader is None:
                self._loader = DataLoader(
                    Reader(self),
                    batch_sampler=self._sampler,
                    num_workers=self.workers,
                    collate_fn=identity,
                    persistent_workers=self.workers > 0,
                    pin_memory=torch.cuda.is_available(),
                )
            try:
                for results in _without_signal(self._loader):
                    start += 1
                    skipped = [result.error for result in results if isinstance(result, LoadError)]
                    good = [result for result in results if isinstance(result, LoadedItem)]
                    for part in group_by_shape(good, lambda read: read.picture.shape):
                        yield self._batch(part, epoch, start, skipped)
                        skipped = []
            except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
                if self.workers == 0 or not _tells_of_death(error):
                    raise
                self.skipped.append(f"a reading process died ({error}); going on without reading processes")
                self.workers, self._loader = 0, None

    def _batch(self, good: list[LoadedItem], epoch: int, number: int, skipped: list[str]) -> Batch:
        indices = torch.tensor([item.row for item in good])
        images = torch.stack([item.picture for item in good])
        sizes = torch.tensor([item.size for item in good], dtype=torch.int64)
        targets = [item.target for item in good]
        if self.spatial and self.augment is not None and self.augment.multi_scale != (1.0, 1.0):
            generator = torch.Generator().manual_seed(seed_of(self.seed, "scale", epoch, number))
            low, high = self.augment.multi_scale
            factor = low + (high - low) * float(torch.rand((), generator=generator))
            height, width = (max(32, round(side * factor / 32) * 32) for side in self.preprocess.size)
            images, targets = resized_batch(images, targets, (height, width))
        references = [] if self.augment is not None else [item.reference for item in good]
        return Batch(images, self.collate(targets), indices, sizes, skipped, references)


def _tells_of_death(error: Exception) -> bool:
    """Whether this is how a dead reading process shows: torch says so, or the tensors that it shared are gone."""
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in str(error)
    return "Caught" not in str(error)  # an error inside a living one comes with its traceback


def _without_signal(loader: DataLoader[Any]) -> Iterator[Any]:
    """Begin to iterate, and take back the SIGCHLD handler that torch sets: it raises wherever the main thread happens
    to be when a worker dies, in the middle of a training step. The loader itself notices within five seconds."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, before)
    return batches


class _Rows:
    """A batch sampler whose batches are set anew each epoch, so that worker processes can live on."""

    rows: list[list[tuple[int, int]]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _shrink(preprocess: Preprocess) -> Callable[[Tensor], Tensor]:
    """Bring a large photo's shorter side down to what random crops need."""
    from torchvision.transforms.v2 import functional as F

    limit = int(max(preprocess.size) * CACHE_SHORTER_SIDE)

    def shrink(picture: Tensor) -> Tensor:
        small = min(picture.shape[-2:]) <= limit or preprocess.fit == "native"
        return picture if small else F.resize(picture, [limit], antialias=True)

    return shrink
