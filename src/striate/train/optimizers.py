"""Optimisers by name: torch's own, fused where it has them. Trajectories of each: lecture A9."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from striate.layers.penalties import is_weight

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


def make_optimizer(
    module: nn.Module,
    name: str,
    lr: float,
    momentum: float,
    weight_decay: float,
    scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimiser for a module's parameters; L2 acts on weights only, not on biases and norms.

    Args:
        scales: parameter name → its share of the learning rate; 1 where not named. Kept in each group as `scale`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter_name, parameter in module.named_parameters():
        if parameter.requires_grad:
            scale = 1.0 if scales is None else scales.get(parameter_name, 1.0)
            groups.setdefault((scale, is_weight(parameter)), []).append(parameter)
    settings = [
        {"params": members, "weight_decay": weight_decay if decayed else 0.0, "scale": scale, "lr": lr * scale}
        for (scale, decayed), members in groups.items()
    ]
    return OPTIMIZERS[name](settings, lr, momentum, True)
