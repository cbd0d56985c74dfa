"""Drawings of A8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure

HUES = (ORANGE, GREEN, VIOLET, BLUE)


def channels(before: Tensor, after: Tensor) -> Figure:
    """Histograms of each channel."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(5.4, 3.9), layout="constrained")
    top, bottom = drawing.subplots(2, 1, sharex=True)
    for axes, values, name in ((top, before, "before"), (bottom, after, "after")):
        for channel, hue in enumerate(HUES):
            axes.hist(values[:, channel].flatten().tolist(), bins=60, range=(-12, 16), color=hue, alpha=0.6)
        axes.set(yticks=[])
        axes.set_title(name, fontsize=10.5, loc="left")
    return Figure(drawing, "Values of four channels; after: mean 0, variance 1.", "Histograms before and after.")


def averages(history: list[list[float]]) -> Figure:
    """Running means, batch by batch, towards what the data has."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(5.0, 3.9), layout="constrained")
    axes = drawing.add_subplot()
    for channel, (hue, truth) in enumerate(zip(HUES, (-3, 0, 1, 5), strict=True)):
        axes.plot([row[channel] for row in history], color=hue, linewidth=1.8)
        axes.axhline(truth, color=hue, linewidth=1, linestyle=(0, (4, 4)), alpha=0.7)
    axes.set(xlabel="batches seen", ylabel="running mean")
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    return Figure(drawing, "Dashed: the truth. 0.9 of the old and 0.1 of the new, from 0.", "Running means converge.")


def losses(trained: dict[str, Any]) -> Figure:
    """Training loss, a panel a learning rate."""
    from matplotlib.figure import Figure as Drawing

    rates = list(next(iter(trained.values())))
    drawing = Drawing(figsize=(9.4, 3.2), layout="constrained")
    panels = drawing.subplots(1, len(rates), sharey=True)
    for axes, rate in zip(panels, rates, strict=True):
        for name, hue in zip(trained, (ORANGE, BLUE), strict=True):
            values = torch.tensor(trained[name][rate]["losses"], dtype=torch.float64)
            values = values.nan_to_num(3.0, 3.0, 3.0).clamp(max=3.0)
            smooth = values.unfold(0, 10, 1).mean(1)
            axes.plot(range(5, 5 + len(smooth)), smooth.tolist(), color=hue, linewidth=1.9, label=name)
        axes.set_title(f"learning rate {float(rate):g}", fontsize=10.5)
        axes.set(xlabel="steps", ylim=(0, 3.05))
        axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    panels[0].set(ylabel="loss")
    panels[-1].legend(frameon=False)
    ends = "; ".join(f"{name} at {rate}: {trained[name][rate]['accuracy']:.1%}" for name in trained for rate in rates)
    return Figure(drawing, "Mean loss of ten steps.", f"Training losses. {ends}.", wide=True)


def responses(local_response: Callable[..., Tensor]) -> Figure:
    """Sixteen channels before and after, α made large so that it shows."""
    from matplotlib.figure import Figure as Drawing

    values = torch.rand(16, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 0.5 + 0.7
    values[8] = 8.0
    after = local_response(values.view(1, 16, 1, 1), k=1.0, alpha=0.1)[0, :, 0, 0]
    drawing = Drawing(figsize=(9.4, 2.9), layout="constrained")
    axes = drawing.add_subplot()
    at = torch.arange(16)
    near = [GREEN if abs(channel - 8) <= 2 else BLUE for channel in range(16)]
    axes.bar((at - 0.2).tolist(), values.tolist(), 0.36, color=GREY, alpha=0.6, label="before")
    axes.bar((at + 0.2).tolist(), after.tolist(), 0.36, color=near, label="after")
    axes.set(xlabel="channel", xticks=range(16), ylabel="response")
    axes.set_ylim(0, 8.4)
    caption = "Grey: before; coloured: after, green where the strong channel 8 is within reach. Here k = 1, α = 0.1."
    return Figure(drawing, caption, "Bars of sixteen channels; channel 8 and its neighbours shrink.", wide=True)
