"""A network is a table: each layer's kind, the shape of what comes out of it, and how many numbers it learns.

Here five convolutions of stride 2 halve a picture of 28×28 down to one place; 64 pictures go through at once. Besides
what the lecture prints, the table says what a picture costs: multiply-adds, memory, and how many pixels each output
has seen.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from striate.lectures.cells import compared, word
from striate.lectures.page import Check, Setting, Shown
from striate.network_summary import Summary, summarize
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

PYTHON = """
from itertools import pairwise
from torch import nn
from striate import summary

layers = []
for c_in, c_out in pairwise((1, 4, 8, 16, 32, 2)):
    layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.ReLU()]
network = nn.Sequential(*layers[:-1], nn.Flatten())
print(summary(network, (64, 1, 28, 28)))
"""

CHANNELS = (1, 4, 8, 16, 32, 2)
PRINTED = (
    ("Conv2d", "64×4×14×14", 40),
    ("Conv2d", "64×8×7×7", 296),
    ("Conv2d", "64×16×4×4", 1168),
    ("Conv2d", "64×32×2×2", 4640),
    ("Conv2d", "64×2×1×1", 578),
    ("Flatten", "64×2", None),
)


def network() -> nn.Sequential:
    """Five 3×3 convolutions of stride 2 with ReLU between them, then a vector: [B, 1, 28, 28] → [B, 2]."""
    layers: list[nn.Module] = []
    for wide, wider in pairwise(CHANNELS):
        layers += [nn.Conv2d(wide, wider, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Flatten())


def checks(found: Summary) -> list[Check]:
    """Row by row as printed, and what really comes out of the network."""
    rows = [row for row in found.rows if row.kind != "ReLU"]
    made = []
    for (kind, shape, count), row in zip(PRINTED, rows, strict=True):
        ours = f"{row.kind} {'×'.join(map(str, row.output))}" + ("" if count is None else f" {row.parameters:,}")
        made.append(compared(kind, f"{kind} {shape}" + ("" if count is None else f" {count:,}"), ours))
    trainable = all(row.parameters == row.trainable for row in found.rows)
    made.append(Check("Trainable", "True in every row", str(trainable), trainable))
    with torch.inference_mode():
        answer = network()(torch.zeros(64, 1, 28, 28))
    made.append(compared("A batch of 64 digits really gives", "64×2", "×".join(map(str, answer.shape))))
    return made


def show(setting: Setting) -> Shown:
    """The lecture's table, with costs and receptive fields beside it, and the volumes drawn."""
    found = summarize(network(), (64, 1, 28, 28))
    heads, rows = found.table()
    return Shown(
        tuple(checks(found)),
        (
            Section(
                "From picture to answer",
                "Each convolution halves height and width and, but for the last, doubles the channels.",
                [volumes(found), fields(found)],
            ),
            Section(
                "The table",
                f"{found.parameters:,} parameters, {found.multiply_adds // 64:,} multiply-adds a picture.",
                tables=[Table(heads, rows, "64 pictures of 28×28, one channel")],  # type: ignore[arg-type]
            ),
        ),
    )


def volumes(found: Summary) -> Figure:
    """Every convolution's output as a block, drawn to scale."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.patches import Polygon

    shapes = [(1, 28, 28), *(row.output[1:] for row in found.rows if row.kind == "Conv2d")]
    drawing = Drawing(figsize=(9.4, 3.5))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.axis("off")
    x, base = 1.0, 0.0
    hues = (GREY, BLUE, BLUE, BLUE, BLUE, GREEN)
    for (channels, height, width), hue in zip(shapes, hues, strict=True):
        deep, high, slant = 0.35 + channels * 0.32, height * 0.5, width * 0.22
        front = [(x, base - high / 2), (x + deep, base - high / 2), (x + deep, base + high / 2), (x, base + high / 2)]
        top = [front[3], front[2], (x + deep + slant, base + high / 2 + slant), (x + slant, base + high / 2 + slant)]
        side = [front[1], (x + deep + slant, base - high / 2 + slant), top[2], front[2]]
        for face, strength in ((front, 0.5), (top, 0.25), (side, 0.7)):
            axes.add_patch(Polygon(face, facecolor=hue, alpha=strength, edgecolor=hue, linewidth=1))
        word(axes, x + (deep + slant) / 2, -9.2, f"{channels}×{height}×{width}", 9.5)
        x += deep + slant + 2.6
    axes.set(xlim=(0, x - 1), ylim=(-10.4, 14.5), aspect="equal")
    return Figure(
        drawing, "Channels × height × width of one picture, to scale.", "Blocks that get flatter and deeper.", wide=True
    )


def fields(found: Summary) -> Figure:
    """How many pixels one output of each convolution has seen, as squares around the middle of the picture."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.patches import Rectangle

    drawing = Drawing(figsize=(4.6, 4.4))
    axes = drawing.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.axis("off")
    axes.add_patch(Rectangle((-14, -14), 28, 28, facecolor=GREY, alpha=0.18))
    word(axes, -13.5, 13.1, "picture, 28×28", 9, align="left")
    rows = [row for row in found.rows if row.kind == "Conv2d" and row.receptive_field]
    for row, hue in zip(rows, (ORANGE, VIOLET, GREEN, BLUE, GREY), strict=False):
        side = row.receptive_field[0] if row.receptive_field else 28
        axes.add_patch(Rectangle((-side / 2, -side / 2), side, side, fill=False, edgecolor=hue, linewidth=2))
        word(axes, *((3.6, 0) if side == 3 else (0, side / 2 + 1.1)), f"{side}×{side}", 9.5, hue)
    axes.set(xlim=(-33, 33), ylim=(-33, 35), aspect="equal")
    sides = ", ".join(str(row.receptive_field[0]) for row in rows if row.receptive_field)
    return Figure(
        drawing,
        f"What one output has seen, layer by layer: {sides} pixels a side; the last see beyond the border.",
        f"Squares of {sides} pixels.",
    )
