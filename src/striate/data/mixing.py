"""Training on mixtures of two pictures and of their labels: mixup and CutMix.

mixup: Zhang et al., 2018 (arXiv:1710.09412). CutMix: Yun et al., 2019 (arXiv:1905.04899).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mix(
    images: Tensor, targets: Tensor, mixup: float, cutmix: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Mix each picture of a batch with another of the same batch.

    Args:
        images: float [B, C, H, W].
        targets: float [B, K], one row a picture: one-hot, smoothed, or several labels.
        mixup, cutmix: alpha of the Beta(alpha, alpha) that the share is drawn from; 0 turns a method off. With both
            on, each batch takes one of them, by a fair coin.
        generator: the only source of randomness, a CPU one; None: torch's global one.

    Returns:
        New images and targets of the same shapes; the arguments themselves when both methods are off.
    """
    use_cutmix = bool(torch.rand((), generator=generator) < 0.5) if mixup and cutmix else cutmix > 0
    alpha = cutmix if use_cutmix else mixup
    if not alpha:
        return images, targets
    share = beta(alpha, generator)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    if use_cutmix:
        height, width = images.shape[-2:]
        top, bottom, left, right = cutmix_box(height, width, share, generator)
        images = images.clone()
        images[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)  # the box was clipped and rounded
    else:
        images = images.lerp(images[partner], 1 - share)
    return images, targets.lerp(targets[partner], 1 - share)


def beta(alpha: float, generator: torch.Generator | None = None) -> float:
    """One draw of Beta(alpha, alpha), in 0..1.

    torch has no Beta that takes a generator; a Dirichlet of two is one.
    """
    return float(torch._sample_dirichlet(torch.tensor([alpha, alpha], dtype=torch.float64), generator)[0])


def cutmix_box(
    height: int, width: int, share: float, generator: torch.Generator | None = None
) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the patch to replace: 1 - share of the area, anywhere, cut at the border.

    CutMix paper, equation 2: sides of sqrt(1 - share), the centre uniform over the picture.
    """
    side = math.sqrt(max(0.0, 1 - share))
    y, x = (int(torch.randint(limit, (), generator=generator)) for limit in (height, width))
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    return max(0, y - half_height), min(height, y + half_height), max(0, x - half_width), min(width, x + half_width)
