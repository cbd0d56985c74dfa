"""Keeping a photo's colours while it takes a style (Gatys, Bethge, Hertzmann & Shechtman 2016, arXiv:1606.05897).

`histogram` recolours the style picture before the transfer, so that mean and covariance of its colours are the
photo's (section 3.1); `luminance` transfers brightness alone and puts the photo's own chroma back (section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

# NTSC's luminance and two chroma axes of RGB (FCC 1953; skimage.color.rgb2yiq has the same)
YIQ = ((0.299, 0.587, 0.114), (0.59590059, -0.27455667, -0.32134392), (0.21153661, -0.52273617, 0.31119955))


def to_yiq(images: Tensor) -> Tensor:
    """RGB in 0..1 -> luminance in 0..1 and two of chroma around 0, [B, 3, H, W]."""
    return torch.einsum("ij,bjhw->bihw", images.new_tensor(YIQ), images)


def from_yiq(images: Tensor) -> Tensor:
    """The way back, not cut to 0..1: [B, 3, H, W]."""
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(images.new_tensor(YIQ)), images)


def with_chroma_of(images: Tensor, photo: Tensor) -> Tensor:
    """The brightness of `images` under the chroma of `photo`, both RGB [B, 3, H, W] in 0..1; cut to 0..1."""
    brightness, chroma = to_yiq(images)[:, :1], to_yiq(photo)[:, 1:]
    return from_yiq(torch.cat((brightness, chroma), dim=1)).clamp(0, 1)


def luminance(images: Tensor) -> Tensor:
    """Brightness as three equal channels, which a network takes: [B, 3, H, W] -> [B, 3, H, W]."""
    return to_yiq(images)[:, :1].expand(-1, 3, -1, -1)


def match_luminance(style: Tensor, photo: Tensor) -> Tensor:
    """Grey `style` stretched to the mean and deviation of grey `photo`: σ_C / σ_S (L_S - μ_S) + μ_C (equation 10)."""
    scale = photo.std() / style.std().clamp_min(1e-6)
    return ((style - style.mean()) * scale + photo.mean()).clamp(0, 1)


def match_colours(style: Tensor, photo: Tensor) -> Tensor:
    """`style` [B, 3, h, w] recoloured so that mean and covariance of its colours are those of `photo` [B, 3, H, W].

    x -> Σ_C^½ Σ_S^-½ (x - μ_S) + μ_C with symmetric roots, which the paper prefers to Cholesky's; cut to 0..1.
    """
    (mean_style, root_style), (mean_photo, root_photo) = (_colour_statistics(images) for images in (style, photo))
    turn = (root_photo @ torch.linalg.inv(root_style)).to(style.dtype)
    centred = style - mean_style.to(style.dtype)[:, None, None]
    return (torch.einsum("ij,bjhw->bihw", turn, centred) + mean_photo.to(style.dtype)[:, None, None]).clamp(0, 1)


def _colour_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3] and the symmetric square root [3, 3] of the covariance, in float64."""
    pixels = images.detach().double().transpose(0, 1).flatten(1)  # [3, B H W]
    mean = pixels.mean(1)
    covariance = torch.cov(pixels, correction=0) + 1e-5 * torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    values, vectors = torch.linalg.eigh(covariance)
    return mean, vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
