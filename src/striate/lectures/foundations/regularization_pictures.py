"""Drawings of A10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from striate.lectures.foundations import shrinkage
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure


def paths(alphas: Sequence[float], ridge: Tensor, lasso: Tensor) -> Figure:
    """Every weight against α, L2 beside L1, and how many are zero."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.4, 4.9), layout="constrained")
    panels = drawing.subplots(2, 2, sharex=True, height_ratios=(3, 1))
    for column, (name, weights) in enumerate((("L2: α/2·wᵀw", ridge), ("L1: α‖w‖₁", lasso))):
        order = weights[0].abs().argsort().tolist()
        for rank, index in enumerate(order):
            hue = (BLUE if weights[0, index] > 0 else ORANGE) if rank >= len(order) - 20 else GREY
            panels[0, column].plot(
                alphas, weights[:, index], color=hue, linewidth=1.1, alpha=0.85 if hue != GREY else 0.5
            )
        panels[0, column].set(xscale="log", ylim=(-0.55, 0.55))
        panels[0, column].set_title(name, fontsize=10.5)
        zeros = (weights == 0).sum(1)
        panels[1, column].fill_between(alphas, zeros, color=GREEN, alpha=0.5, linewidth=0)
        panels[1, column].set(ylim=(0, 64), xlabel="α", yticks=(0, 32, 64))
        for axes in panels[:, column]:
            axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    panels[0, 0].set(ylabel="weights")
    panels[1, 0].set(ylabel="exactly zero")
    return Figure(
        drawing,
        "The twenty largest weights in colour. Zeros under L2 are pixels that are empty in every picture.",
        f"At α = {alphas[-1]:g} L1 leaves {int((lasso[-1] != 0).sum())} weights, L2 {int((ridge[-1] != 0).sum())}.",
        wide=True,
    )


def maps(alphas: Sequence[float], ridge: Tensor, lasso: Tensor) -> Figure:
    """The weights as pictures, for four strengths."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure as Drawing

    ramp = LinearSegmentedColormap.from_list("signed", [ORANGE, "#fafafa", BLUE])
    chosen = [0, 8, 14, 20]
    drawing = Drawing(figsize=(9.4, 4.7), layout="constrained")
    panels = drawing.subplots(2, len(chosen))
    for row, (name, weights) in enumerate((("L2", ridge), ("L1", lasso))):
        for column, at in enumerate(chosen):
            axes = panels[row, column]
            limit = float(weights[at].abs().max()) or 1.0
            axes.imshow(weights[at].view(8, 8), cmap=ramp, vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{name}, α = {alphas[at]:.2g}: {int((weights[at] == 0).sum())} zeros", fontsize=9.5)
    return Figure(
        drawing, "Blue speaks for a 3, orange for an 8; each map on its own scale.", "Maps of weights.", wide=True
    )


def two_weights() -> Figure:
    """Two weights: the contours, the way of descent, and where L2 would stop."""
    from matplotlib.figure import Figure as Drawing

    hessian, best = (
        torch.tensor([[1.0, 0.55], [0.55, 0.6]], dtype=torch.float64),
        torch.tensor([0.6, 1.6], dtype=torch.float64),
    )
    problem = shrinkage.Quadratic(hessian, hessian @ best, hessian, best)
    way = shrinkage.descent(problem, 0.25, 200)
    ridge = torch.stack([shrinkage.l2(problem, float(alpha)) for alpha in torch.logspace(2, -4, 200)])
    drawing = Drawing(figsize=(4.9, 4.2), layout="constrained")
    axes = drawing.add_subplot()
    x, y = torch.linspace(-0.7, 2.3, 120, dtype=torch.float64), torch.linspace(-0.5, 2.3, 120, dtype=torch.float64)
    off = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) - best
    heights = 0.5 * (off @ hessian * off).sum(-1)
    levels = [0.02, 0.08, 0.2, 0.4, 0.7, 1.1, 1.6]
    axes.contour(x, y, heights, levels=levels, colors=GREY, linewidths=0.8, alpha=0.6)
    axes.plot(*way.T, "o-", color=BLUE, markersize=3, linewidth=1.2, label="descent, step by step")
    axes.plot(*ridge.T, color=ORANGE, linewidth=2.4, label="L2, α from large to small")
    axes.plot(*best, "*", color=RED, markersize=13)
    axes.annotate("w*", tuple(best.tolist()), xytext=(8, 4), textcoords="offset points")
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set(xlabel="w₁", ylabel="w₂")
    axes.legend(frameon=False, loc="lower right")
    return Figure(
        drawing, "Both leave zero in the steep direction first.", "Two paths from zero to w*, close together."
    )


def factors() -> Figure:
    """How far each reaches in a direction of curvature λ."""
    from matplotlib.figure import Figure as Drawing

    steps, rate = 100, 0.01  # so that α = 1/(ετ) = 1
    values = torch.logspace(-2, 1.9, 200, dtype=torch.float64)
    drawing = Drawing(figsize=(4.9, 4.2), layout="constrained")
    axes = drawing.add_subplot()
    axes.plot(values, 1 - (1 - rate * values) ** steps, color=BLUE, linewidth=2, label="stopped: 1 − (1−ελ)^τ")
    axes.plot(values, values / (values + 1), color=ORANGE, linewidth=2, label="L2: λ/(λ+α)")
    axes.set(xscale="log", xlabel="curvature λ, in units of α = 1/(ετ)", ylabel="share of w* reached")
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return Figure(
        drawing, "Equal for flat and for steep directions, apart by up to a fifth between.", "Two S-shaped curves."
    )


def likeness(problem: shrinkage.Quadratic) -> Figure:
    """The real problem: length and direction along both ways."""
    from matplotlib.figure import Figure as Drawing

    rate, counts = problem.rate(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    way = shrinkage.descent(problem, rate, counts[-1])[counts]
    ridge = torch.stack([shrinkage.l2(problem, 1 / (rate * count)) for count in counts])
    drawing = Drawing(figsize=(9.4, 3.3), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for weights, name, hue in ((way, "stopped after τ steps", BLUE), (ridge, "L2 with α = 1/(ετ)", ORANGE)):
        left.plot(counts, weights.norm(dim=1), "o-", color=hue, markersize=4, label=name)
    right.plot(counts, torch.cosine_similarity(way, ridge, dim=1), "o-", color=GREEN, markersize=4)
    left.set(xscale="log", xlabel="τ", ylabel="‖w‖")
    right.set(xscale="log", xlabel="τ", ylabel="cosine of the two", ylim=(0.9, 1.003))
    for axes in (left, right):
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    left.legend(frameon=False)
    right_on = problem.accuracy(way[5]), problem.accuracy(ridge[5])
    caption = (
        "3 against 8, 64 weights, 120 pictures to learn from: how long the weights are, and how alike in direction. "
        f"At τ = {counts[5]} they are right on {right_on[0]:.1%} and {right_on[1]:.1%} of 237 others."
    )
    return Figure(drawing, caption, "Both ways run close together.", wide=True)


def beta_densities() -> Figure:
    """Beta(α, α) for three α."""
    from matplotlib.figure import Figure as Drawing

    share = torch.linspace(0.004, 0.996, 300, dtype=torch.float64)
    drawing = Drawing(figsize=(4.9, 3.0), layout="constrained")
    axes = drawing.add_subplot()
    for alpha, hue in ((0.2, ORANGE), (0.4, VIOLET), (1.0, BLUE)):
        beta = torch.distributions.Beta(torch.tensor(alpha).double(), torch.tensor(alpha).double())
        axes.plot(share, beta.log_prob(share).exp(), color=hue, linewidth=2, label=f"α = {alpha:g}")
    axes.set(xlabel="λ", ylabel="density", ylim=(0, 4))
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return Figure(drawing, "Where λ comes from.", "Three densities; the small α is high at both ends.")


def effects(found: dict[str, Any]) -> Figure:
    """A dot a seed, a bar their mean."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.4, 3.0), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    for axes, key, label in ((left, "accuracy", "accuracy, %"), (right, "confidence", "mean confidence, %")):
        for row, (name, values) in enumerate(found.items()):
            scores = [100 * value for value in values[key]]
            hue = GREY if name == "nothing" else BLUE
            axes.plot(scores, [row] * len(scores), "o", color=hue, alpha=0.55, markersize=6)
            mean = sum(scores) / len(scores)
            axes.plot([mean, mean], [row - 0.32, row + 0.32], color=hue, linewidth=2.6)
        axes.set(xlabel=label, yticks=range(len(found)), yticklabels=list(found))
        axes.grid(axis="x", color=GREY, alpha=0.2, linewidth=0.6)
    left.invert_yaxis()
    return Figure(
        drawing, "A dot a seed, a bar their mean.", "Accuracy and confidence of each configuration.", wide=True
    )
