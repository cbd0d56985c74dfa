"""Where the points of a picture are after it was fitted, flipped, moved; and back again.

Points are in pixels with 0 at the outer edge of the first pixel, so resizing by s takes x to s · x.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from striate.config import Preprocess
from striate.data.transforms import input_size, resize_size


class Affine(NamedTuple):
    """x' = xx · x + xy · y + x0; y' = yx · x + yy · y + y0."""

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def then(self, after: Affine) -> Affine:
        """This map, and `after` on what it gives."""
        return Affine(
            after.xx * self.xx + after.xy * self.yx,
            after.xx * self.xy + after.xy * self.yy,
            after.xx * self.x0 + after.xy * self.y0 + after.x0,
            after.yx * self.xx + after.yy * self.yx,
            after.yx * self.xy + after.yy * self.yy,
            after.yx * self.x0 + after.yy * self.y0 + after.y0,
        )

    def points(self, values: Tensor) -> Tensor:
        """float [..., 2] → float [..., 2]"""
        x, y = values.unbind(-1)
        return torch.stack((self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0), -1)


def scaling(x: float, y: float) -> Affine:
    return Affine(x, 0.0, 0.0, 0.0, y, 0.0)


def shifting(x: float, y: float) -> Affine:
    return Affine(1.0, 0.0, x, 0.0, 1.0, y)


def rotation(degrees: float, shear: float, centre: tuple[float, float]) -> Affine:
    """A turn (clockwise as seen) and a slant along x, about a centre (x, y)."""
    angle, slant = math.radians(degrees), math.tan(math.radians(shear))
    cos, sin = math.cos(angle), math.sin(angle)
    about = Affine(cos, cos * slant - sin, 0.0, sin, sin * slant + cos, 0.0)
    return shifting(-centre[0], -centre[1]).then(about).then(shifting(*centre))


def hflip(width: float) -> Affine:
    return Affine(-1.0, 0.0, width, 0.0, 1.0, 0.0)


def preprocess_affine(size: tuple[int, int], preprocess: Preprocess) -> Affine:
    """From pixels of a picture of (height, width) to those that the network sees: what `eval_transform` does."""
    height, width = size
    target_height, target_width = input_size(height, width, preprocess)
    if (height, width) == (target_height, target_width):
        return scaling(1, 1)
    fitted_height, fitted_width = resize_size(height, width, preprocess)
    left = top = 0.0
    if preprocess.fit in ("pad", "native"):
        left, top = (target_width - fitted_width) // 2, (target_height - fitted_height) // 2
    elif preprocess.fit == "crop":  # as torchvision's center_crop rounds
        left, top = -round((fitted_width - target_width) / 2), -round((fitted_height - target_height) / 2)
    return scaling(fitted_width / width, fitted_height / height).then(shifting(left, top))


def to_picture(points: Tensor, sizes: Tensor, preprocess: Preprocess) -> Tensor:
    """Points that the network gave, in pixels of the pictures as they were read.

    Args:
        points: float [B, N, 2], x y in pixels of what the network saw.
        sizes: int64 [B, 2], height and width of the pictures as they were read.
    """
    found = torch.empty_like(points)
    for row, values, size in zip(found, points, sizes.tolist(), strict=True):
        there = preprocess_affine((int(size[0]), int(size[1])), preprocess)
        row[:, 0] = (values[:, 0] - there.x0) / there.xx
        row[:, 1] = (values[:, 1] - there.y0) / there.yy
    return found


def map_to_picture(values: Tensor, size: tuple[int, int], preprocess: Preprocess, scale: float = 1.0) -> Tensor:
    """A dense output of the network, brought back onto its picture: padding is cut off, resizing undone.

    What `fit="crop"` left out has the nearest known value.

    Args:
        values: float [C, h, w], the network's answer for one picture at any stride: it covers the whole input.
        size: height and width of the picture as it was read.
        scale: of the result: 1 gives it at the picture's size, 4 for a network that enlarges four times.

    Returns:
        float [C, round(H · scale), round(W · scale)].
    """
    height, width = input_size(*size, preprocess)
    out_height, out_width = round(size[0] * scale), round(size[1] * scale)
    there = preprocess_affine(size, preprocess)
    if tuple(values.shape[-2:]) == (round(height * scale), round(width * scale)) and there.xx == there.yy == 1:
        top, left = round(max(there.y0, 0) * scale), round(max(there.x0, 0) * scale)
        inner = values[..., top : top + out_height, left : left + out_width]
        if tuple(inner.shape[-2:]) == (out_height, out_width) and min(there.x0, there.y0) >= 0:
            return inner
    y = (torch.arange(out_height) + 0.5) / scale * there.yy + there.y0  # in pixels of the input
    x = (torch.arange(out_width) + 0.5) / scale * there.xx + there.x0
    grid = torch.stack(torch.meshgrid(x * 2 / width - 1, y * 2 / height - 1, indexing="xy"), -1)  # [H, W, 2]
    grid = grid.to(values.device, torch.float32)
    found = F.grid_sample(values[None].float(), grid[None], padding_mode="border", align_corners=False)
    return found[0]


def warp(
    pixels: Tensor,
    by: Affine,
    size: tuple[int, int],
    fill: int = 0,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """[C, H, W] as it looks after `by`, cut to `size`; `fill` where nothing was. The dtype stays.

    A flip, a resize (antialiased when bilinear) and a shift by whole pixels move pixels as torchvision's own
    functions do; what also turns or slants is resampled.
    """
    if by.xy == by.yx == 0 and by.yy > 0:
        if by.xx < 0:
            pixels, by = pixels.flip(-1), hflip(pixels.shape[-1]).then(by)
        height, width = round(pixels.shape[-2] * by.yy), round(pixels.shape[-1] * by.xx)
        if (height, width) != tuple(pixels.shape[-2:]):
            exact = InterpolationMode.BILINEAR if mode == "bilinear" else InterpolationMode.NEAREST_EXACT
            pixels = v2.resize(pixels, [max(1, height), max(1, width)], exact, antialias=True)
        canvas = torch.full((*pixels.shape[:-2], *size), fill, dtype=pixels.dtype)
        paste(canvas, pixels, round(by.x0), round(by.y0), (0, 0, size[1], size[0]))
        return canvas
    determinant = by.xx * by.yy - by.xy * by.yx
    back = torch.tensor([[by.yy, -by.xy], [-by.yx, by.xx]]) / determinant
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack((x - by.x0, y - by.y0), -1) @ back.T  # [H, W, 2] in pixels of the picture
    grid = places * 2 / torch.tensor([pixels.shape[-1], pixels.shape[-2]]) - 1
    values = F.grid_sample(pixels[None].float() - fill, grid[None], mode=mode, align_corners=False)[0] + fill
    if pixels.dtype.is_floating_point:
        return values.to(pixels.dtype)
    return values.round().clamp(0, 1 if pixels.dtype == torch.bool else 255).to(pixels.dtype)


def paste(canvas: Tensor, picture: Tensor, left: int, top: int, window: tuple[int, int, int, int]) -> None:
    """Lay the picture on the canvas at (left, top), inside x1 y1 x2 y2 alone."""
    x1, y1 = max(left, window[0]), max(top, window[1])
    x2, y2 = min(left + picture.shape[-1], window[2]), min(top + picture.shape[-2], window[3])
    if x2 > x1 and y2 > y1:
        canvas[..., y1:y2, x1:x2] = picture[..., y1 - top : y2 - top, x1 - left : x2 - left]
