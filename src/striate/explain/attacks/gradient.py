"""Adversarial examples: noise that nobody sees, added to a picture, changes what a network answers.

Everything here is in PIXELS, float in 0..1: the network is a function of pixels, so normalisation is part of what is
differentiated (`in_pixels` puts it there), ε = 1/255 is one grey level, and results are valid pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.config import Preprocess
from striate.data.transforms import Normalize

Network = Callable[[Tensor], Any]  # pixels [B, C, H, W] in 0..1 → outputs
Loss = Callable[[Any, Tensor], Tensor]  # outputs, targets → a scalar

GREY = 1e-4  # of a grey level: what float rounding may add to a whole number of them


def in_pixels(module: nn.Module, preprocess: Preprocess, device: torch.device | str = "cpu") -> Network:
    """A network of normalised pictures as a function of pixels in 0..1, [B, C, H, W]."""
    normalize = Normalize(preprocess).to(device)
    return lambda pixels: module(normalize(255 * pixels))


def pixel_gradient(network: Network, images: Tensor, targets: Tensor, loss: Loss = F.cross_entropy) -> Tensor:
    """∇ₓJ, as large as `images`; the parameters' own gradients are neither computed nor touched."""
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        return torch.autograd.grad(loss(network(pixels), targets), pixels)[0]


def fgsm(
    network: Network,
    images: Tensor,
    targets: Tensor,
    epsilon: float,
    loss: Loss = F.cross_entropy,
    targeted: bool = False,
) -> Tensor:
    """The fast gradient sign method: x + ε·sign(∇ₓJ), clipped to 0..1.

    Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572, section 4.

    Args:
        network: pixels in 0..1 → outputs, in evaluation mode.
        images: float [B, C, H, W] in 0..1.
        targets: what `loss` takes: the true classes, or with `targeted` those that the network shall answer.
        epsilon: the largest change of a pixel, in 0..1.

    Returns:
        float [B, C, H, W] in 0..1, detached.
    """
    return _step(images, pixel_gradient(network, images, targets, loss), epsilon, targeted).clamp(0, 1)


def pgd(
    network: Network,
    images: Tensor,
    targets: Tensor,
    epsilon: float,
    steps: int = 10,
    step: float | None = None,
    loss: Loss = F.cross_entropy,
    targeted: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent: steps of the sign of the gradient, each brought back to within ε and to 0..1.

    Madry et al. 2018, arXiv:1706.06083, section 2.1. One step of 1.25 ε from a random start is the fast method of Wong,
    Rice & Kolter 2020 (arXiv:2001.03994, algorithm 3).

    Args:
        network, images, targets, epsilon, loss, targeted: as for `fgsm`.
        step: of one step; 2.5 ε / `steps` when not given, so that the edge is reached from any start (Madry et al.).
        generator: of the random start within the ball; None starts at the picture itself (Kurakin et al. 2017).

    Returns:
        float [B, C, H, W] in 0..1, no pixel further than ε from `images`, detached.
    """
    step = 2.5 * epsilon / steps if step is None else step
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    found = images.detach()
    if generator is not None:
        noise = torch.rand(images.shape, generator=generator).to(images)
        found = (images + epsilon * (2 * noise - 1)).clamp(low, high)
    for _ in range(steps):
        found = _step(found, pixel_gradient(network, found, targets, loss), step, targeted).clamp(low, high)
    return found


def _step(images: Tensor, gradient: Tensor, size: float, targeted: bool) -> Tensor:
    """Up the loss, or down towards what is wanted."""
    return torch.add(images.detach(), gradient.sign(), alpha=-size if targeted else size)


def in_levels(adversaries: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Adversaries as pictures that a file can hold: whole grey levels, and still within ε of the originals.

    Args:
        adversaries: float [B, C, H, W] in 0..1.
        images: uint8 [B, C, H, W].

    Returns:
        uint8 [B, C, H, W].
    """
    most = int(255 * epsilon + GREY)
    change = (255 * adversaries - images).round().clamp(-most, most)
    return (images + change).clamp(0, 255).to(torch.uint8)
