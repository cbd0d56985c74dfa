"""What may happen to a picture between training and use, in grades: moved, turned, blurred, noisy, dark, covered.

They act on what the network sees, uint8 pictures of its size; lengths are shares of the picture, so that a grade means
alike at 28 and at 224 pixels. Noise, light and contrast take their grades from ImageNet-C (Hendrycks & Dietterich,
2019, arXiv:1903.12261, in their code), blur nearly; the third rotation and the second shift, 30° and 10 %, bound the
attacks of Engstrom et al., 2019 (arXiv:1712.02779); the other grades are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from striate.data.seeds import seed_of

GREY = 128  # of what covers a picture: mid-grey, as in Zeiler & Fergus, 2014 (arXiv:1311.2901), section 4.2


class Corruption(NamedTuple):
    """One way to make a picture harder, by degrees.

    Attributes:
        unit: what `strength` measures.
        strengths: five grades, rising; 0 changes nothing.
        apply: uint8 [B, C, H, W] with C 1 or 3, strength, CPU generator → uint8 of the same shape. What it draws, it
            draws once for the batch, noise for every pixel: `disturb` is for batches in which each picture draws.
        write: a strength with its unit, in a few letters.
    """

    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Tensor, float, torch.Generator], Tensor]
    write: Callable[[float], str]


def disturb(images: Tensor, name: str, strength: float, seed: int, places: Sequence[int | str]) -> Tensor:
    """Disturb each picture with numbers drawn from (seed, name, its place) alone.

    One picture at a time: its pixels must not depend on its neighbours, and a sum over a batch may round otherwise.
    Strengths share what is drawn: stronger noise is the same noise, louder.

    Args:
        images: uint8 [B, C, H, W] on the CPU.
        name: a key of DISTURBANCES.
        places: B numbers or names, one a picture.
    """
    apply = CORRUPTIONS[name].apply
    generators = (torch.Generator().manual_seed(seed_of(seed, name, place)) for place in places)
    pairs = zip(images.split(1), generators, strict=True)
    return torch.cat([apply(image, strength, generator) for image, generator in pairs])


def graded(strengths: Sequence[float], count: int) -> tuple[float, ...]:
    """`count` grades up to the strongest, evenly along the polyline from 0 through `strengths`; all of them for 5."""
    knots = (0.0, *strengths)
    places = [step * len(strengths) / count for step in range(1, count + 1)]
    below = [min(int(place), len(strengths) - 1) for place in places]
    # rounded: 0.1 + (0.15 - 0.1) * 0.5 must not be written as 0.12500000000000003
    return tuple(
        round(knots[at] + (knots[at + 1] - knots[at]) * (place - at), 9)
        for at, place in zip(below, places, strict=True)
    )


def shift(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Up, down, left or right, by whole pixels: `strength` of that side."""
    height, width = images.shape[-2:]
    direction = int(torch.randint(4, (), generator=generator))
    sign = 1 if direction % 2 else -1
    down, right = (sign * round(strength * height), 0) if direction < 2 else (0, sign * round(strength * width))
    shifted = border_colour(images).expand_as(images).clone()
    shifted[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = images[
        ..., max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return shifted


def smaller(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shrunk about the centre to 1 - `strength` of its sides, in whole pixels, antialiased."""
    height, width = images.shape[-2:]
    high, wide = (max(1, round(side * (1 - strength))) for side in (height, width))
    top, left = (height - high) // 2, (width - wide) // 2
    shrunk = border_colour(images).expand_as(images).clone()
    shrunk[..., top : top + high, left : left + wide] = as_uint8(F.resize(images.float(), [high, wide]))
    return shrunk


def larger(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Enlarged about the centre to 1 + `strength` of its sides, and cut to its size; bilinear."""
    moved = F.affine(
        images.float(),
        angle=0.0,
        translate=[0.0, 0.0],
        scale=1 + strength,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    return as_uint8(moved)


def rotate(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """About the centre by `strength` degrees, one way or the other; bilinear, quarter turns of squares exact."""
    sign = 1 if torch.randint(2, (), generator=generator) else -1
    ground = border_colour(images).float()
    # turned as a difference from what it uncovers: torchvision answers 0 outside, and its `fill` blends edges twice
    turned = F.rotate(images.float() - ground, sign * strength, interpolation=InterpolationMode.BILINEAR)
    return as_uint8(turned + ground)


def blur(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Gaussian, sigma = `strength` of the shorter side; beyond its edge a picture goes on as its mirror image.

    As products with two small matrices: torchvision's convolution is not separated (53 x 53 products a pixel at the
    strongest grade of 224 pixels) and refuses pictures smaller than its kernel.
    """
    height, width = images.shape[-2:]
    sigma = strength * min(height, width)
    if sigma == 0:
        return images
    return as_uint8(gaussian_matrix(height, sigma) @ images.float() @ gaussian_matrix(width, sigma))


def noise(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Independent normal noise on every pixel and channel, sigma = `strength` of white; clipped."""
    return as_uint8(images + 255 * strength * torch.randn(images.shape, generator=generator))


def darker(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The share `strength` of all light is gone."""
    return F.adjust_brightness(images, 1 - strength)


def lighter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """`strength` is added to V of HSV (ImageNet-C's brightness): hue and saturation stay, and black turns grey."""
    value = images.amax(-3, keepdim=True).float()  # V, [B, 1, H, W]
    lifted = (value + 255 * strength).clamp(max=255)
    return as_uint8(torch.where(value > 0, images * (lifted / value.clamp(min=1)), lifted))


def contrast(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The share `strength` of every pixel's difference from the picture's mean grey is gone."""
    return F.adjust_contrast(images, 1 - strength)


def occlude(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A grey rectangle of the picture's shape, somewhere within it, covers the share `strength` of its area."""
    height, width = images.shape[-2:]
    high = min(height, max(1, round(height * math.sqrt(strength))))
    wide = min(width, round(strength * height * width / high))  # makes up for what rounding did to the height
    down, right = torch.rand(2, generator=generator).tolist()
    top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
    covered = images.clone()
    covered[..., top : top + high, left : left + wide] = GREY
    return covered


def border_colour(images: Tensor) -> Tensor:
    """uint8 [B, C, 1, 1]: the median of each channel along the edge. What is uncovered takes it, so that moving a
    picture adds as little of a shape to it as can be: black to a black ground, paper to paper."""
    edges = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    return torch.cat(edges, dim=-1).median(-1).values[..., None, None]


def gaussian_matrix(side: int, sigma: float) -> Tensor:
    """float32 [side, side], symmetric, rows and columns sum to 1: a blur of one axis that keeps the mean.

    The kernel is cut at 4 sigma and sums to 1; d c b a | a b c d | d c b a beyond the ends (SciPy's `reflect`).
    """
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = (torch.arange(side)[:, None] + offsets) % (2 * side)  # [side, 2 radius + 1]
    places = torch.minimum(places, 2 * side - 1 - places)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1)).float()


def as_uint8(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)


def percent(strength: float) -> str:
    return f"{100 * strength:.3g} %"


def minus_percent(strength: float) -> str:
    return f"−{percent(strength)}" if strength else percent(strength)


def sigma_percent(strength: float) -> str:
    return f"σ {percent(strength)}"


def degrees(strength: float) -> str:
    return f"{strength:.3g}°"


def sigma(strength: float) -> str:
    return f"σ {strength:.2g}"


# Blur: ImageNet-C's σ of 1, 2, 3, 4, 6 pixels of 224, rounded to shares of the side. Contrast: it keeps 0.4 to 0.05 of
# each channel's difference from that channel's mean, here of the mean grey's.
CORRUPTIONS: dict[str, Corruption] = {
    "shift": Corruption("moved by, of the side", (0.05, 0.1, 0.15, 0.2, 0.3), shift, percent),
    "smaller": Corruption("sides shorter by", (0.1, 0.2, 0.3, 0.4, 0.5), smaller, percent),
    "larger": Corruption("sides longer by", (0.1, 0.25, 0.5, 0.75, 1.0), larger, percent),
    "rotation": Corruption("turned by", (10, 20, 30, 45, 60), rotate, degrees),
    "blur": Corruption("width, of the side", (0.005, 0.01, 0.015, 0.02, 0.03), blur, sigma_percent),
    "noise": Corruption("strength, of white", (0.08, 0.12, 0.18, 0.26, 0.38), noise, sigma),
    "darker": Corruption("light taken away", (0.2, 0.4, 0.6, 0.7, 0.8), darker, percent),
    "lighter": Corruption("brightness added", (0.1, 0.2, 0.3, 0.4, 0.5), lighter, percent),
    "contrast": Corruption("contrast taken away", (0.6, 0.7, 0.8, 0.9, 0.95), contrast, minus_percent),
    "occlusion": Corruption("share covered", (0.05, 0.1, 0.2, 0.3, 0.4), occlude, percent),
}
