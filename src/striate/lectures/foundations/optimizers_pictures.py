"""Drawings of A9."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from striate.lectures.cells import animation
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

HUES = {"sgd": GREY, "momentum": ORANGE, "adagrad": GREEN, "rmsprop": VIOLET, "adam": BLUE}
FRAMES = 40


def landscape(axes: Axes, surface: Any) -> None:
    """Contours of a surface, and its lowest place."""
    left, right, bottom, top = surface.extent
    x, y = torch.linspace(left, right, 120), torch.linspace(bottom, top, 120)
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    heights = surface.height(places)
    levels = (heights.min() + (heights.max() - heights.min()) * torch.linspace(0.02, 1, 12) ** 2).tolist()
    axes.contour(x, y, heights, levels=levels, colors=GREY, linewidths=0.7, alpha=0.55)
    axes.plot(0, 0, "*", color=RED, markersize=12, zorder=5)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set_title(surface.title, fontsize=10.5)


def stage(surfaces: Mapping[str, Any]) -> tuple[Drawing, list[Axes]]:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.4, 3.2), layout="constrained")
    panels = list(drawing.subplots(1, len(surfaces)))
    for axes, surface in zip(panels, surfaces.values(), strict=True):
        landscape(axes, surface)
    return drawing, panels


def trajectories(surfaces: Mapping[str, Any], found: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Whole paths."""
    drawing, panels = stage(surfaces)
    for axes, key in zip(panels, surfaces, strict=True):
        for name, title in names.items():
            path = found[key][name]["path"]
            axes.plot(*zip(*path, strict=True), "-", color=HUES[name], linewidth=1.5, alpha=0.9, label=title)
            axes.plot(*path[-1], "o", color=HUES[name], markersize=6, zorder=6)
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    ends = "; ".join(
        f"{surfaces[key].title}: lowest at the end {min(names, key=lambda name: found[key][name]['heights'][-1])}"
        for key in surfaces
    )
    return Figure(
        drawing,
        "Dots: after the last step. The star is the lowest place.",
        f"Paths of five optimisers. {ends}.",
        wide=True,
    )


def racing(surfaces: Mapping[str, Any], found: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """The same paths, as they grow."""
    drawing, panels = stage(surfaces)
    movers = []
    for axes, key in zip(panels, surfaces, strict=True):
        for name, title in names.items():
            (line,) = axes.plot([], [], "-", color=HUES[name], linewidth=1.3, alpha=0.8, label=title)
            (dot,) = axes.plot([], [], "o", color=HUES[name], markersize=7, zorder=6)
            movers.append((found[key][name]["path"], line, dot))
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    last = len(movers[0][0]) - 1

    def frame(number: int) -> Drawing:
        step = round(last * (number / (FRAMES - 1)) ** 1.5)  # slowly at first, where most happens
        for path, line, dot in movers:
            line.set_data(*zip(*path[: step + 1], strict=True))
            dot.set_data(*zip(path[step], strict=True))
        return drawing

    content = animation(frame, FRAMES, 110, hold=20, dpi=84)
    return Figure(
        content, f"The race, {last} steps.", "Animation: five dots run downhill on three surfaces.", wide=True
    )


def heights(surfaces: Mapping[str, Any], found: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Height against steps, a panel a surface."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.4, 3.2), layout="constrained")
    panels = drawing.subplots(1, len(surfaces))
    for axes, key in zip(panels, surfaces, strict=True):
        for name, title in names.items():
            lowest = 0.02 * 0.5**0.5 if key == "gentle" else 0.0
            values = [max(height - lowest, 1e-8) for height in found[key][name]["heights"]]
            axes.plot(values, color=HUES[name], linewidth=1.7, label=title)
        axes.set(xlabel="steps", yscale="log")
        axes.set_title(surfaces[key].title, fontsize=10.5)
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    panels[0].set(ylabel="height above the lowest place")
    drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    return Figure(drawing, "Under noise: mean of 16 runs.", "Heights of five optimisers against steps.", wide=True)


def learning(real: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    """Training losses on digits."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(6.4, 3.6), layout="constrained")
    axes = drawing.add_subplot()
    for name, row in real.items():
        smooth = torch.tensor(row["losses"]).unfold(0, 8, 1).mean(1).tolist()
        axes.plot(range(4, 4 + len(smooth)), smooth, color=HUES[name], linewidth=1.8, label=names[name])
    axes.set(xlabel="steps", ylabel="loss", ylim=(0, None))
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return Figure(drawing, "Mean loss of eight steps and three seeds.", "Training losses of five optimisers on digits.")
