"""Pictures on their way in and out of painting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.errors import UsageError
from striate.inference.sources import expand


def one_picture(source: Any) -> Tensor:
    """The pixels of one picture as float [1, 3, H, W] in 0..1.

    Args:
        source: path, URL, bytes, PIL image, array or tensor.

    Raises:
        ImageError: it cannot be read.
        UsageError: a folder or pattern, which names several.
    """
    found, is_single = expand(source)
    if not is_single:
        raise UsageError(f"{source}: one picture is needed here")
    return as_float(next(iter(found)).load())


def as_float(pixels: Tensor) -> Tensor:
    """uint8 [1 or 3, H, W] -> float [1, 3, H, W] in 0..1."""
    return pixels.expand(3, -1, -1)[None].float() / 255


def as_uint8(images: Tensor) -> Tensor:
    """float [1, 3, H, W] in 0..1 -> uint8 [3, H, W], on the processor."""
    return (images[0].detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


def scaled_to(images: Tensor, size: float) -> Tensor:
    """The longer side brought to `size` pixels: [1, 3, H, W] -> [1, 3, h, w]."""
    height, width = images.shape[-2:]
    factor = size / max(height, width)
    shape = [max(8, round(side * factor)) for side in (height, width)]
    return F.interpolate(images, shape, mode="bicubic", antialias=True).clamp(0, 1)
