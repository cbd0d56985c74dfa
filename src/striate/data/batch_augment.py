"""Random geometry for a whole batch of equal pictures at once: what `train_transform` does, without a call a picture.

The same maps in the same order (mirror, then rotate, shear and scale about the centre, then shift, then erase), but
composed into one resampling; with nothing but mirror and whole-pixel shifts, pixels are moved and never changed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.config import Augment

# torchvision's RandomErasing, after Zhong et al., 2017 (arXiv:1708.04896), section 4.2: s_h lowered to 0.33
ERASE_AREA = (0.02, 0.33)
ERASE_RATIO = (0.3, 3.3)
ERASE_TRIES = 10


def batchable(augment: Augment) -> bool:
    """Whether `batch_augment` does all that this augmentation asks for."""
    return augment.policy == "none" and augment.crop in ("none", "pad") and augment.color_jitter == 0


def batch_augment(images: Tensor, augment: Augment, generator: torch.Generator | None = None) -> Tensor:
    """Shift, mirror, rotate, shear, scale and erase, each picture its own way.

    Args:
        images: uint8 [B, C, H, W].
        augment: fields for which `batchable` is False are not looked at.
        generator: the only source of randomness, a CPU one; None: torch's global one.

    Returns:
        uint8 [B, C, H, W]; what is uncovered or erased is black.
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    mirror = uniform(0, 1) < augment.hflip
    pad = augment.pad if augment.crop == "pad" else 0
    shift_y, shift_x = torch.randint(-pad, pad + 1, (2, count), generator=generator)
    if augment.rotate or augment.shear or augment.scale != (1.0, 1.0):
        angle = uniform(-augment.rotate, augment.rotate)
        shear = uniform(-augment.shear, augment.shear)
        images = affine(images, mirror, angle, shear, uniform(*augment.scale), shift_y, shift_x)
    elif pad or augment.hflip:
        images = move(images, mirror, shift_y, shift_x, pad)
    if augment.erase:
        images = _erase(images, augment.erase, generator)
    return images


def move(images: Tensor, mirror: Tensor, shift_y: Tensor, shift_x: Tensor, pad: int) -> Tensor:
    """Mirror, then shift down and right by whole pixels of at most `pad`; exact.

    Args:
        images: uint8 [B, C, H, W].
        mirror: bool [B].
        shift_y, shift_x: int64 [B], in -pad..pad.
    """
    count, channels, height, width = images.shape
    rows = pad - shift_y[:, None] + torch.arange(height)  # [B, H], in the padded picture
    columns = pad - shift_x[:, None] + torch.arange(width)  # [B, W]
    columns = torch.where(mirror[:, None], width + 2 * pad - 1 - columns, columns)
    places = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]  # [B, H, W]
    places = places.view(count, 1, height * width).expand(-1, channels, -1).to(images.device)
    padded = F.pad(images, (pad, pad, pad, pad)).flatten(2)
    return padded.gather(2, places).view(count, channels, height, width)


def affine(
    images: Tensor, mirror: Tensor, angle: Tensor, shear: Tensor, scale: Tensor, shift_y: Tensor, shift_x: Tensor
) -> Tensor:
    """Mirror, then rotate, shear and scale about the centre, then shift, in one bilinear resampling.

    Args:
        images: uint8 [B, C, H, W].
        mirror: bool [B].
        angle, shear: degrees [B], clockwise and along x as in torchvision's `affine`.
        scale: [B], above 1 enlarges.
        shift_y, shift_x: pixels [B], down and right.
    """
    height, width = images.shape[-2:]
    cos, sin, tan = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle)), torch.tan(torch.deg2rad(shear))
    # forward, y pointing down: source → R(angle) · [[1, -tan], [0, 1]] · scale; here the way back, from each pixel
    a, b = (cos - tan * sin) / scale, (sin + tan * cos) / scale
    c, d = -sin / scale, cos / scale
    side = torch.where(mirror, -1.0, 1.0)
    x = torch.arange(width) - (width - 1) / 2 - shift_x[:, None]  # [B, W], pixels from the centre
    y = torch.arange(height) - (height - 1) / 2 - shift_y[:, None]  # [B, H]
    # grid_sample measures each axis in half sides; sums of a row and a column, many times faster than affine_grid
    to_x, to_y = side[:, None] * 2 / width, 2 / height
    source_x = (a[:, None] * x * to_x)[:, None, :] + (b[:, None] * y * to_x)[:, :, None]  # [B, H, W]
    source_y = (c[:, None] * x * to_y)[:, None, :] + (d[:, None] * y * to_y)[:, :, None]
    grid = torch.stack([source_x, source_y], dim=-1).to(images.device)  # [B, H, W, 2]
    resampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return resampled.round_().clamp_(0, 255).to(torch.uint8)


def _erase(images: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Black out a random rectangle of each chosen picture; of ten drawn shapes the first that fits."""
    count, _, height, width = images.shape
    chosen = torch.rand(count, generator=generator) < probability
    area = torch.empty(count, ERASE_TRIES).uniform_(*ERASE_AREA, generator=generator) * (height * width)
    ratio = torch.empty(count, ERASE_TRIES).uniform_(*map(math.log, ERASE_RATIO), generator=generator).exp()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # [B, 10]
    fits = (heights < height) & (widths < width)
    first = fits.int().argmax(1, keepdim=True)
    high, wide = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)  # [B]
    top = (torch.rand(count, generator=generator) * (height - high + 1)).floor()
    left = (torch.rand(count, generator=generator) * (width - wide + 1)).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows = (rows >= top[:, None]) & (rows < (top + high)[:, None])  # [B, H]
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])  # [B, W]
    hole = in_rows[:, :, None] & in_columns[:, None, :] & (chosen & fits.any(1))[:, None, None]  # [B, H, W]
    return images.masked_fill(hole[:, None].to(images.device), 0)
