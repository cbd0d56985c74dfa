"""How sharp the minimum is in which a network lies: Keskar's measure, and the ends of the Hessian's spectrum."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from striate.data.seeds import seed_of
from striate.explain.landscape.loss_surface import Batches, Weights, loss_at, moved, weights_of
from striate.tasks import Task


def gradient_at(network: nn.Module, weights: Weights, batches: Batches, task: Task) -> tuple[float, dict[str, Tensor]]:
    """The mean loss and its gradient, float32, at these weights."""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    loss, count = 0.0, sum(len(images) for images, _ in batches)
    total = {name: torch.zeros_like(value) for name, value in leaves.items()}
    for batch in batches:  # one by one: what a backward pass keeps is of one batch
        value = loss_at(network, leaves, [batch], task) * len(batch[0]) / count
        parts = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        for name, part in zip(leaves, parts, strict=True):
            total[name] += part
        loss += value.item()
    return loss, total


def keskar_sharpness(network: nn.Module, batches: Batches, task: Task, epsilon: float = 1e-3, steps: int = 10) -> float:
    """By how many percent of 1 + loss the loss can rise in the box |Δθ| ≤ ε(|θ| + 1).

    Keskar et al. 2017, arXiv:1609.04836, metric 2.1 with A the identity and ε = 1e-3. They climb with ten steps of
    L-BFGS-B, we with as many of projected sign ascent: a lower bound, as theirs is.
    """
    start = weights_of(network)
    edge = {name: epsilon * (value.abs() + 1) for name, value in start.items()}
    low, high = moved(start, (edge,), (-1,)), moved(start, (edge,), (1,))
    place, losses = start, []
    for _ in range(steps):
        loss, gradient = gradient_at(network, place, batches, task)
        losses.append(loss)
        place = {
            name: (value + 2.5 / steps * edge[name] * gradient[name].sign()).clamp(low[name], high[name])
            for name, value in place.items()
        }
    with torch.no_grad():
        losses.append(float(loss_at(network, place, batches, task)))
    return 100 * (max(losses) - losses[0]) / (1 + losses[0])


def extreme_eigenvalues(
    network: nn.Module, batches: Batches, task: Task, steps: int = 12, seed: int = 0
) -> tuple[float, float]:
    """The largest and the smallest eigenvalue of the Hessian of the mean loss.

    By Lanczos' method (1950): as many Hessian-vector products as power iteration would take for one end bring both.
    Where few steps have not converged, the true ends lie outside of what is returned.
    """
    weights = weights_of(network)
    generator = torch.Generator().manual_seed(seed_of(seed, "eigenvector"))
    start = [torch.randn(value.shape, generator=generator).to(value) for value in weights.values()]
    found = lanczos(lambda vector: hessian_times(network, weights, batches, task, vector), start, steps)
    return float(found[-1]), float(found[0])


def lanczos(times: Callable[[list[Tensor]], list[Tensor]], start: list[Tensor], steps: int) -> Tensor:
    """Ritz values of a symmetric map, float64, rising; the outermost come near its own outermost eigenvalues.

    Three terms only, nothing is made orthogonal again: that brings copies of the ends, and keeps three vectors instead
    of all.
    """
    diagonal, beside = [], []
    length = dot(start, start) ** 0.5
    vector, before = [part / length for part in start], [torch.zeros_like(part) for part in start]
    for _ in range(steps):
        image = times(vector)
        diagonal.append(dot(image, vector))
        link = beside[-1] if beside else 0.0
        image = [one - diagonal[-1] * two - link * three for one, two, three in zip(image, vector, before, strict=True)]
        beside.append(dot(image, image) ** 0.5)
        if beside[-1] <= 1e-6 * max(map(abs, diagonal)):  # the whole space that the start reaches is known
            break
        vector, before = [part / beside[-1] for part in image], vector
    between = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    return torch.linalg.eigvalsh(matrix + torch.diag(between, 1) + torch.diag(between, -1))


def dot(one: list[Tensor], other: list[Tensor]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def hessian_times(
    network: nn.Module, weights: Weights, batches: Batches, task: Task, vector: list[Tensor]
) -> list[Tensor]:
    """H·v, one tensor a parameter: the gradient of gᵀv (Pearlmutter 1994)."""
    leaves = [value.detach().requires_grad_() for value in weights.values()]
    named, count = dict(zip(weights, leaves, strict=True)), sum(len(images) for images, _ in batches)
    total = [torch.zeros_like(value) for value in vector]
    for batch in batches:
        loss = loss_at(network, named, [batch], task) * len(batch[0]) / count
        gradient = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        along = torch.stack([(one * other).sum() for one, other in zip(gradient, vector, strict=True)]).sum()
        for whole, part in zip(total, torch.autograd.grad(along, leaves, materialize_grads=True), strict=True):
            whole += part
    return total
