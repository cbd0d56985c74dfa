"""Batch normalisation gives every channel mean 0 and variance 1 over the batch, then learns a scale γ and a shift β:
`x̂ = (x−μ)/√(σ²+ε)`, `y = γx̂+β`. Training stays stable at rates at which a plain network fails.

Its gradient runs through the mean and the variance too, which takes six formulas. For one picture there is no batch:
inference uses running averages kept while training. Local response normalisation, older, lets strong channels quieten
their neighbours at the same place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.lectures.foundations import normalization_pictures as pictures
from striate.lectures.foundations.digits import accuracy, digits, fit, seeded
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Section, Table

PYTHON = """
import torch
from striate.lectures.foundations.normalization import backward, forward

x = torch.randn(32, 4, 8, 8, dtype=torch.float64, requires_grad=True)
gamma, beta = torch.rand(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
y, batch = forward(x, gamma, beta)
upstream = torch.randn_like(y)
y.backward(upstream)
by_hand = backward(upstream, x.detach(), gamma, batch)
print((by_hand["x"] - x.grad).abs().max())  # rounding
"""

EPSILON = 1e-5
AXES = (0, 2, 3)  # of [B, C, H, W]: all but the channels
FORMULAS = {
    "x̂": "∂l/∂x̂ = ∂l/∂y · γ",
    "σ²": "∂l/∂σ² = Σ ∂l/∂x̂ · (x−μ) · (−½)(σ²+ε)^(−3/2)",
    "μ": "∂l/∂μ = Σ ∂l/∂x̂ · (−1)/√(σ²+ε) + ∂l/∂σ² · Σ −2(x−μ)/m",
    "x": "∂l/∂x = ∂l/∂x̂ · 1/√(σ²+ε) + ∂l/∂σ² · 2(x−μ)/m + ∂l/∂μ · 1/m",
    "γ": "∂l/∂γ = Σ ∂l/∂y · x̂",
    "β": "∂l/∂β = Σ ∂l/∂y",
}


class Batch(NamedTuple):
    """What the forward pass keeps: x̂ [B, C, H, W]; mean and variance of each channel, [1, C, 1, 1]."""

    normalized: Tensor
    mean: Tensor
    variance: Tensor


def forward(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float = EPSILON) -> tuple[Tensor, Batch]:
    """Batch normalisation of [B, C, H, W] in training: Ioffe & Szegedy 2015, algorithm 1."""
    mean = x.mean(AXES, keepdim=True)
    variance = ((x - mean) ** 2).mean(AXES, keepdim=True)
    normalized = (x - mean) / (variance + epsilon).sqrt()
    return channelwise(gamma) * normalized + channelwise(beta), Batch(normalized, mean, variance)


def backward(upstream: Tensor, x: Tensor, gamma: Tensor, batch: Batch, epsilon: float = EPSILON) -> dict[str, Tensor]:
    """The six formulas (the same paper, section 3), from ∂l/∂y: by "normalized", "variance", "mean", "x", "gamma",
    "beta"."""
    count = x.numel() // x.shape[1]
    spread = (batch.variance + epsilon).sqrt()
    centred = x - batch.mean
    normalized = upstream * channelwise(gamma)
    variance = (normalized * centred * -0.5 * spread**-3).sum(AXES, keepdim=True)
    mean = -normalized.sum(AXES, keepdim=True) / spread + variance * (-2 * centred).sum(AXES, keepdim=True) / count
    return {
        "normalized": normalized,
        "variance": variance,
        "mean": mean,
        "x": normalized / spread + variance * 2 * centred / count + mean / count,
        "gamma": (upstream * batch.normalized).sum(AXES),
        "beta": upstream.sum(AXES),
    }


def channelwise(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def by_autograd(x: Tensor, gamma: Tensor, beta: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """The same six, by automatic differentiation of the forward pass."""
    leaves = [tensor.clone().requires_grad_() for tensor in (x, gamma, beta)]
    y, batch = forward(*leaves)
    wanted = (batch.normalized, batch.variance, batch.mean, *leaves)
    found = torch.autograd.grad(y, wanted, upstream)
    return dict(zip(("normalized", "variance", "mean", "x", "gamma", "beta"), found, strict=True))


def local_response(x: Tensor, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Tensor:
    """`b_i = a_i / (k + α Σ a_j²)^β` over the n channels around i (Krizhevsky et al. 2012, section 3.3)."""
    squares = F.pad(x**2, (0, 0, 0, 0, n // 2, n // 2))
    sums = torch.stack([squares[:, near : near + x.shape[1]] for near in range(n)]).sum(0)
    return x / (k + alpha * sums) ** beta


def example(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [16, 4, 5, 5] with channels of different mean and spread, γ, β, ∂l/∂y; double precision."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 4, 5, 5, generator=draw, dtype=torch.float64)
    x = x * channelwise(torch.tensor([0.5, 1.0, 2.0, 4.0])) + channelwise(torch.tensor([-3.0, 0.0, 1.0, 5.0]))
    gamma, beta = (torch.randn(4, generator=draw, dtype=torch.float64) for _ in range(2))
    return x, gamma, beta, torch.randn(x.shape, generator=draw, dtype=torch.float64)


def running(steps: int = 60) -> tuple[list[list[float]], float]:
    """Running means of four channels over `steps` batches by `0.9·old + 0.1·new`, and how far torch's differ."""
    layer = nn.BatchNorm2d(4).double()
    means, variances = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    history = []
    for step in range(steps):
        x = example(step)[0]
        layer(x)
        count = x.numel() // 4
        means = 0.9 * means + 0.1 * x.mean(AXES)
        variances = 0.9 * variances + 0.1 * x.var(AXES, correction=0) * count / (count - 1)  # unbiased, as published
        history.append(means.tolist())
    off = max((layer.running_mean - means).abs().max(), (layer.running_var - variances).abs().max())  # type: ignore[operator]
    x = example(steps)[0]
    by_hand = (x - channelwise(means)) / (channelwise(variances) + EPSILON).sqrt()
    off = max(off, (layer.eval()(x) - by_hand).abs().max())
    return history, float(off)


def with_and_without(rates: list[float], steps: int) -> dict[str, Any]:
    """Eight convolutions deep, with and without batch norm, on 1,000 digits at several rates: losses, accuracy."""
    found: dict[str, Any] = {}
    data = digits(1000)
    for name, line in {"plain": "(conv16-relu)x8-gap", "batch norm": "(conv16-bn-relu)x8-gap"}.items():
        found[name] = {}
        for rate in rates:
            network = seeded(line, 0)
            losses = fit(network, data, steps=steps, lr=rate)
            right = accuracy(network, data.test_images, data.test_labels)
            found[name][str(rate)] = {"losses": losses, "accuracy": right}
    return found


def checks() -> list[Check]:
    """Forward and the six backward formulas against the library and autograd; running averages; LRN."""
    x, gamma, beta, upstream = example()
    y, batch = forward(x, gamma, beta)
    off = float((y - F.batch_norm(x, None, None, gamma, beta, training=True, eps=EPSILON)).abs().max())
    made = [Check("Forward pass, against torch", "equal", f"largest difference {off:.0e}", off < 1e-10)]
    ours, autograd = backward(upstream, x, gamma, batch), by_autograd(x, gamma, beta, upstream)
    for (symbol, formula), name in zip(FORMULAS.items(), ours, strict=True):
        off = float((ours[name] - autograd[name].view_as(ours[name])).abs().max())
        made.append(Check(f"∂l/∂{symbol}, against autograd", formula, f"largest difference {off:.0e}", off < 1e-10))
    _, off = running()
    made.append(
        Check("Running averages and inference, against torch", "equal", f"largest difference {off:.0e}", off < 1e-10)
    )
    maps = torch.rand(2, 16, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 100
    library = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    off = float((local_response(maps) - library(maps)).abs().max())
    made.append(
        Check(
            "Local response norm, against torch",
            "b = a / (k + α Σ a²)^β",
            f"largest difference {off:.0e}",
            off < 1e-10,
            "torch divides α by n = 5, so it is given 5·10⁻⁴ for the paper’s 10⁻⁴.",
        )
    )
    return made


def show(setting: Setting) -> Shown:
    """What the norm does to a batch, what it does to training, and the older one."""
    rates, steps = [0.01, 0.05, 0.2], 240
    trained = setting.remembered(
        "A8-training", {"rates": rates, "steps": steps}, lambda: with_and_without(rates, steps)
    )
    x = example()[0]
    history, _ = running()
    rows = [
        [f"{rate:g}", *(f"{100 * trained[name][str(rate)]['accuracy']:.1f} %" for name in trained)] for rate in rates
    ]
    return Shown(
        tuple(checks()),
        (
            Section(
                "What it does to a batch",
                "Four channels of one batch, before and after, and the running averages that inference will use.",
                [
                    pictures.channels(x, forward(x, torch.ones(4).double(), torch.zeros(4).double())[0]),
                    pictures.averages(history),
                ],
            ),
            Section(
                "What it does to training",
                f"Eight convolutions deep, {steps} steps on 1,000 digits, momentum 0.9, at three learning rates. One "
                "seed; the plain network hardly learns at the rate at which the other is best.",
                [pictures.losses(trained)],
                [Table(["learning rate", *trained], rows, "Accuracy on the other 797 digits")],
            ),
            Section(
                "Local response normalisation",
                "Sixteen channels at one place, one of them strong: it is dampened, and so are its two neighbours on "
                "either side.",
                [pictures.responses(local_response)],
            ),
        ),
    )
