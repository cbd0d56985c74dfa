"""Optimisers by name: torch's own, fused where it has them. Trajectories of each: lecture A9."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# name -> factory(parameter groups, lr, momentum, fused)
OPTIMIZERS: dict[str, Callable[[Iterable[dict], float, float, bool], torch.optim.Optimizer]] = {
    "sgd": lambda groups, lr, momentum, fused: torch.optim.SGD(groups, lr, fused=fused),
    "momentum": lambda groups, lr, momentum, fused: torch.optim.SGD(groups, lr, momentum, fused=fused),
    "nesterov": lambda groups, lr, momentum, fused: torch.optim.SGD(groups, lr, momentum, nesterov=True, fused=fused),
    "adagrad": lambda groups, lr, momentum, fused: torch.optim.Adagrad(groups, lr),
    "rmsprop": lambda groups, lr, momentum, fused: torch.optim.RMSprop(groups, lr),
    "adam": lambda groups, lr, momentum, fused: torch.optim.Adam(groups, lr, fused=fused),
    "adamw": lambda groups, lr, momentum, fused: torch.optim.AdamW(groups, lr, fused=fused),
}

# peak learning rate at batch 64 when the user gives none; scaled with the batch (Goyal et al. 2017: linearly for
# SGD; by the square root for adaptive methods, Krizhevsky 2014)
DEFAULT_LR = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adagrad": 0.01,
    "rmsprop": 0.001,
    "adam": 0.001,
    "adamw": 0.003,
}
DEFAULT_WEIGHT_DECAY = {"adamw": 0.05}  # decoupled; L2 for the others
ADAPTIVE = ("adagrad", "rmsprop", "adam", "adamw")


def default_lr(optimizer: str, batch: int) -> float:
    ratio = batch / 64
    return DEFAULT_LR[optimizer] * (ratio**0.5 if optimizer in ADAPTIVE else ratio)


def decayed_and_not(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights of convolutions and linear layers, which shrink; and biases and norms, which do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]


def make_optimizer(
    module: nn.Module, name: str, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser for a module's parameters; L2 acts on weights only, not on biases and norms."""
    decayed, plain = decayed_and_not(module)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return OPTIMIZERS[name]((group for group in groups if group["params"]), lr, momentum, True)


def l1_norm(module: nn.Module) -> Tensor:
    """Sum of absolute weights (not biases or norms), whose gradient drives weights to zero (lecture A10)."""
    decayed, _ = decayed_and_not(module)
    return torch.stack(torch._foreach_norm(list[Tensor](decayed), 1)).sum()
