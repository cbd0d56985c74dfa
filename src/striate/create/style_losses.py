"""What a picture has to match: content, style by Gram matrices, and smoothness (Gatys et al. 2016, CVPR).

The formulas are the paper's (arXiv:1508.06576, equations 1 to 5). Its layers have N maps of M positions each.
"""

from __future__ import annotations

from torch import Tensor


def gram_matrix(features: Tensor) -> Tensor:
    """G_kk' = <a_k, a_k'>, the maps' inner products over all positions: [B, N, H, W] -> [B, N, N] (equation 3)."""
    maps = features.flatten(2)  # [B, N, M]
    return maps @ maps.transpose(1, 2)


def mean_gram(features: Tensor) -> Tensor:
    """The Gram matrix over M: pictures of other sizes can be compared by it, [B, N, H, W] -> [B, N, N] in float32."""
    return gram_matrix(features.float()) / features[0, 0].numel()


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """½ Σ (F - P)² of one layer (equation 1), both [B, N, H, W]; a number."""
    return (features.float() - target.float()).square().sum() / 2


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
