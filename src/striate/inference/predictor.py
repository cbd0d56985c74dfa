"""The way of a prediction: threads read pictures ahead while the network computes; order kept, memory bounded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from striate.data.transforms import group_by_shape
from striate.errors import DataError, ImageError
from striate.inference.sources import Source
from striate.results import Failure, Result

Decode = Callable[[Tensor, list[Source]], Sequence[Result]]
Settle = Callable[[Any, Tensor], Tensor]  # a network's outputs and the pictures' sizes [B, 2] → float32 on the CPU


def identity(outputs: Any, sizes: Tensor) -> Tensor:
    return outputs.float().cpu()


def predict_stream(
    network: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    decode: Decode,
    sources: Iterable[Source],
    *,
    settle: Settle = identity,
    device: torch.device,
    batch: int,
    workers: int,
    on_error: Literal["skip", "raise"] = "skip",
) -> Iterator[Result | Failure]:
    """One result or failure a source, in the order of the sources.

    At most two batches and one picture a worker are held at any time, however many sources there are.

    Args:
        network: uint8 [B, C, h, w] → outputs, in evaluation mode, on `device`; normalises by itself.
        prepare: uint8 [1 or 3, H, W] → uint8 [C, h, w]; called in worker threads.
        decode: settled outputs and their sources → results.
        settle: what is kept of outputs: `Task.settle`.
        workers: threads that read; 0 reads here, which for one picture is up to a quarter faster: threads that resize
            have compute threads of their own, and those of the network then wait asleep instead of awake.
        on_error: what to do about a picture that cannot be read.

    Raises:
        DataError: with `on_error="raise"`, when its turn comes.
    """

    def read(source: Source) -> Picture:
        picture = source.load()
        return Picture(prepare(picture), (picture.shape[-2], picture.shape[-1]))

    pool = ThreadPoolExecutor(
        max(1, workers), thread_name_prefix="striate-read"
    )  # starts no thread before its first task
    submit = pool.submit if workers else _done
    try:
        waiting: deque[tuple[Source, Future[Picture]]] = deque()
        entries: list[Source | Failure] = []
        pictures: list[Picture] = []
        remaining = iter(sources)
        while True:
            while len(waiting) < batch + max(1, workers) and (source := next(remaining, None)) is not None:
                waiting.append((source, submit(read, source)))
            if waiting:
                source, future = waiting.popleft()
                try:
                    pictures.append(future.result())
                    entries.append(source)
                except DataError as error:
                    if on_error == "raise":
                        raise
                    entries.append(Failure(source, str(error)))
            if len(entries) == batch or not waiting:
                yield from _judge(network, settle, decode, entries, pictures, device, on_error)
                entries, pictures = [], []
                if not waiting:
                    return
    finally:  # also when the caller stops early or presses Ctrl-C: nothing more is begun
        pool.shutdown(wait=False, cancel_futures=True)


class Picture(NamedTuple):
    pixels: Tensor  # uint8 [C, h, w], as the network sees it
    size: tuple[int, int]  # height and width as it was read


def _done(read: Callable[[Source], Picture], source: Source) -> Future[Picture]:
    """As an executor's `submit`, in this thread."""
    future: Future[Picture] = Future()
    try:
        future.set_result(read(source))
    except DataError as error:
        future.set_exception(error)
    return future


def automatic_batch(size: tuple[int, int], device: torch.device) -> int:
    """As many pictures as keep the device busy: 16 of 224 x 224 on a processor, 256 on a GPU; more of small ones."""
    full, most = (16, 256) if device.type == "cpu" else (256, 2048)
    return max(1, min(most, full * 224 * 224 // (size[0] * size[1])))


def automatic_workers() -> int:
    """Threads that read: one a processor this process may use, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


def _judge(
    network: nn.Module,
    settle: Settle,
    decode: Decode,
    entries: list[Source | Failure],
    pictures: list[Picture],
    device: torch.device,
    on_error: str,
) -> list[Result | Failure]:
    """Results where there is a picture, the failures between them, in order."""
    if not pictures:
        return [entry for entry in entries if isinstance(entry, Failure)]
    sources = [entry for entry in entries if isinstance(entry, Source)]
    sizes = torch.tensor([picture.size for picture in pictures])
    outputs = forward_by_shape(network, [picture.pixels for picture in pictures], device, settle, sizes)
    sound = outputs.isfinite().flatten(1).all(1).tolist()
    results = iter(zip(decode(outputs, sources), sound, strict=True))
    judged: list[Result | Failure] = []
    for entry in entries:
        if isinstance(entry, Failure):
            judged.append(entry)
            continue
        result, is_sound = next(results)
        if is_sound:
            judged.append(result)
            continue
        message = f"{entry.name}: the network's outputs are not finite; its weights may be damaged"
        if on_error == "raise":
            raise ImageError(message)
        judged.append(Failure(entry, message))
    return judged


def forward_by_shape(
    network: nn.Module, images: Sequence[Tensor], device: torch.device, settle: Settle, sizes: Tensor
) -> Tensor:
    """As `forward`, of pictures uint8 [C, h, w] whose sizes may differ: those of one size at once."""
    groups = group_by_shape(range(len(images)), lambda row: images[row].shape)
    outputs = [
        forward(network, torch.stack([images[row] for row in rows]), device, settle, sizes[rows]) for rows in groups
    ]
    if len(groups) == 1:
        return outputs[0]
    return torch.cat(outputs)[torch.tensor([row for rows in groups for row in rows]).argsort()]


def forward(
    network: nn.Module,
    images: Tensor,
    device: torch.device,
    settle: Settle = identity,
    sizes: Tensor | None = None,
) -> Tensor:
    """uint8 [B, C, h, w] → settled outputs on the CPU, float32; a batch too large for the GPU's memory is halved.

    Args:
        sizes: int64 [B, 2], of the pictures as they were read; what the network sees when not given.
    """
    if sizes is None:
        sizes = torch.tensor([images.shape[-2:]]).expand(len(images), 2)
    try:
        with torch.inference_mode():
            batch = images.to(device, memory_format=torch.channels_last)
            return settle(network(batch), sizes)
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    half = len(images) // 2
    return torch.cat(
        [
            forward(network, images[:half], device, settle, sizes[:half]),
            forward(network, images[half:], device, settle, sizes[half:]),
        ]
    )
