"""What a picture has to match: content, style by Gram matrices, and smoothness (Gatys et al. 2016, CVPR).

The formulas are the paper's (arXiv:1508.06576, equations 1 to 5). Its layers have N maps of M positions each.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """G_kk' = <a_k, a_k'>, the maps' inner products over all positions: [B, N, H, W] -> [B, N, N] (equation 3)."""
    maps = features.flatten(2)  # [B, N, M]
    return maps @ maps.transpose(1, 2)


def mean_gram(features: Tensor) -> Tensor:
    """The Gram matrix over M, by which pictures of other sizes can be compared: [B, N, H, W] -> [B, N, N]."""
    return gram_matrix(at_least_float32(features)) / features[0, 0].numel()


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """½ Σ (F - P)² of one layer (equation 1), both [B, N, H, W]; a number."""
    return (at_least_float32(features) - at_least_float32(target)).square().sum() / 2


def style_loss(gram: Tensor, target: Tensor) -> Tensor:
    """E = 1/(4 N² M²) Σ (G - A)² of one layer (equation 4), of `mean_gram`s [B or 1, N, N]; the mean over B, a number.

    The paper's M² is in them already, each side with the M of its own picture.
    """
    return (gram - target).square().sum((1, 2)).mean() / (4 * gram.shape[-1] ** 2)


def total_variation(images: Tensor) -> Tensor:
    """Mean squared step between neighbours, down plus across: [B, C, H, W] -> a number (Mahendran & Vedaldi 2015)."""
    down = images[..., 1:, :] - images[..., :-1, :]
    across = images[..., 1:] - images[..., :-1]
    return down.square().mean() + across.square().mean()


def at_least_float32(features: Tensor) -> Tensor:
    """Sums over thousands of positions are nothing for half a float. (Autocast multiplies matrices in bf16 all the
    same: it sums in float32 and rounds once, which is seen nowhere.)"""
    return features.to(torch.promote_types(features.dtype, torch.float32))
