"""Drawings of loss landscapes: level lines, reliefs, lines; several side by side share one logarithmic scale."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.results.words import visible
from striate.tasks.section import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    from striate.explain.landscape.loss_surface import Landscape

LEAST, DECADES = 1e-4, 4.0  # of the scale: nothing below, and nothing so many powers of ten above the lowest point
LEVELS = 18
COLOURS = "viridis"
WIDEST = 34  # letters of a title


def scale_of(landscapes: Sequence[Landscape]) -> tuple[float, float]:
    """The lowest and the highest loss to draw, over all landscapes."""
    heights = torch.cat([one.surface.flatten() for one in landscapes])
    heights = heights[heights.isfinite()]
    low = max(LEAST, float(heights.min()))
    return low, max(2 * low, min(float(heights.max()), low * 10**DECADES))


def clipped(surface: Tensor, low: float, high: float) -> Tensor:
    """Heights within the scale; where the loss is no number it is as high as can be."""
    return surface.nan_to_num(high, high, low).clamp(low, high)


def log_norm(low: float, high: float) -> LogNorm:
    from matplotlib.colors import LogNorm

    return LogNorm(low, high)


def draw_contours(names: Sequence[str], landscapes: Sequence[Landscape]) -> Figure:
    """Level lines over both directions, the network a star in the middle."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    low, high = scale_of(landscapes)
    levels = torch.logspace(torch.tensor(low).log10(), torch.tensor(high).log10(), LEVELS).tolist()
    levels[0], levels[-1] = low, high
    figure = Figure(figsize=(4.4 * len(names) + 0.9, 4.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name, one in zip(panels, names, landscapes, strict=True):
        axis, heights = one.axis.numpy(), clipped(one.surface, low, high).numpy()
        axes.contourf(axis, axis, heights, levels, cmap=COLOURS, norm=log_norm(low, high))
        axes.contour(axis, axis, heights, levels, colors="white", linewidths=0.4, alpha=0.6)
        axes.plot(0, 0, "*", color="white", markersize=11, markeredgecolor="#333333", markeredgewidth=0.6)
        axes.set_title(wrapped(name), parse_math=False)
        axes.set_aspect("equal")
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_yticks([-1, -0.5, 0, 0.5, 1])
        axes.set_xlabel("first direction")
    panels[0].set_ylabel("second direction")
    bar = figure.colorbar(ScalarMappable(log_norm(low, high), COLOURS), ax=list(panels), label="loss")
    bar.set_ticks(ticks_of(low, high), labels=[f"{value:g}" for value in ticks_of(low, high)])
    bar.minorticks_off()
    return figure


def draw_reliefs(names: Sequence[str], landscapes: Sequence[Landscape]) -> Figure:
    """The surfaces seen from above and aside; height is the logarithm of the loss."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    low, high = scale_of(landscapes)
    figure = Figure(figsize=(4.9 * len(names), 4.3), layout="constrained")
    for number, (name, one) in enumerate(zip(names, landscapes, strict=True), start=1):
        axes: Any = figure.add_subplot(1, len(names), number, projection="3d")
        across, up = torch.meshgrid(one.axis, one.axis, indexing="xy")
        heights = clipped(one.surface, low, high)
        colours = colormaps[COLOURS](log_norm(low, high)(heights.numpy()))
        axes.plot_surface(
            across.numpy(),
            up.numpy(),
            heights.log10().numpy(),
            facecolors=colours,
            rcount=len(one.axis),
            ccount=len(one.axis),
            linewidth=0.15,
            edgecolor=(1, 1, 1, 0.35),
            shade=False,
        )
        marks = ticks_of(low, high)
        axes.set_zlim(torch.tensor(low).log10().item(), torch.tensor(high).log10().item())
        axes.set_zticks(torch.tensor(marks).log10().tolist(), [f"{value:g}" for value in marks], fontsize=8)
        axes.set_xticks([-1, 0, 1])
        axes.set_yticks([-1, 0, 1])
        axes.set_title(wrapped(name), parse_math=False)
        axes.view_init(elev=32, azim=-58)
        axes.set_box_aspect(None, zoom=1.15)
        for side in (axes.xaxis, axes.yaxis, axes.zaxis):
            side.set_pane_color((0, 0, 0, 0))
            side._axinfo["grid"].update(color=GREY, linewidth=0.3)  # there is no public way
    return figure


def draw_lines(names: Sequence[str], landscapes: Sequence[Landscape]) -> Figure:
    """The loss along single directions, thin, and their mean, bold; both networks in one drawing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for name, one, colour in zip(names, landscapes, (BLUE, ORANGE), strict=False):
        lines = one.lines.clamp(min=LEAST)
        axes.plot(one.axis.numpy(), lines.T.numpy(), color=colour, linewidth=0.7, alpha=0.5)
        axes.plot(one.axis.numpy(), lines.mean(0).numpy(), color=colour, linewidth=2.2, label=visible(name))
    axes.set_yscale("log")
    axes.set_xlabel("distance from the network, its filters' norms being 1")
    axes.set_ylabel("loss")
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return figure


def wrapped(name: str) -> str:
    """A name in lines that fit above a panel, the rest of a long one left out."""
    return "\n".join(textwrap.wrap(visible(name), WIDEST, max_lines=2, placeholder=" …"))


def ticks_of(low: float, high: float) -> list[float]:
    """Round losses within the scale: 1, 2 and 5 times powers of ten, or only the powers where there are many."""
    powers = range(-6, 9)
    for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        marks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(marks) <= 8:
            break
    return marks
