"""Drawings of A7."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from striate.lectures.cells import arrow, word
from striate.lectures.foundations.kernels import filtered, paint
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure

HUES = (ORANGE, VIOLET, RED, BLUE, GREEN, GREY)


def commuting(photo: Tensor, kernel: Tensor, scale: Sequence[float], shift: int = 40) -> Figure:
    """Both ways round a square: move, then see; see, then move; and what differs."""
    from matplotlib.figure import Figure as Drawing

    factor, offset = scale
    seen = filtered(photo * 255 * factor + offset, kernel.double())
    moved_first = filtered(photo.roll(shift, dims=1) * 255 * factor + offset, kernel.double())
    moved_last = seen.roll(shift, dims=1)
    panels = (
        ("picture", photo, False),
        ("seen: the map", seen, True),
        ("seen, then moved", moved_last, True),
        ("moved", photo.roll(shift, dims=1), False),
        ("moved, then seen", moved_first, True),
        ("difference", moved_first - moved_last, True),
    )
    drawing = Drawing(figsize=(9.4, 6.7))
    limit = float(seen.abs().flatten().quantile(0.99))
    for index, (name, values, signed) in enumerate(panels):
        column, row = index % 3, index // 3
        left, bottom = 0.01 + column / 3, 0.515 - 0.5 * row
        axes = drawing.add_axes((left, bottom, 0.31, 0.435))
        if name == "difference":
            values = torch.where(values.abs() < 1e-9, 0.0, values.sign() * limit)
        paint(axes, values, signed)
        axes.set_title(name, fontsize=10.5)
    return Figure(
        drawing,
        "What wraps around the edge is the only difference.",
        "Photograph, its map, and both moved: the maps are equal but for two columns at the border.",
        wide=True,
    )


def moves(shifts: Sequence[int], changes: Sequence[dict[str, float]], title: str) -> Figure:
    """Relative change against the shift, a line a layer."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(5.0, 3.7), layout="constrained")
    axes = drawing.add_subplot()
    for name, hue in zip(changes[0], HUES, strict=False):
        width = 2.6 if name == "answer" else 1.7
        hue = GREY if name == "answer" else hue
        axes.plot(
            shifts, [100 * row[name] for row in changes], "o-", color=hue, label=name, linewidth=width, markersize=4
        )
    axes.set(xlabel="moved by, pixels", ylabel="change of the output, %", ylim=(0, None))
    axes.set_title(title, fontsize=10.5)
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)
    last = ", ".join(f"{name} {100 * value:.0f} %" for name, value in changes[-1].items())
    return Figure(drawing, "", f"{title}: moved by {shifts[-1]} pixels, {last}.")


def connections() -> Figure:
    """Nine inputs, nine outputs: a convolution of width 3 beside a dense layer."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9.4, 3.0))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, 22), ylim=(-0.9, 6.2))
    count = 9
    for left, dense in ((1.0, False), (12.2, True)):
        for out in range(count):
            for into in range(count):
                if dense:
                    axes.plot([left + into, left + out], [0.9, 4.1], color=GREY, alpha=0.45, linewidth=0.8)
                elif abs(out - into) <= 1:
                    hue = (ORANGE, GREEN, VIOLET)[into - out + 1]
                    axes.plot([left + into, left + out], [0.9, 4.1], color=hue, linewidth=1.8)
        axes.scatter([left + at for at in range(count)], [0.9] * count, s=95, color=BLUE, zorder=3)
        axes.scatter([left + at for at in range(count)], [4.1] * count, s=95, color=BLUE, zorder=3)
        learnt = "3 weights, 25 connections" if not dense else "81 weights, 81 connections"
        word(axes, left + 4, 5.3, "dense" if dense else "convolution of width 3", 11)
        word(axes, left + 4, -0.2, learnt, 10, GREY)
    arrow(axes, (0.2, 1.2), (0.2, 3.8))
    return Figure(drawing, "", "Nine inputs to nine outputs: 25 connections of 3 weights against 81 of 81.", wide=True)
