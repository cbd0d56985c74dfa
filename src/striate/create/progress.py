"""Where painting stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Progress(NamedTuple):
    """Which of how many scales, and which step of it; `image()` is the picture so far, float [1, 3, H, W] in 0..1."""

    scale: int
    scales: int
    size: int
    step: int
    steps: int
    loss: float
    image: Callable[[], Tensor]
