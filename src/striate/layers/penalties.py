"""Which parameters are weights, and what their size costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_weight(parameter: Tensor) -> bool:
    """A convolution's or linear layer's weight; not a bias, a norm or a scale of each channel, [C] or [C, 1, 1]."""
    return parameter.ndim > 1 and parameter.numel() > len(parameter)


def l1_norm(module: nn.Module) -> Tensor:
    """Sum of absolute weights (not biases or norms), whose gradient drives weights to zero (lecture A10)."""
    weights: list[Tensor] = [
        parameter for parameter in module.parameters() if parameter.requires_grad and is_weight(parameter)
    ]
    return torch.stack(torch._foreach_norm(weights, 1)).sum()
