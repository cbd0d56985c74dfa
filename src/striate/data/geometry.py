"""Where the points of a picture are after it was fitted, mirrored, moved; and back again.

Places are in pixels with 0 at the outer edge of the first pixel, so resizing by s takes x to s · x.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from striate.config import Preprocess
from striate.data.sample import Objects, Points
from striate.data.transforms import input_size, resize_size

LEAST_SEEN = 0.25  # of an object's box that must be left in the picture for it to be learnt
LEAST_SIDE = 2.0  # pixels

Target = Objects | Points | None


class Map(NamedTuple):
    """x' = xx · x + xy · y + x0; y' = yx · x + yy · y + y0."""

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def then(self, after: Map) -> Map:
        """This map, and `after` on what it gives."""
        return Map(
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


def scaling(x: float, y: float) -> Map:
    return Map(x, 0.0, 0.0, 0.0, y, 0.0)


def shifting(x: float, y: float) -> Map:
    return Map(1.0, 0.0, x, 0.0, 1.0, y)


def turning(degrees: float, shear: float, centre: tuple[float, float]) -> Map:
    """A turn (clockwise as seen) and a slant along x, about a centre (x, y)."""
    angle, slant = math.radians(degrees), math.tan(math.radians(shear))
    cos, sin = math.cos(angle), math.sin(angle)
    about = Map(cos, cos * slant - sin, 0.0, sin, sin * slant + cos, 0.0)
    return shifting(-centre[0], -centre[1]).then(about).then(shifting(*centre))


def mirroring(width: float) -> Map:
    return Map(-1.0, 0.0, width, 0.0, 1.0, 0.0)


def fitting(size: tuple[int, int], preprocess: Preprocess) -> Map:
    """From pixels of a picture of (height, width) to those that the network sees: what `eval_transform` does."""
    height, width = size
    target_height, target_width = input_size(height, width, preprocess)
    if (height, width) == (target_height, target_width):
        return scaling(1, 1)
    fitted_height, fitted_width = resize_size(height, width, preprocess)
    left = top = 0.0
    if preprocess.fit == "pad":
        left, top = (target_width - fitted_width) // 2, (target_height - fitted_height) // 2
    elif preprocess.fit == "crop":  # as torchvision's center_crop rounds
        left, top = -round((fitted_width - target_width) / 2), -round((fitted_height - target_height) / 2)
    return scaling(fitted_width / width, fitted_height / height).then(shifting(left, top))


def to_picture(points: Tensor, sizes: Tensor, preprocess: Preprocess) -> Tensor:
    """Places that the network gave, in pixels of the pictures as they were read.

    Args:
        points: float [B, N, 2], x y in pixels of what the network saw.
        sizes: int64 [B, 2], height and width of the pictures as they were read.
    """
    found = torch.empty_like(points)
    for row, values, size in zip(found, points, sizes.tolist(), strict=True):
        there = fitting((int(size[0]), int(size[1])), preprocess)
        row[:, 0] = (values[:, 0] - there.x0) / there.xx
        row[:, 1] = (values[:, 1] - there.y0) / there.yy
    return found


def moved(target: Target, by: Map, size: tuple[int, int]) -> Target:
    """A target after its picture went through `by` and was cut to (height, width).

    Boxes become the upright boxes around their corners, cut at the edge; an object of which less than a quarter is left
    is dropped. Points outside are still known, for a network may well say where they are.
    """
    if target is None:
        return None
    if isinstance(target, Points):
        return Points(torch.cat((by.points(target.values[:, :2]), target.values[:, 2:]), 1))
    if not len(target):
        return replace(target, masks=None)
    x1, y1, x2, y2 = target.boxes.unbind(1)
    corners = torch.stack((torch.stack((x1, x2, x1, x2), 1), torch.stack((y1, y1, y2, y2), 1)), 2)  # [N, 4, 2]
    corners = by.points(corners)
    whole = torch.cat((corners.amin(1), corners.amax(1)), 1)
    height, width = size
    cut = torch.stack(
        (
            whole[:, 0].clamp(0, width),
            whole[:, 1].clamp(0, height),
            whole[:, 2].clamp(0, width),
            whole[:, 3].clamp(0, height),
        ),
        1,
    )
    sides, whole_sides = cut[:, 2:] - cut[:, :2], whole[:, 2:] - whole[:, :2]
    seen = sides.prod(1) >= LEAST_SEEN * whole_sides.prod(1)
    kept = seen & (sides.amin(1) >= torch.minimum(whole_sides.amin(1), torch.tensor(LEAST_SIDE)))
    keypoints = target.keypoints
    if keypoints is not None:
        keypoints = torch.cat((by.points(keypoints[..., :2]), keypoints[..., 2:]), -1)[kept]
    return Objects(cut[kept], target.labels[kept], target.kinds[kept], target.areas[kept], None, keypoints)
