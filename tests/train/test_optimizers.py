"""Each optimiser's first steps against the update rule of the lectures (A9), written out here by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.layers.penalties import l1_norm
from striate.train.optimizers import OPTIMIZERS, make_optimizer

GRADIENTS = [0.5, -1.0, 2.0]
LR, ALPHA, EPS = 0.1, 0.9, 1e-8


def by_hand(name: str, theta: float) -> float:
    v = r = s = 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        match name:
            case "sgd":
                theta -= LR * g
            case "momentum":  # v ← αv - εg; θ ← θ + v
                v = ALPHA * v - LR * g
                theta += v
            case "nesterov":
                v = ALPHA * v - LR * g
                theta += ALPHA * v - LR * g
            case "adagrad":
                r += g * g
                theta -= LR * g / (r**0.5 + 1e-10)
            case "rmsprop":
                r = 0.99 * r + 0.01 * g * g
                theta -= LR * g / (r**0.5 + EPS)
            case "adam" | "adamw":
                s = 0.9 * s + 0.1 * g
                r = 0.999 * r + 0.001 * g * g
                theta -= LR * (s / (1 - 0.9**t)) / ((r / (1 - 0.999**t)) ** 0.5 + EPS)
    return theta


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_steps_are_the_rule(name: str):
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    optimizer = make_optimizer(module, name, LR, ALPHA, weight_decay=0.0)
    for gradient in GRADIENTS:
        module.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    assert module.weight.item() == pytest.approx(by_hand(name, 1.0), rel=1e-4)


def test_decay_spares_biases_and_norms():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer(module, "sgd", 1.0, 0.0, weight_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(module.named_parameters())
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * 0.5)
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)


def test_l1_norm_and_its_gradient():
    module = nn.Linear(3, 2)
    norm = l1_norm(module)
    assert norm.item() == pytest.approx(module.weight.abs().sum().item())
    norm.backward()
    torch.testing.assert_close(module.weight.grad, module.weight.sign())
    assert module.bias.grad is None
