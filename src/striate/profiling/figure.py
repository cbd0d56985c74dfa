"""Accuracy against cost, drawn: published top-1 over multiply-adds and over measured latency."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import product
from math import cos, hypot, pi, sin
from pathlib import Path
from typing import TYPE_CHECKING

from striate.errors import UsageError
from striate.tasks.classify.figures import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    from striate.profiling.measure import Cost
    from striate.profiling.networks import Network

# Paul Tol's "bright" and "muted" (personal.sron.nl/~pault): told apart with every kind of colour vision
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CC9A1B", "#AA3377", "#2DA5C4", "#882255", "#999933", "#44AA99", "#7A7A7A")
INK, FAINT = "#24292f", "#8a919e"
LARGEST = 22.0  # radius in points of the network with most parameters
SMALLEST = 2.5  # a dot that can still be seen


def accuracies(networks: Sequence[Network]) -> tuple[str, list[float | None]]:
    """What the vertical axis shows, and each network's place on it (None: it has none).

    Published top-1 where any has it; else the measure that most model files of trained networks have.

    Raises:
        UsageError: no network has either.
    """
    if any(network.top1 is not None for network in networks):
        return "published ImageNet top-1 (%)", [network.top1 for network in networks]
    names = [name for network in networks for name in network.metrics]
    if not names:
        raise UsageError(
            "a picture shows accuracy against cost, and none of these networks has a published accuracy or a model file"
        )
    shown = max(dict.fromkeys(names), key=names.count)
    return f"{shown.replace('_', ' ')} (of each model file)", [network.metrics.get(shown) for network in networks]


def draw_costs(costs: Sequence[Cost], setting: str = "") -> Figure:
    """Two panels, log x; area is parameters, colour is the family, the line joins what nothing beats at its cost.

    Args:
        setting: where it was measured, in one line below.

    Raises:
        UsageError: as `accuracies`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    label, heights = accuracies([cost.network for cost in costs])
    shown = [(cost, height) for cost, height in zip(costs, heights, strict=True) if height is not None]
    shown.sort(key=lambda pair: -pair[0].network.parameters)  # small bubbles lie on large ones
    kept, tops = [cost for cost, _ in shown], [height for _, height in shown]
    side = 5.6 + 0.06 * max(0, len(kept) - 12)  # more labels need more room
    figure = Figure(figsize=(2 * side * 1.12, side * 1.08), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # measures the letters
    panels = figure.subplots(1, 2, sharey=True)
    _panel(panels[0], kept, [cost.network.multiply_adds / 1e6 for cost in kept], tops)
    _panel(panels[1], kept, [cost.latency_ms for cost in kept], tops)
    panels[0].set_xlabel("multiply-adds, one picture (millions)")
    panels[1].set_xlabel("latency, one picture (ms)")
    panels[0].set_ylabel(label)
    panels[1].tick_params(labelleft=False)
    figure.suptitle("Accuracy against cost", x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    most = max(cost.network.parameters for cost in kept)
    note = f"Area: parameters (largest {_short(most)}). Line: networks that no other here beats in both."
    figure.supxlabel(f"{note}\n{setting}".strip(), x=0.01, ha="left", fontsize=8.5, color="#59616b")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # places are final: labels are put beside bubbles in pixels
    for panel in panels:
        place_labels(panel, [_title(cost.network) for cost in kept])
    return figure


def png_bytes(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def place_labels(axes: Axes, names: Sequence[str]) -> list[Text]:
    """A name beside each point of the panel's last scatter, clear of other names, of bubbles and of the frame.

    The nearest free place wins; where it is not next to its bubble a thin line leads there. In a crowd that leaves no
    place free it is the least covered one.
    """
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.transforms import Bbox

    figure = axes.get_figure()
    assert figure is not None
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    bubbles = axes.collections[-1]
    pixel = figure.dpi / 72  # pixels a point  # type: ignore[union-attr]
    centres = axes.transData.transform(bubbles.get_offsets())
    radii = [area**0.5 / 2 * pixel for area in bubbles.get_sizes()]  # type: ignore[attr-defined]
    colours = bubbles.get_facecolor()  # type: ignore[attr-defined]
    discs = [Bbox.from_bounds(x - r, y - r, 2 * r, 2 * r) for (x, y), r in zip(centres, radii, strict=True)]
    frame = axes.get_window_extent(renderer)
    placed: list[Bbox] = []
    texts: list[Text] = []
    for index in sorted(range(len(names)), key=lambda i: -centres[i][1]):
        x, y = centres[index]
        text = axes.text(
            0.5, 0.5, names[index], transform=figure.transFigure, fontsize=8.5, color=INK, ha="center", va="center"
        )
        size = text.get_window_extent(renderer)
        text.set_path_effects([Stroke(linewidth=2.5, foreground="white"), Normal()])
        taken = [*placed, *(disc for other, disc in enumerate(discs) if other != index)]
        best, least = size, float("inf")
        for away, turn in product(range(12), (0, 12, 6, 18, 3, 21, 9, 15, 1, 23, 5, 7, 11, 13, 17, 19)):
            reach, angle = radii[index] + (3 + 9 * away) * pixel, turn * pi / 12
            # an ellipse on which the name touches the bubble: beside it at 0, above it at 90 degrees
            left = x + cos(angle) * (reach + size.width / 2) - size.width / 2
            low = y + sin(angle) * (reach + size.height / 2) - size.height / 2
            box = Bbox.from_bounds(left, low, size.width, size.height).padded(1.5 * pixel)
            inside = _overlap(box, frame)
            cost = box.width * box.height - inside + sum(_overlap(box, other) for other in taken)
            cost += _overlap(box, discs[index]) * 0.5
            if cost < least - 1e-6:
                best, least = box, cost
            if least <= 1e-6:
                break
        text.set_position(
            (((best.x0 + best.x1) / 2) / figure.bbox.width, ((best.y0 + best.y1) / 2) / figure.bbox.height)
        )
        placed.append(best)
        texts.append(text)
        _lead(axes, (x, y), radii[index], best, colours[index], 9 * pixel)
    return texts


def _panel(axes: Axes, costs: Sequence[Cost], across: Sequence[float], tops: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    most = max(cost.network.parameters for cost in costs)
    families = list(dict.fromkeys(cost.network.family for cost in costs))
    radii = [max(SMALLEST, LARGEST * (cost.network.parameters / most) ** 0.5) for cost in costs]
    low, high = min(across), max(across)
    wide = max(1.0, high / low) ** 0.16 * 1.5  # room for bubbles and names at either end
    axes.set_xscale("log")
    axes.set_xlim(low / wide, high * wide)
    rise = max(tops) - min(tops) or 0.02 * abs(max(tops)) or 1.0
    axes.set_ylim(min(tops) - 0.18 * rise, max(tops) + 0.18 * rise)
    best = _unbeaten(across, tops)
    axes.plot([x for x, _ in best], [y for _, y in best], color="#c9ced6", linewidth=1.6, zorder=1)
    areas = [(2 * radius) ** 2 for radius in radii]
    axes.scatter(across, tops, s=areas, c="white", linewidths=0, zorder=2)  # the line does not shine through
    axes.scatter(
        across,
        tops,
        s=areas,
        c=[COLOURS[families.index(cost.network.family) % len(COLOURS)] for cost in costs],
        alpha=0.72,
        edgecolors="white",
        linewidths=1.0,
        zorder=3,
    )
    axes.xaxis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e6e9ee", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both", labelsize=9, colors=INK)
    for name in ("top", "right", "left"):
        axes.spines[name].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _unbeaten(across: Sequence[float], tops: Sequence[float]) -> list[tuple[float, float]]:
    """From the cheapest on, each that is better than all that are cheaper."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(zip(across, tops, strict=True), key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _overlap(a: Bbox, b: Bbox) -> float:
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return wide * high if wide > 0 and high > 0 else 0.0


def _lead(axes: Axes, centre: Sequence[float], radius: float, box: Bbox, colour: object, least: float) -> None:
    """A line from a bubble's rim to its name, where they are further apart than `least` pixels."""
    from matplotlib.lines import Line2D

    x, y = centre
    near = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
    away = hypot(near[0] - x, near[1] - y)
    if away - radius < least:
        return
    rim = x + (near[0] - x) * radius / away, y + (near[1] - y) * radius / away
    figure = axes.get_figure()
    assert figure is not None
    ends = figure.transFigure.inverted().transform((rim, near))
    line = Line2D(ends[:, 0], ends[:, 1], transform=figure.transFigure, linewidth=0.7, color=colour)  # type: ignore[arg-type]
    figure.add_artist(line)


def _title(network: Network) -> str:
    """Short: of a model file its own name, or its run's."""
    path = Path(network.name)
    if path.suffix == ".safetensors":
        return plain(path.parent.name if path.stem == "model" and path.parent.name else path.stem, 28)
    return plain(network.name, 28)


def _short(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count / 1e3:,.0f} K"
