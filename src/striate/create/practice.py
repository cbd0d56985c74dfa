"""Teaching a network to paint, on a folder of photos: the loop that a single style and any style share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from striate.device import keep_freed_memory, pick_device, pick_precision
from striate.errors import DataError, ImageError, UsageError
from striate.images import PICTURE_SUFFIXES, read_image

MOST = 3000  # photos kept in memory
CLIP = 10.0  # largest gradient norm: early steps of a Gram loss are wild


class Lesson(NamedTuple):
    """Where training stands: `share` of the time or of the steps is over."""

    step: int
    share: float
    loss: float


@dataclass(frozen=True)
class Practice:
    """How to train.

    Attributes:
        minutes: how long; ignored where `steps` says how many.
        steps: fixed, so that the same seed gives the same weights.
        size: side of the squares cut from the photos, in pixels.
        batch: of them, a step.
        rate: Adam's, which falls to nothing along a cosine.
        seed: of weights and of what is cut.
        watch: told after each step.
    """

    minutes: float = 10.0
    steps: int | None = None
    size: int = 256
    batch: int = 4
    rate: float = 1e-3
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    watch: Callable[[Lesson], None] = field(default=lambda lesson: None, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("size", 64), ("batch", 1), ("steps", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UsageError(f"{name} must be a whole number from {least}, not {value!r}")
        for name in ("minutes", "rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be a number above 0, not {getattr(self, name)!r}")


class Squares:
    """Squares cut at random from the photos of a folder, mirrored half of the time.

    Raises:
        DataError: no photo in it.
    """

    def __init__(self, folder: str | Path, size: int, seed: int, slack: float = 1.25) -> None:
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(files), generator=self.generator)[:MOST].tolist()
        self.size, self.unread = size, 0
        self.photos: list[Tensor] = []
        for index in order:
            try:
                self.photos.append(_at_least(read_image(files[index]), size, slack))
            except ImageError:
                self.unread += 1
        if not self.photos:
            raise DataError(f"{folder}: no photos to learn from; name a folder that holds some")

    def draw(self, count: int) -> Tensor:
        """float [count, 3, size, size] in 0..1."""
        return torch.stack([self._one() for _ in range(count)]).float() / 255

    def _one(self) -> Tensor:
        photo = self.photos[self._below(len(self.photos))]
        top, left = (self._below(side - self.size + 1) for side in photo.shape[-2:])
        square = photo[:, top : top + self.size, left : left + self.size]
        return square.flip(-1) if self._below(2) else square

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self.generator))


def practise(
    network: nn.Module, loss_of: Callable[[Tensor], Tensor], photos: Squares, how: Practice
) -> tuple[int, float]:
    """Train `network`, in place, until the time is over; gives the steps taken and the mean loss of the last tenth.

    Args:
        loss_of: photos float [B, 3, size, size] on the device -> a number; it calls the network.
    """
    device = pick_device(how.device)
    use_bf16 = pick_precision(how.precision, device) == "bf16"
    if device.type == "cpu":
        keep_freed_memory()
    network.train()
    adam = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], how.rate)
    losses: list[float] = []
    for step, share in _course(how):
        for group in adam.param_groups:
            group["lr"] = how.rate * (0.02 + 0.98 * (1 + cos(pi * share)) / 2)
        squares = photos.draw(how.batch).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
            loss = loss_of(squares)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        adam.step()
        losses.append(float(loss.detach()))
        how.watch(Lesson(step, share, losses[-1]))
    network.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return len(losses), sum(last) / len(last)


def _course(how: Practice) -> Iterator[tuple[int, float]]:
    """Steps from 1, each with the share of the course that is over."""
    if how.steps is not None:
        yield from ((step, (step - 1) / how.steps) for step in range(1, how.steps + 1))
        return
    begin, step = time.monotonic(), 0
    while (share := (time.monotonic() - begin) / (60 * how.minutes)) < 1:
        step += 1
        yield step, share


def _at_least(photo: Tensor, size: int, slack: float) -> Tensor:
    """The shorter side brought down to `slack` times `size`, or up to `size` where it is shorter than that."""
    shorter = min(photo.shape[-2:])
    wanted = round(size * slack) if shorter > size * slack else max(size, shorter)
    return photo if wanted == shorter else F.resize(photo, [wanted], antialias=True)
