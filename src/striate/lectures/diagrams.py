"""Drawings that lectures share: maps as solids, layers as boxes with arrows, bars side by side.

Letters and axes are black, which a page shows in its own text colour; boxes are thin washes of colour, so that letters
on them can be read on white and on dark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WASH = 0.22  # opacity of a box
LETTERS = 8.5  # points
KINDS = {"picture": GREY, "conv": BLUE, "pool": GREEN, "dense": ORANGE, "other": VIOLET}


class Volume(NamedTuple):
    """What a layer gives: maps of `height` × `width`, or a vector (1 × 1), so many `channels`; `kind` of KINDS."""

    name: str
    channels: int
    height: int
    width: int
    kind: str = "conv"

    @property
    def shape(self) -> str:
        if (self.height, self.width) == (1, 1):
            return f"{self.channels:,}"
        return f"{self.height}×{self.width}×{self.channels}"


class Node(NamedTuple):
    """A box with letters in it: its middle at (x, y), y grows downwards; `width` in the same units."""

    text: str
    x: float
    y: float
    colour: str = BLUE
    width: float = 1.6


class Edge(NamedTuple):
    """An arrow from one node to another; `around` is the x that a shortcut takes past what lies between."""

    start: str
    end: str
    around: float | None = None
    label: str = ""


def draw_volumes(volumes: Sequence[Volume], width: float = 10.0) -> Drawing:
    """A row of solids: as high as the maps (root), as long as there are channels (logarithm); vectors are staves."""
    figure = new_figure(width, 2.9)
    axes = figure.add_subplot()
    tallest = max(sqrt(volume.height) for volume in volumes)
    shortest = 0.62  # between the middles of two, so that letters keep apart; inches as all here
    sides = [1.55 * sqrt(volume.height) / tallest for volume in volumes]
    lengths = [0.045 * log2(volume.channels + 1) for volume in volumes]
    middles, edge = [], 0.0
    for volume, side, length in zip(volumes, sides, lengths, strict=True):
        flat = is_vector(volume)
        half = max(shortest, length + (0.1 if flat else 0.42 * side) + 0.14) / 2
        middles.append(edge + half)
        edge += 2 * half
    for volume, middle, side, length in zip(volumes, middles, sides, lengths, strict=True):
        colour = KINDS[volume.kind]
        if is_vector(volume):
            tall = 0.1 * log2(volume.channels + 1)
            _solid(axes, middle, 0.07, tall, 0.05, colour)
        else:
            _solid(axes, middle, length, side, 0.42 * side, colour)
        axes.text(middle, -1.06, f"{volume.shape}", ha="center", va="top", fontsize=LETTERS - 0.5)
        axes.text(middle, -1.27, volume.name, ha="center", va="top", fontsize=LETTERS - 0.5, color=colour)
    axes.set(xlim=(0, edge), ylim=(-1.5, 1.1), aspect="equal")
    axes.set_axis_off()
    return figure


def is_vector(volume: Volume) -> bool:
    return (volume.height, volume.width) == (1, 1)


def _solid(axes: Axes, middle: float, length: float, side: float, depth: float, colour: str) -> None:
    """An oblique box: `length` along the paper, `side` high, going `depth` back (drawn at 45 degrees, shortened)."""
    from matplotlib.patches import Polygon

    back = 0.55 * depth
    left, low = middle - (length + back) / 2, -(side + back) / 2
    right, high = left + length, low + side
    faces = {
        0.30: ((left, low), (right, low), (right, high), (left, high)),
        0.16: ((left, high), (right, high), (right + back, high + back), (left + back, high + back)),
        0.50: ((right, low), (right + back, low + back), (right + back, high + back), (right, high)),
    }
    for opacity, corners in faces.items():
        axes.add_patch(Polygon(corners, facecolor=colour, alpha=opacity, edgecolor="none"))
        axes.add_patch(Polygon(corners, facecolor="none", edgecolor=colour, linewidth=0.8, joinstyle="round"))


def draw_graph(
    nodes: Mapping[str, Node],
    edges: Sequence[Edge],
    size: tuple[float, float],
    title: str = "",
    axes: Axes | None = None,
) -> Drawing:
    """Boxes and arrows, from top to bottom.

    Args:
        size: of the drawing, in inches; not used where there are axes already.
    """
    drawing = new_figure(*size) if axes is None else axes.get_figure(root=True)
    assert drawing is not None
    axes = drawing.add_subplot() if axes is None else axes
    for edge in edges:
        _arrow(axes, nodes[edge.start], nodes[edge.end], edge)
    for node in nodes.values():
        _box(axes, node)
    low, high = min(node.y for node in nodes.values()), max(node.y for node in nodes.values())
    reach = [node.x + sign * node.width / 2 for node in nodes.values() for sign in (-1, 1)]
    reach += [edge.around for edge in edges if edge.around is not None]
    axes.set(xlim=(min(reach) - 0.1, max(reach) + 0.1), ylim=(high + 0.45, low - 0.45))
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=LETTERS + 2)
    return drawing


HALF = 0.27  # of a box's height


def _box(axes: Axes, node: Node) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (node.x - node.width / 2, node.y - HALF)
    for face, line, opacity in ((node.colour, "none", WASH), ("none", node.colour, 1)):
        axes.add_patch(
            FancyBboxPatch(
                corner,
                node.width,
                2 * HALF,
                boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=face,
                edgecolor=line,
                alpha=opacity,
                linewidth=0.9,
            )
        )
    axes.text(node.x, node.y, node.text, ha="center", va="center", fontsize=LETTERS, linespacing=1.1)


def _arrow(axes: Axes, start: Node, end: Node, edge: Edge) -> None:
    style: dict[str, Any] = {"arrowstyle": "-|>,head_width=0.16,head_length=0.32", "color": GREY, "linewidth": 1.0}
    style |= {"shrinkA": 0, "shrinkB": 0}
    if edge.around is None:
        line = _straight(start, end)
        axes.annotate("", line[1], line[0], arrowprops=style)
        middle = ((line[0][0] + line[1][0]) / 2, (line[0][1] + line[1][1]) / 2)
    else:
        side = 1 if edge.around > end.x else -1
        begin = start.y + HALF + 0.12
        way = ((start.x, begin), (edge.around, begin), (edge.around, end.y))
        axes.plot(*zip(*way, strict=True), color=GREY, linewidth=1.0, solid_joinstyle="round")
        axes.annotate("", (end.x + side * end.width / 2, end.y), (edge.around, end.y), arrowprops=style)
        middle = (edge.around, (begin + end.y) / 2)
    if edge.label:
        axes.text(middle[0] + 0.06, middle[1], edge.label, fontsize=LETTERS - 1, ha="left", va="center")


def _straight(start: Node, end: Node) -> tuple[tuple[float, float], tuple[float, float]]:
    """From the lower edge of one box to the upper edge of another; upright where a wide box lets it."""
    left, right = start.x, end.x
    if abs(right - left) < start.width / 2 - 0.1 and start.width >= end.width:
        left = right
    elif abs(right - left) < end.width / 2 - 0.1:
        right = left
    return (left, start.y + HALF), (right, end.y - HALF)


def draw_bars(
    names: Sequence[str],
    panels: Mapping[str, Sequence[float]],
    told: Callable[[float], str] | Mapping[str, Callable[[float], str]] = "{:,.3g}".format,
    colours: Sequence[str] | None = None,
    width: float = 10.0,
    log: bool = False,
) -> Drawing:
    """A panel a quantity, with a bar a name; `told` writes the number behind a bar (by panel, where it differs)."""
    figure = new_figure(width, 0.75 + 0.3 * len(names))
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        write = told[title] if isinstance(told, Mapping) else told
        bars = axes.barh(range(len(names)), values, color=list(colours or [BLUE] * len(names)), height=0.66)
        axes.bar_label(bars, [write(value) for value in values], padding=3, fontsize=LETTERS)
        axes.set_title(title, fontsize=LETTERS + 1, loc="left")
        if log:
            axes.set_xscale("log")
            axes.set_xlim(min(values) / 3, max(values) * 30)
        else:
            axes.set_xlim(0, 1.45 * max(values))
        axes.set_xticks([], minor=False)
        axes.set_xticks([], minor=True)
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    row[0].set_yticks(range(len(names)), names, fontsize=LETTERS + 0.5)
    row[0].invert_yaxis()
    return figure


def new_figure(width: float, height: float) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    return Drawing(figsize=(width, height), layout="constrained")


def plain_axes(axes: Axes) -> Axes:
    """Axes as every curve here has them: two spines, a faint grid, small letters."""
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=LETTERS)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
