"""One way from pictures to predictions, for every task and engine: prepare, run, postprocess.

Predicting, evaluation, tiles, robustness, explanations and reports all go through it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from striate.config import Preprocess
from striate.data.transforms import Normalize, eval_transform, group_by_shape
from striate.errors import DataError, ImageError
from striate.inference.sources import Source
from striate.results import Failure, Result
from striate.tasks import Task

Engine = Callable[[Tensor], Any]  # uint8 [B, C, h, w] on its device → raw outputs, a tensor or a dict of tensors
NOT_FINITE = "the network's outputs are not finite; its weights may be damaged"


class Picture(NamedTuple):
    """A picture as the network takes it."""

    source: Source
    pixels: Tensor  # uint8 [C, h, w]
    size: tuple[int, int]  # height and width as it was read


class Predictor:
    """What makes predictions of pictures. It keeps no state between calls, so that threads may share it.

    Args:
        engine: the network with its normalisation, in evaluation mode, on `device`.
        task: turns outputs into predictions and results.
        preprocess: how pictures enter the network.
    """

    def __init__(self, engine: Engine, task: Task, preprocess: Preprocess, device: torch.device) -> None:
        self.engine, self.task, self.preprocess, self.device = engine, task, preprocess, device
        self.fit = eval_transform(preprocess)

    @classmethod
    def of(cls, module: nn.Module, task: Task, preprocess: Preprocess, device: torch.device) -> Predictor:
        """Of a network that takes float [B, C, h, w], normalised."""
        return cls(nn.Sequential(Normalize(preprocess), module).eval().to(device), task, preprocess, device)

    def prepare(self, source: Source) -> Picture:
        """Read a picture and fit it.

        Raises:
            DataError: it cannot be read.
        """
        pixels = source.load()
        return Picture(source, self.fit(pixels), (pixels.shape[-2], pixels.shape[-1]))

    def run(
        self, pictures: Sequence[Picture], threshold: float | None = None, batch: int | None = None
    ) -> list[Result | Failure]:
        """A result a picture, in their order; a Failure where the outputs are not finite.

        Args:
            threshold: as `Task.to_result` takes it.
            batch: pictures computed at once; as many as keep the device busy when not given.
        """
        batch = batch or automatic_batch(self.preprocess.size, self.device)
        found: list[Result | Failure] = []
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            predictions = self.predict([one.pixels for one in part], torch.tensor([one.size for one in part]))
            for picture, prediction in zip(part, predictions, strict=True):
                if is_finite(prediction):
                    found.append(self.task.to_result(prediction, picture.source, threshold))
                else:
                    found.append(Failure(picture.source, f"{picture.source.name}: {NOT_FINITE}"))
        return found

    def predict(
        self,
        images: Tensor | Sequence[Tensor],
        sizes: Tensor | None = None,
        on_outputs: Callable[[Any, list[int]], None] | None = None,
    ) -> list[Any]:
        """Predictions, as `Task.postprocess` gives them, of prepared pictures in their order.

        Pictures of one shape go through the network at once; a batch too large for the device's memory is halved.

        Args:
            images: uint8 [B, C, h, w], or as many of [C, h, w] whose sizes may differ.
            sizes: int64 [B, 2], of the pictures as they were read; what the network sees when not given.
            on_outputs: is shown raw outputs, and which of the images they are of.
        """
        if sizes is None:
            sizes = torch.tensor([tuple(image.shape[-2:]) for image in images])
        if isinstance(images, Tensor):
            return self._at_once(images, sizes, list(range(len(images))), on_outputs)
        groups = group_by_shape(range(len(images)), lambda row: images[row].shape)
        found: list[Any] = [None] * len(images)
        for rows in groups:
            stacked = torch.stack([images[row] for row in rows])
            for row, prediction in zip(rows, self._at_once(stacked, sizes[rows], rows, on_outputs), strict=True):
                found[row] = prediction
        return found

    def _at_once(
        self, images: Tensor, sizes: Tensor, rows: list[int], on_outputs: Callable[[Any, list[int]], None] | None
    ) -> list[Any]:
        try:
            with torch.inference_mode():
                outputs = self.engine(images.to(self.device, memory_format=torch.channels_last))
                if on_outputs is not None:
                    on_outputs(outputs, rows)
                return self.task.postprocess(outputs, sizes, self.preprocess)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        half = len(images) // 2
        return [
            *self._at_once(images[:half], sizes[:half], rows[:half], on_outputs),
            *self._at_once(images[half:], sizes[half:], rows[half:], on_outputs),
        ]

    def stream(
        self,
        sources: Iterable[Source],
        *,
        batch: int,
        workers: int,
        threshold: float | None = None,
        on_error: Literal["skip", "raise"] = "skip",
    ) -> Iterator[Result | Failure]:
        """One result or failure a source, in the order of the sources: threads read ahead while the network computes.

        At most two batches and one picture a worker are held at any time, however many sources there are.

        Args:
            workers: threads that read; 0 reads here, which for one picture is up to a quarter faster: threads that
                resize have compute threads of their own, and those of the network then wait asleep instead of awake.
            on_error: what to do about a picture that cannot be read.

        Raises:
            DataError: with `on_error="raise"`, when its turn comes.
        """
        pool = ThreadPoolExecutor(
            max(1, workers), thread_name_prefix="striate-read"
        )  # starts no thread before its first task
        submit = pool.submit if workers else _done
        try:
            waiting: deque[tuple[Source, Future[Picture]]] = deque()
            entries: list[Picture | Failure] = []
            remaining = iter(sources)
            while True:
                while len(waiting) < batch + max(1, workers) and (source := next(remaining, None)) is not None:
                    waiting.append((source, submit(self.prepare, source)))
                if waiting:
                    source, future = waiting.popleft()
                    try:
                        entries.append(future.result())
                    except DataError as error:
                        if on_error == "raise":
                            raise
                        entries.append(Failure(source, str(error)))
                if len(entries) == batch or not waiting:
                    results = iter(self.run([one for one in entries if isinstance(one, Picture)], threshold, batch))
                    for entry in entries:
                        result = entry if isinstance(entry, Failure) else next(results)
                        if on_error == "raise" and isinstance(result, Failure):
                            raise ImageError(result.error)
                        yield result
                    entries = []
                    if not waiting:
                        return
        finally:  # also when the caller stops early or presses Ctrl-C: nothing more is begun
            pool.shutdown(wait=False, cancel_futures=True)


def is_finite(prediction: Any) -> bool:
    """Whether all numbers of a prediction, a tensor or a dict of tensors, are finite."""
    if isinstance(prediction, dict):
        return all(is_finite(value) for value in prediction.values())
    return bool(prediction.isfinite().all()) if isinstance(prediction, Tensor) else True


def automatic_batch(size: tuple[int, int], device: torch.device) -> int:
    """As many pictures as keep the device busy: 16 of 224 x 224 on a processor, 256 on a GPU; more of small ones."""
    full, most = (16, 256) if device.type == "cpu" else (256, 2048)
    return max(1, min(most, full * 224 * 224 // (size[0] * size[1])))


def automatic_workers() -> int:
    """Threads that read: one a processor this process may use, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


def _done(read: Callable[[Source], Picture], source: Source) -> Future[Picture]:
    """As an executor's `submit`, in this thread."""
    future: Future[Picture] = Future()
    try:
        future.set_result(read(source))
    except DataError as error:
        future.set_exception(error)
    return future
