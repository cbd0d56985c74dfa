"""Descents on functions whose minimum is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from striate.create.descent import descend


def rosenbrock(x: Tensor) -> Tensor:
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def test_lbfgs_finds_the_end_of_rosenbrocks_valley_and_never_rises() -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    losses = [float(rosenbrock(x.detach())), *descend(x, rosenbrock, 60)]
    assert all(later < earlier for earlier, later in pairwise(losses))
    torch.testing.assert_close(x.detach(), torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)


def test_losses_told_are_those_of_where_it_stands() -> None:
    x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    for loss in descend(x, rosenbrock, 15):
        assert loss == pytest.approx(float(rosenbrock(x.detach())), abs=1e-12)


def test_a_step_costs_little_more_than_one_evaluation() -> None:
    calls = 0

    def bowl(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x.square() * torch.arange(1, 51)).sum()

    steps = len(list(descend(torch.ones(50, requires_grad=True), bowl, 20)))
    assert steps == 20
    assert calls <= 30  # without remembering the last evaluation it would be twice the steps and more


def test_noise_that_hides_the_slope_ends_it_without_a_rise() -> None:
    """A loss rounded to steps, as bf16 makes it."""
    x = torch.full((30,), 3.0, requires_grad=True)

    def rough(x: Tensor) -> Tensor:
        value = x.square().sum()
        return value + ((value / 4).round() * 4 - value).detach()

    losses = list(descend(x, rough, 50))
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert float(rough(x.detach())) == losses[-1]
    assert losses[-1] <= 4


def test_at_the_minimum_there_is_nothing_to_do() -> None:
    x = torch.zeros(3, requires_grad=True)
    assert list(descend(x, lambda x: x.square().sum(), 10)) == []
    assert x.detach().tolist() == [0, 0, 0]


def test_adam_goes_down() -> None:
    x = torch.tensor([1.0, -1.0], requires_grad=True)
    losses = list(descend(x, lambda x: x.square().sum(), 200, "adam"))
    assert len(losses) == 200
    assert losses[-1] < 0.01 < losses[0]
