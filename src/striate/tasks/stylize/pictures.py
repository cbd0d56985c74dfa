"""Pictures on their way in and out of painting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
