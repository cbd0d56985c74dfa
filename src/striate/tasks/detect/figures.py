"""The drawings of a detector's report, each from plain data to a matplotlib Figure or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from striate.tasks.classify.figures import plain
from striate.tasks.section import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONTEXT = 1.0  # of the box's longer side, shown on every side of it
LEAST_SIDE = 96  # pixels of the picture that are shown at least
SHOWN_SIDE = 360  # pixels of a card's longer side, so that lines are as thick on every card


def draw_curves(curves: Sequence[Sequence[float]], names: Sequence[str], mean: Sequence[float] | None) -> Figure:
    """Precision at 101 recalls, a line a class; `mean` is drawn thick and grey behind them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    recall = [i / 100 for i in range(101)]
    if mean is not None:
        axes.plot(recall, mean, color=GREY, linewidth=4, alpha=0.5, label="mean of all classes")
    for curve, name in zip(curves, names, strict=True):
        axes.plot(recall, curve, linewidth=1.6, label=plain(name))
    axes.set(xlim=(0, 1.02), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    return figure


def draw_sizes(sizes: Sequence[dict[str, Any]]) -> Figure:
    """AP and AP50 as bars, a pair a size band, with the number of objects; an empty band has no bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for shift, key, colour, label in ((-0.2, "ap50", ORANGE, "AP50"), (0.2, "ap", BLUE, "AP")):
        heights = [row[key] or 0.0 for row in sizes]
        bars = axes.bar([i + shift for i in range(len(sizes))], heights, 0.38, color=colour, label=label)
        texts = ["–" if row[key] is None else f"{row[key]:.2f}" for row in sizes]
        axes.bar_label(bars, texts, padding=2, fontsize=8)
    axes.set_xticks(range(len(sizes)), [f"{row['size']}\n{row['count']:,} objects" for row in sizes])
    axes.set(ylim=(0, 1.12), ylabel="average precision")
    axes.legend(loc="upper left", frameon=False, ncols=2)
    return figure


def draw_object(picture: Tensor, box: Sequence[float], colour: str, others: Tensor, other_colour: str) -> Tensor:
    """The part of a picture around a box, with the box drawn over others.

    Args:
        picture: uint8 [3, H, W] or [1, H, W].
        box: x1 y1 x2 y2, what the card is about; it may reach over the picture's edge.
        colour, other_colour: `#rrggbb`.
        others: float [N, 4], drawn thinner.

    Returns:
        uint8 [3, h, w], the longer side SHOWN_SIDE.
    """
    from torch.nn.functional import interpolate
    from torchvision.utils import draw_bounding_boxes

    height, width = picture.shape[-2:]
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1)
    reach = max(side * (0.5 + CONTEXT), LEAST_SIDE / 2)
    middle_x, middle_y = min(max((x1 + x2) / 2, 0), width), min(max((y1 + y2) / 2, 0), height)
    left, right = max(0, int(middle_x - reach)), min(width, int(middle_x + reach) + 1)
    top, bottom = max(0, int(middle_y - reach)), min(height, int(middle_y + reach) + 1)
    part = picture[:, top:bottom, left:right].expand(3, -1, -1)
    scale = SHOWN_SIDE / max(part.shape[-2:])
    size = [max(1, round(length * scale)) for length in part.shape[-2:]]
    shown = interpolate(part[None].float(), size, mode="bilinear", antialias=True)[0].round().clamp(0, 255).byte()
    origin = torch.tensor([left, top, left, top])

    def drawn(image: Tensor, boxes: Tensor, ink: str, thickness: int) -> Tensor:
        edges = (boxes - origin) * scale
        edges[:, 0::2] = edges[:, 0::2].clamp(0, size[1] - 1)
        edges[:, 1::2] = edges[:, 1::2].clamp(0, size[0] - 1)
        edges = edges[(edges[:, 2:] - edges[:, :2]).amin(1) > 0]
        return draw_bounding_boxes(image, edges, colors=ink, width=thickness) if len(edges) else image

    return drawn(drawn(shown, others, other_colour, 2), torch.tensor([list(box)]), colour, 4)
