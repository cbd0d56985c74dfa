"""What training does to a picture whose target is somewhere in it: boxes, points and masks go where their pixels go.

The picture is resized once, from its own pixels, then placed, rotated, flipped; the target goes through the same map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from striate.config import Augment, Preprocess
from striate.data.geometry import Affine, paste, preprocess_affine, rotation, scaling, shifting, warp
from striate.data.targets import Target
from striate.data.transforms import eval_transform, input_size, resize_size, with_channels

Pair = tuple[Tensor, Target | None]
More = Callable[[], Pair]  # gives another picture of the split, for mosaics
GREY = 114  # between the pictures of a mosaic and beyond the edge of one, as YOLOv5 has it


def eval_pair(picture: Tensor, target: Target | None, preprocess: Preprocess) -> Pair:
    """As `eval_transform` fits the picture, with its target in pixels of what the network sees."""
    size = (picture.shape[-2], picture.shape[-1])
    return eval_transform(preprocess)(picture), fitted(target, size, preprocess)


def fitted(target: Target | None, size: tuple[int, int], preprocess: Preprocess) -> Target | None:
    """A target of a picture of (height, width), in pixels of what the network sees of it in evaluation."""
    if target is None:
        return None
    return target.warp(preprocess_affine(size, preprocess), input_size(*size, preprocess))


@dataclass
class TrainPair:
    """`(picture, target, more)` → the same, augmented; random, from torch's global generator only.

    Args:
        augment: mosaic, scale, shift, rotate, shear, hflip, color_jitter; other settings are for labels alone.
        preprocess: the size the network sees.
        pairs: for points, which one becomes which in a horizontal flip; None: points forbid flipping.
    """

    augment: Augment
    preprocess: Preprocess
    pairs: tuple[int, ...] | None = None

    def __call__(self, picture: Tensor, target: Target | None, more: More) -> Pair:
        augment = self.augment
        if augment.mosaic and _random() < augment.mosaic:
            picture, target = self._mosaic([(picture, target), more(), more(), more()])
        else:
            picture, target = self._one(picture, target)
        if augment.hflip and _random() < augment.hflip:
            picture, target = self._flipped(picture, target)
        if augment.color_jitter:
            strength = augment.color_jitter
            picture = v2.ColorJitter(strength, strength, strength, strength / 10)(picture)
        return with_channels(picture, self.preprocess.channels), target

    def _one(self, picture: Tensor, target: Target | None) -> Pair:
        """Fitted, at a random scale and place, rotated."""
        augment, (height, width) = self.augment, self.preprocess.size
        zoom = _between(*augment.scale)
        resized, to_resized = self._resized(picture, zoom)
        spare_x, spare_y = width - resized.shape[-1], height - resized.shape[-2]
        # anywhere that wastes nothing when scales vary, then off by `shift`; of a crop of a larger picture anywhere
        anywhere = augment.scale != (1.0, 1.0) or augment.shift or self.preprocess.fit == "native"
        at_x, at_y = (_random(), _random()) if anywhere else (0.5, 0.5)
        left = round(spare_x * at_x + _between(-augment.shift, augment.shift) * width)
        top = round(spare_y * at_y + _between(-augment.shift, augment.shift) * height)
        canvas = torch.full((resized.shape[0], height, width), self._fill(), dtype=torch.uint8)
        paste(canvas, resized, left, top, (0, 0, width, height))
        by = to_resized.then(shifting(left, top))
        if augment.rotate or augment.shear:
            degrees = _between(-augment.rotate, augment.rotate)
            shear = _between(-augment.shear, augment.shear)
            turn = rotation(degrees, shear, (width / 2, height / 2))
            canvas = warp(canvas, turn, (height, width), self._fill())
            by = by.then(turn)
        return canvas, None if target is None else target.warp(by, self.preprocess.size)

    def _mosaic(self, four: list[Pair]) -> Pair:
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
            paste(canvas, with_channels(resized, canvas.shape[0]), left, top, (x1, y1, x2, y2))
            if target is not None:
                inside = target.warp(to_resized.then(shifting(left - x1, top - y1)), (y2 - y1, x2 - x1))
                targets.append(inside.warp(shifting(x1, y1), (height, width)))
        assert canvas is not None
        return canvas, targets[0].joined(targets[1:]) if targets else None

    def _resized(self, picture: Tensor, zoom: float) -> tuple[Tensor, Affine]:
        """The picture at `zoom` times the size at which evaluation sees it, and the map to that."""
        height, width = picture.shape[-2:]
        fitted = resize_size(height, width, self.preprocess)
        if (height, width) == self.preprocess.size:
            fitted = (height, width)
        new_height, new_width = max(1, round(fitted[0] * zoom)), max(1, round(fitted[1] * zoom))
        if (new_height, new_width) != (height, width):
            mode = v2.InterpolationMode(self.preprocess.interpolation)
            picture = F.resize(picture, [new_height, new_width], interpolation=mode, antialias=True)
        return picture, scaling(new_width / width, new_height / height)

    def _flipped(self, picture: Tensor, target: Target | None) -> Pair:
        if target is None:
            return picture.flip(-1), None
        turned = target.hflip(self.preprocess.size, self.pairs)
        return (picture, target) if turned is None else (picture.flip(-1), turned)

    def _fill(self) -> int:
        return self.preprocess.fill if self.preprocess.fit == "pad" else GREY


def resized_batch(
    images: Tensor, targets: list[Target | None], size: tuple[int, int]
) -> tuple[Tensor, list[Target | None]]:
    """uint8 [B, C, H, W] and its targets at another size, for training at several scales."""
    height, width = images.shape[-2:]
    by = scaling(size[1] / width, size[0] / height)
    moved = [None if target is None else target.warp(by, size) for target in targets]
    return F.resize(images, list(size), antialias=True), moved


def _random() -> float:
    return float(torch.rand(()))


def _between(low: float, high: float) -> float:
    return low if low == high else low + (high - low) * _random()
