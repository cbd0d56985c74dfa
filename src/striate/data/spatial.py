"""What training does to a picture whose target is a place in it: boxes and points go where their pixels go.

The picture is resized once, from its own pixels, then placed, turned, mirrored; the target goes through the same map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from striate.config import Augment, Preprocess
from striate.data.geometry import Map, Target, fitting, mirroring, moved, scaling, shifting, turning
from striate.data.sample import Objects, Points
from striate.data.transforms import eval_transform, input_size, resize_size, with_channels

Placed = tuple[Tensor, Target]
More = Callable[[], Placed]  # gives another picture of the split, for mosaics
GREY = 114  # between the pictures of a mosaic and beyond the edge of one, as YOLOv5 has it


def eval_placed(picture: Tensor, target: Target, preprocess: Preprocess) -> Placed:
    """As `eval_transform` fits the picture, with its target in pixels of what the network sees."""
    size = (picture.shape[-2], picture.shape[-1])
    return eval_transform(preprocess)(picture), moved(target, fitting(size, preprocess), input_size(*size, preprocess))


@dataclass
class TrainPlaced:
    """`(picture, target, more)` → the same, augmented; random, from torch's global generator only.

    Args:
        augment: mosaic, scale, shift, rotate, shear, mirror, colour; other settings are for labels alone.
        preprocess: the size the network sees.
        pairs: for points, which one becomes which in the mirror; None: points forbid mirroring.
    """

    augment: Augment
    preprocess: Preprocess
    pairs: tuple[int, ...] | None = None

    def __call__(self, picture: Tensor, target: Target, more: More) -> Placed:
        augment = self.augment
        if augment.mosaic and _random() < augment.mosaic:
            picture, target = self._mosaic([(picture, target), more(), more(), more()])
        else:
            picture, target = self._one(picture, target)
        if augment.hflip and _random() < augment.hflip:
            picture, target = self._mirrored(picture, target)
        if augment.color_jitter:
            strength = augment.color_jitter
            picture = v2.ColorJitter(strength, strength, strength, strength / 10)(picture)
        return with_channels(picture, self.preprocess.channels), target

    def _one(self, picture: Tensor, target: Target) -> Placed:
        """Fitted, at a random scale and place, turned."""
        augment, (height, width) = self.augment, self.preprocess.size
        zoom = _between(*augment.scale)
        resized, to_resized = self._resized(picture, zoom)
        spare_x, spare_y = width - resized.shape[-1], height - resized.shape[-2]
        # anywhere that wastes nothing when scales vary, then off by `shift`
        at_x, at_y = (_random(), _random()) if augment.scale != (1.0, 1.0) or augment.shift else (0.5, 0.5)
        left = round(spare_x * at_x + _between(-augment.shift, augment.shift) * width)
        top = round(spare_y * at_y + _between(-augment.shift, augment.shift) * height)
        canvas = torch.full((resized.shape[0], height, width), self._fill(), dtype=torch.uint8)
        _paste(canvas, resized, left, top, (0, 0, width, height))
        by = to_resized.then(shifting(left, top))
        if augment.rotate or augment.shear:
            degrees = _between(-augment.rotate, augment.rotate)
            shear = _between(-augment.shear, augment.shear)
            turn = turning(degrees, shear, (width / 2, height / 2))
            canvas = warped(canvas, turn, self._fill())
            by = by.then(turn)
        return canvas, moved(target, by, self.preprocess.size)

    def _mosaic(self, four: list[Placed]) -> Placed:
        """Four pictures around a random centre (Bochkovskiy et al. 2020, arXiv:2004.10934, figure 3)."""
        height, width = self.preprocess.size
        middle_x, middle_y = round(_between(0.3, 0.7) * width), round(_between(0.3, 0.7) * height)
        canvas: Tensor | None = None
        targets: list[Target] = []
        for number, (picture, target) in enumerate(four):
            resized, to_resized = self._resized(picture, _between(0.5, 1.0) * _between(*self.augment.scale))
            if canvas is None:
                canvas = torch.full((resized.shape[0], height, width), GREY, dtype=torch.uint8)
            right, lower = number % 2 == 1, number // 2 == 1
            left = middle_x if right else middle_x - resized.shape[-1]
            top = middle_y if lower else middle_y - resized.shape[-2]
            x1, x2 = (middle_x, width) if right else (0, middle_x)
            y1, y2 = (middle_y, height) if lower else (0, middle_y)
            _paste(canvas, with_channels(resized, canvas.shape[0]), left, top, (x1, y1, x2, y2))
            by = to_resized.then(shifting(left - x1, top - y1))
            inside = moved(target, by, (y2 - y1, x2 - x1))
            targets.append(moved(inside, shifting(x1, y1), (height, width)))
        assert canvas is not None
        return canvas, joined(targets)

    def _resized(self, picture: Tensor, zoom: float) -> tuple[Tensor, Map]:
        """The picture at `zoom` times the size at which judging sees it, and the map to that."""
        height, width = picture.shape[-2:]
        fitted = resize_size(height, width, self.preprocess)
        if (height, width) == self.preprocess.size:
            fitted = (height, width)
        new_height, new_width = max(1, round(fitted[0] * zoom)), max(1, round(fitted[1] * zoom))
        if (new_height, new_width) != (height, width):
            mode = v2.InterpolationMode(self.preprocess.interpolation)
            picture = F.resize(picture, [new_height, new_width], interpolation=mode, antialias=True)
        return picture, scaling(new_width / width, new_height / height)

    def _mirrored(self, picture: Tensor, target: Target) -> Placed:
        if isinstance(target, Points):
            if self.pairs is None:
                return picture, target
            target = Points(target.values[list(self.pairs)])
        width = self.preprocess.size[1]
        return picture.flip(-1), moved(target, mirroring(width), self.preprocess.size)

    def _fill(self) -> int:
        return self.preprocess.fill if self.preprocess.fit == "pad" else GREY


def warped(picture: Tensor, by: Map, fill: int) -> Tensor:
    """uint8 [C, H, W] as it looks after `by`, bilinear, `fill` where nothing was."""
    height, width = picture.shape[-2:]
    determinant = by.xx * by.yy - by.xy * by.yx
    back = torch.tensor([[by.yy, -by.xy], [-by.yx, by.xx]]) / determinant
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack((x - by.x0, y - by.y0), -1) @ back.T  # [H, W, 2] in pixels of the picture
    grid = places * 2 / torch.tensor([width, height]) - 1
    values = torch.nn.functional.grid_sample(picture[None].float() - fill, grid[None], align_corners=False)[0]
    return (values + fill).round().clamp(0, 255).to(torch.uint8)


def joined(targets: list[Target]) -> Target:
    """Objects of several pictures as those of one; keypoints only where all have as many."""
    found = [target for target in targets if isinstance(target, Objects)]
    if not found:
        return next((target for target in targets if target is not None), None)
    keypoints = [one.keypoints for one in found if one.keypoints is not None]
    alike = len(keypoints) == len(found) and len({points.shape[1] for points in keypoints}) == 1
    return Objects(
        torch.cat([one.boxes for one in found]),
        torch.cat([one.labels for one in found]),
        torch.cat([one.kinds for one in found]),
        torch.cat([one.areas for one in found]),
        None,
        torch.cat(keypoints) if alike else None,
    )


def resized_batch(images: Tensor, targets: list[Target], size: tuple[int, int]) -> tuple[Tensor, list[Target]]:
    """uint8 [B, C, H, W] and its targets at another size, for training at several scales."""
    height, width = images.shape[-2:]
    by = scaling(size[1] / width, size[0] / height)
    return F.resize(images, list(size), antialias=True), [moved(target, by, size) for target in targets]


def without_masks(target: Target) -> Target:
    """What travels to worker processes and into batches: masks are not learnt by boxes."""
    return replace(target, masks=None) if isinstance(target, Objects) else target


def _paste(canvas: Tensor, picture: Tensor, left: int, top: int, window: tuple[int, int, int, int]) -> None:
    """Lay the picture on the canvas at (left, top), inside x1 y1 x2 y2 alone."""
    x1, y1 = max(left, window[0]), max(top, window[1])
    x2, y2 = min(left + picture.shape[-1], window[2]), min(top + picture.shape[-2], window[3])
    if x2 > x1 and y2 > y1:
        canvas[:, y1:y2, x1:x2] = picture[:, y1 - top : y2 - top, x1 - left : x2 - left]


def _random() -> float:
    return float(torch.rand(()))


def _between(low: float, high: float) -> float:
    return low if low == high else low + (high - low) * _random()
