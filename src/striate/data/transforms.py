"""From a decoded picture to what the network takes: fit, augment one picture at a time, normalise.

Everything up to `Normalize` stays uint8: four times less to move, and torch resizes uint8 with vector instructions
of its own. Whatever memory layout a picture has is kept: resizing is up to four times faster on interleaved pixels
(what decoders give), but turning planes into interleaved pixels costs as much as it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from striate.config import Augment, Preprocess

Transform = Callable[[Tensor], Tensor]
Member = TypeVar("Member")


def eval_transform(preprocess: Preprocess) -> Transform:
    """What happens to a picture in evaluate, predict and every export.

    Args:
        preprocess: size, channels, and how a picture of another size is fitted.

    Returns:
        A function, uint8 [1 or 3, H, W] → uint8 [preprocess.channels, *seen_size(H, W, preprocess)]. A picture that has
        the size already is not resampled, whatever `fit` says; one that also has the channels is returned as it is.
    """
    return partial(_prepare, preprocess=preprocess)  # partial, not a closure: worker processes may have to pickle it


def train_transform(augment: Augment, preprocess: Preprocess) -> Transform:
    """What happens to a picture in training; random, from torch's global generator only.

    The order: crop or fit, mirror, one affine resampling (rotate, shear, scale), pad-crop, policy, colour, erase.
    What an affine map or a shift uncovers is black.

    Returns:
        A function, uint8 [1 or 3, H, W] → uint8 [preprocess.channels, *preprocess.size].
    """
    bilinear = v2.InterpolationMode.BILINEAR
    steps: list[Transform] = []
    if augment.crop == "resized":
        steps.append(
            v2.RandomResizedCrop(
                preprocess.size, scale=augment.crop_scale, interpolation=_mode(preprocess), antialias=True
            )
        )
        steps.append(partial(with_channels, channels=preprocess.channels))
    else:
        steps.append(eval_transform(preprocess))
    if augment.hflip:
        steps.append(v2.RandomHorizontalFlip(augment.hflip))
    if augment.rotate or augment.shear or augment.scale != (1.0, 1.0):
        shear = (-augment.shear, augment.shear) if augment.shear else None
        # fill=None, not 0: grid_sample already answers 0 outside, a fill would blend the border a second time
        steps.append(
            v2.RandomAffine(
                [-augment.rotate, augment.rotate], scale=augment.scale, shear=shear, interpolation=bilinear, fill=None
            )
        )
    if augment.crop == "pad" and augment.pad:
        steps.append(v2.RandomCrop(preprocess.size, padding=augment.pad))
    if augment.policy == "trivial":
        steps.append(v2.TrivialAugmentWide(interpolation=bilinear))
    elif augment.policy == "rand":
        steps.append(v2.RandAugment(interpolation=bilinear))
    if augment.color_jitter:
        steps.append(v2.ColorJitter(augment.color_jitter, augment.color_jitter, augment.color_jitter))
    if augment.erase:
        steps.append(v2.RandomErasing(augment.erase, value=0))
    return partial(_apply, steps=steps)


class Normalize(nn.Module):
    """uint8 or float [B, C, H, W] in 0..255 → float32 (x / 255 - mean) / std, as one multiply-add.

    The memory format is kept. The two constants follow `.to(device)` but are not in the state dict: they belong to
    the `Preprocess` of the model file.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        mean, std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)  # [C, 1, 1]
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.float(), self.scale)


def luma(image: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] → uint8 [..., 1, H, W], as Pillow's "L" does it (ITU-R 601).

    Whole numbers that sum to 2^16, so that grey in colour stays the very same grey; torchvision's darkens it by one.
    """
    red, green, blue = image.to(torch.int32).unbind(-3)
    grey = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16  # 0.299, 0.587, 0.114
    return grey.to(torch.uint8).unsqueeze(-3)


def resize_size(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """The (height, width) to which a picture is resized before it is cropped or padded."""
    target_height, target_width = preprocess.size
    if preprocess.fit == "squash":
        return target_height, target_width
    if preprocess.fit == "native":
        return height, width
    if preprocess.fit == "crop":
        target_height = int(target_height / preprocess.crop_ratio + 0.5)
        target_width = int(target_width / preprocess.crop_ratio + 0.5)
    # crop: cover the target; pad: stay inside it. Compared as products, so that no rounding decides which side leads.
    height_leads = (height * target_width <= width * target_height) == (preprocess.fit == "crop")
    if height_leads:  # the other side is rounded down, as torchvision's Resize does
        return target_height, max(1, target_height * width // height)
    return max(1, target_width * height // width), target_width


def input_size(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """The (height, width) at which the network sees a picture in evaluation: `size`, or the picture's own rectangle."""
    if preprocess.fit != "native" and not (preprocess.fit == "pad" and preprocess.pad_multiple):
        return preprocess.size
    multiple = max(1, preprocess.pad_multiple)
    high, wide = (-(-side // multiple) * multiple for side in resize_size(height, width, preprocess))
    if preprocess.fit == "native":
        return high, wide
    return min(high, preprocess.size[0]), min(wide, preprocess.size[1])


def group_by_shape(members: Iterable[Member], shape: Callable[[Member], torch.Size]) -> list[list[Member]]:
    """Those of one shape together, in the order in which shapes first appear."""
    found: dict[torch.Size, list[Member]] = {}
    for member in members:
        found.setdefault(shape(member), []).append(member)
    return list(found.values())


def _prepare(image: Tensor, preprocess: Preprocess) -> Tensor:
    if tuple(image.shape[-2:]) != input_size(image.shape[-2], image.shape[-1], preprocess):
        image = _fit(image, preprocess)
    return with_channels(image, preprocess.channels)


def _fit(image: Tensor, preprocess: Preprocess) -> Tensor:
    height, width = input_size(image.shape[-2], image.shape[-1], preprocess)
    size = resize_size(image.shape[-2], image.shape[-1], preprocess)
    if size != tuple(image.shape[-2:]):
        image = F.resize(image, list(size), interpolation=_mode(preprocess), antialias=True)
    if preprocess.fit == "crop":
        return F.center_crop(image, [height, width])
    if preprocess.fit in ("pad", "native"):
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        return F.pad(image, [left, top, width - size[1] - left, height - size[0] - top], fill=preprocess.fill)
    return image


def with_channels(image: Tensor, channels: int) -> Tensor:
    if image.shape[0] == channels:
        return image
    return luma(image) if channels == 1 else image.repeat(3, 1, 1)


def _mode(preprocess: Preprocess) -> v2.InterpolationMode:
    return v2.InterpolationMode(preprocess.interpolation)


def _apply(image: Tensor, steps: list[Any]) -> Tensor:
    for step in steps:
        image = step(image)
    return image
