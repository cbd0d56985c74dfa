"""Going down a loss by L-BFGS or Adam, step by step, so that somebody can watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

Optimizer = Literal["lbfgs", "adam"]
HISTORY = 20  # pairs that L-BFGS remembers
TRIALS = 25  # points that a line search may try
ADAM_RATE = 0.03  # of a canvas whose values span some units


def descend(
    variable: Tensor, loss_of: Callable[[Tensor], Tensor], steps: int, optimizer: Optimizer = "lbfgs"
) -> Iterator[float]:
    """Change `variable` in place; after every accepted step its loss is given (Adam's: from before it).

    L-BFGS searches along each direction until the strong Wolfe conditions hold (Nocedal & Wright 2006, algorithm 3.5),
    so that no step makes the loss larger; it ends early where no smaller one is found. Adam may well go up.

    Args:
        loss_of: the variable -> a number that autograd can follow. Values much below 1 are lost in float32's noise.
    """
    return _by_lbfgs(variable, loss_of, steps) if optimizer == "lbfgs" else _by_adam(variable, loss_of, steps)


def _by_lbfgs(variable: Tensor, loss_of: Callable[[Tensor], Tensor], steps: int) -> Iterator[float]:
    def fresh() -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [variable],
            max_iter=1,
            max_eval=TRIALS + 1,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
            tolerance_grad=0,
            tolerance_change=0,
        )

    last: tuple[Tensor, Tensor, Tensor] | None = None  # place, gradient, loss

    def closure() -> Tensor:
        nonlocal last
        if last is not None and torch.equal(variable, last[0]):  # a step begins where the last search ended
            variable.grad = last[1].clone()
            return last[2]
        variable.grad = None
        loss = loss_of(variable)
        loss.backward()
        assert variable.grad is not None
        last = variable.detach().clone(), variable.grad.clone(), loss.detach()
        return last[2]

    search, before, stuck = fresh(), float(closure()), False
    place = variable.detach().clone()
    for _ in range(steps):
        search.step(closure)
        now = float(closure())
        if not now < before:
            with torch.no_grad():
                variable.copy_(place)
            if stuck:  # not even along the gradient
                return
            search, stuck = fresh(), True  # what was remembered misleads: forget it
            continue
        before, stuck = now, False
        place.copy_(variable.detach())
        yield now


def _by_adam(variable: Tensor, loss_of: Callable[[Tensor], Tensor], steps: int) -> Iterator[float]:
    adam = torch.optim.Adam([variable], lr=ADAM_RATE, betas=(0.9, 0.99))
    for _ in range(steps):
        adam.zero_grad()
        loss = loss_of(variable)
        loss.backward()
        adam.step()
        yield float(loss.detach())
