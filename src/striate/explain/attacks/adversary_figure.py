"""Drawings of adversaries: picture + noise = picture of something else; accuracy against strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from striate.results.words import percent, visible
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from striate.explain.attacks.adversary import Adversary

LONGEST = 26  # letters of a label below a picture


def in_255(epsilon: float) -> str:
    """A strength as it is written of 8-bit pictures: `8/255`; of others with four digits."""
    levels = 255 * epsilon
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-3 else f"{epsilon:.4g}"


def magnified(adversary: Tensor, picture: Tensor) -> tuple[Tensor, float]:
    """The noise between two uint8 pictures about grey, as strong as can be shown, and by how much it was magnified."""
    noise = adversary.float() - picture.float()
    factor = 127 / max(1.0, float(noise.abs().max()))
    return (128 + factor * noise).round().to(torch.uint8), factor


def draw_adversary(one: Adversary) -> Figure:
    """Three pictures in a row: before + ε · noise = after, each with what is said of it."""
    from matplotlib.figure import Figure

    noise, factor = magnified(one.adversary, one.picture)
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    panels = figure.subplots(1, 5, width_ratios=[1, 0.24, 1, 0.12, 1])
    texts = (
        (said(one.before.label), percent(one.before.confidence), "black"),
        (f"the noise, {factor:.0f} times as strong", f"no pixel changes by more than {in_255(one.epsilon)}", "black"),
        (said(one.after.label), percent(one.after.confidence), RED if one.succeeded else GREEN),
    )
    for axes, picture, (first, second, colour) in zip(
        panels[::2], (one.picture, noise, one.adversary), texts, strict=True
    ):
        show(axes, picture)
        axes.set_title(first, fontsize=12, color=colour, parse_math=False)
        axes.set_xlabel(second, fontsize=11, color=colour)
    for axes, sign in zip(panels[1::2], (f"+  {in_255(one.epsilon)}  ×", "="), strict=True):
        axes.set_axis_off()
        axes.text(0.5, 0.5, sign, ha="center", va="center", fontsize=14)
    return figure


def said(label: str) -> str:
    label = visible(label)
    return f"“{label if len(label) <= LONGEST else label[: LONGEST - 1] + '…'}”"


def show(axes: Axes, picture: Tensor) -> None:
    """uint8 [C, H, W] without a frame; of small ones one sees the pixels."""
    small = max(picture.shape[-2:]) <= 64
    axes.imshow(picture.expand(3, -1, -1).movedim(0, 2).numpy(), interpolation="nearest" if small else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_robust_accuracy(
    epsilons: Sequence[float], curves: Mapping[str, Sequence[float]], what: str = "right answers"
) -> Figure:
    """The share of pictures that are `what` against strength, a line an attack; dashed where the adversaries were made
    with another model."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    colours = (BLUE, ORANGE, VIOLET, RED)
    for (name, values), colour in zip(curves.items(), colours, strict=False):
        style = "--" if " on " in name else "-"
        axes.plot(epsilons, values, style, marker="o", markersize=4, linewidth=1.8, color=colour, label=name)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(list(epsilons), [in_255(epsilon) if epsilon else "0" for epsilon in epsilons], fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("ε: the most that a pixel of 0..1 changes")
    axes.set_ylabel(what)
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return figure
