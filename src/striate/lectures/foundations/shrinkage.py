"""L2, L1 and early stopping on one least-squares problem that has exact answers: is this digit a 3 or an 8?

`1/2n ‖Xw − y‖²` with X [n, 64] (pixels, mean 0 and deviation 1) and y = ±1 is a quadratic around its lowest point w*,
with the Hessian H = XᵀX/n: what Goodfellow et al. 2016 (sections 7.1, 7.8) say of quadratics can be held against it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Quadratic(NamedTuple):
    """Hessian H [F, F], Xᵀy/n [F], and what to judge by: held-out X and y."""

    hessian: Tensor
    slope: Tensor
    held_out: Tensor
    truth: Tensor

    def rate(self) -> float:
        """A learning rate below 1/λ_max, at which descent is smooth in every direction."""
        return float(0.9 / torch.linalg.eigvalsh(self.hessian)[-1])

    def accuracy(self, weights: Tensor) -> float:
        return float(((self.held_out @ weights).sign() == self.truth.sign()).double().mean())


def threes_and_eights(train: int = 120) -> Quadratic:
    """The two digits of scikit-learn's set that are told apart worst; `train` of 357 pictures to learn from."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    chosen = (labels == 3) | (labels == 8)
    x, y = torch.from_numpy(values[chosen]), torch.from_numpy(labels[chosen] == 3).double() * 2 - 1
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    mean, std = x[:train].mean(0), x[:train].std(0, correction=0)
    x = (x - mean) / torch.where(std > 0, std, 1.0)
    return Quadratic(x[:train].T @ x[:train] / train, x[:train].T @ y[:train] / train, x[train:], y[train:])


def l2(problem: Quadratic, alpha: float) -> Tensor:
    """Lowest point of loss + α/2 ‖w‖², [F]: (H + αI)⁻¹ Xᵀy/n."""
    return torch.linalg.solve(
        problem.hessian + alpha * torch.eye(len(problem.slope), dtype=torch.float64), problem.slope
    )


def l2_by_directions(problem: Quadratic, alpha: float) -> Tensor:
    """The same by the eigenvectors of H: each direction of w* is kept to λ/(λ+α) (equation 7.13)."""
    values, vectors = torch.linalg.eigh(problem.hessian)
    return vectors @ ((vectors.T @ problem.slope) / (values + alpha))  # λ/(λ+α) · w*, and λ w* = Xᵀy/n


def l1(problem: Quadratic, alpha: float, steps: int = 4000, start: Tensor | None = None) -> Tensor:
    """Lowest point of loss + α ‖w‖₁, [F], by FISTA (Beck & Teboulle 2009): gradient steps, then towards zero by α/L."""
    largest = float(torch.linalg.eigvalsh(problem.hessian)[-1])
    weights = torch.zeros_like(problem.slope) if start is None else start
    ahead, pace = weights, 1.0
    for _ in range(steps):
        stepped = ahead - (problem.hessian @ ahead - problem.slope) / largest
        shrunk = stepped.sign() * (stepped.abs() - alpha / largest).clamp(min=0)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = shrunk + (pace - 1) / faster * (shrunk - weights)
        if float((shrunk - weights).abs().max()) < 1e-12:
            return shrunk
        weights, pace = shrunk, faster
    return weights


def descent(problem: Quadratic, rate: float, steps: int) -> Tensor:
    """Plain gradient descent from zero: [steps + 1, F]."""
    weights = torch.zeros_like(problem.slope)
    path = [weights]
    for _ in range(steps):
        weights = weights - rate * (problem.hessian @ weights - problem.slope)
        path.append(weights)
    return torch.stack(path)


def descent_by_directions(problem: Quadratic, rate: float, steps: int) -> Tensor:
    """Where that is after `steps`, [F], without taking them: w* is reached to 1 − (1 − ελ)^τ, by direction (7.40)."""
    values, vectors = torch.linalg.eigh(problem.hessian)
    reached = torch.where(values > 1e-12, (1 - (1 - rate * values) ** steps) / values.clamp(min=1e-12), rate * steps)
    return vectors @ (reached * (vectors.T @ problem.slope))
