"""What is painted on: a picture as the spectrum of its decorrelated colours, behind a sigmoid.

Any picture can be written so, and every value of the variable is a picture within 0..1. Only the shape of the valley
changes: a step moves broad washes as readily as grain. Networks other than VGG paint grids of noise on bare pixels and
strokes on this (Mordvintsev, Pezzotti, Schubert & Olah 2018, "Differentiable Image Parameterizations", Distill).
"""

from __future__ import annotations

import torch
from torch import Tensor

# a square root of the covariance of ImageNet's colours, as the article's code has it, largest column 1 long
COLOURS = ((0.5638, 0.1952, 0.0434), (0.5855, 0.0, -0.1084), (0.5855, -0.1952, 0.0651))
EDGE = 0.02  # a sigmoid does not reach 0 and 1: a picture is put on the canvas this far within


def put_on_canvas(images: Tensor) -> Tensor:
    """Pictures float [B, 3, H, W] in 0..1 -> the variable, float [B, 3, H, W // 2 + 1, 2]."""
    logits = torch.logit(images.float().clamp(EDGE, 1 - EDGE))
    decorrelated = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(logits.new_tensor(COLOURS)), logits)
    return torch.view_as_real(torch.fft.rfft2(decorrelated, norm="ortho") / _weights(logits)).contiguous()


def take_off_canvas(variable: Tensor, width: int) -> Tensor:
    """The variable -> pictures [B, 3, H, W] in 0..1; `width` W is even or odd, which the spectrum does not say."""
    spectrum = torch.view_as_complex(variable)
    size = (variable.shape[-3], width)
    decorrelated = torch.fft.irfft2(spectrum * _weights(variable[..., 0], width), s=size, norm="ortho")
    return torch.sigmoid(torch.einsum("ij,bjhw->bihw", variable.new_tensor(COLOURS), decorrelated))


def _weights(images: Tensor, width: int | None = None) -> Tensor:
    """One over the frequency in cycles a pixel, [H, W // 2 + 1], as amplitudes of photographs fall; the mean counts as
    the lowest frequency."""
    height, width = images.shape[-2], width or images.shape[-1]
    down = torch.fft.fftfreq(height, device=images.device)[:, None]
    across = torch.fft.rfftfreq(width, device=images.device)
    return 1 / torch.hypot(down, across).clamp_min(1 / max(height, width))
