"""The picture of a robustness report: a row a disturbance, its curve and one example at every strength."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from striate.drawing import caption_font, shortened
from striate.tasks.section import BLUE, GREEN, GREY, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from striate.robustness import Curve, Robustness

# the picture's measures in inches
MARGIN, HEAD, AXIS, PLOT, GAP, SIDE, PITCH, ROW = 0.2, 1.3, 0.5, 2.85, 0.4, 1.36, 1.66, 2.0
LEAST_WIDTH = 11.5  # room for the headings
DPI, LETTERS, DIM = 140, 9, "#5f6672"  # pixels an inch; points; of text that is not the message


def draw(robustness: Robustness, title: str) -> Figure:
    """The whole picture, placed by hand in inches: what lies in one row stays at one height."""
    from matplotlib.figure import Figure

    curves, clean = list(robustness.curves.values()), robustness.clean
    columns = 1 + len(curves[0].grades)
    left = MARGIN + AXIS + PLOT + GAP
    width, height = max(left + columns * PITCH, LEAST_WIDTH), HEAD + len(curves) * ROW
    figure = Figure(figsize=(width, height), facecolor="white")

    def text(x: float, y: float, words: str, **style: Any) -> None:
        """Inches from the left and the top; dollars are no mathematics."""
        style = {"fontsize": LETTERS, "va": "baseline", "parse_math": False} | style
        figure.text(x / width, 1 - y / height, words, **style)

    def axes(x: float, y: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / width, 1 - (y + high) / height, wide / width, high / height))

    letters = caption_font(round(LETTERS * DPI / 72))
    sentence, metric = robustness.sentence, robustness.metric
    pictures = f"{robustness.count:,} pictures of the {robustness.split} split"
    text(MARGIN, 0.36, sentence[0].upper() + sentence[1:], fontsize=13, weight="bold")
    about = f"{title}, {pictures}" if title else pictures
    text(MARGIN, 0.63, shortened(about, letters, (width - 2 * MARGIN) * DPI))
    text(
        MARGIN,
        0.86,
        f"Left: {metric} over strength, dashed where undisturbed. Right: one example; above it the strength and, in "
        f"blue, the {metric} on all pictures; below it what the model says.",
        color=DIM,
    )
    values = [clean.value, *(value for curve in curves for value in curve.values)]
    low, high = min(0.0, *values), max(values)
    high = 1.0 if 0.2 < high <= 1 else high or 1.0
    for row, curve in enumerate(curves):
        top = HEAD + row * ROW
        text(MARGIN, top, curve.name, fontsize=11, weight="bold")
        text(MARGIN + 1.0, top, curve.disturbance.unit, color=DIM)
        if curve.kept is not None:
            text(MARGIN + AXIS + PLOT, top, f"{100 * curve.kept:.0f} % kept", ha="right")
        plot = axes(MARGIN + AXIS, top + 0.13, PLOT, SIDE)
        draw_curve(plot, curve, clean.value)
        plot.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
        for column, grade in enumerate((clean, *curve.grades)):
            x = left + column * PITCH
            text(x, top, curve.disturbance.write(grade.strength) if column else "as it is")
            text(x + SIDE, top, f"{grade.value:.2f}", ha="right", color=BLUE, weight="bold")
            colour = {True: GREEN, False: RED, None: GREY}[grade.right]
            draw_example(axes(x, top + 0.08, SIDE, SIDE), grade.picture, colour)
            said = shortened(grade.result.caption(), letters, (PITCH - 0.08) * DPI)
            text(x + SIDE / 2, top + SIDE + 0.27, said, ha="center", color=colour)
    return figure


def draw_curve(axes: Axes, curve: Curve, clean: float) -> None:
    """The metric from undisturbed to strongest, over a dashed line where it began."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.axhline(clean, color=GREY, linewidth=1, linestyle="--")
    axes.plot([0, *curve.strengths], [clean, *curve.values], "o-", color=BLUE, linewidth=1.8, markersize=4)
    axes.set_xlim(left=0)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda strength, _: curve.disturbance.write(strength)))
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 5, 10]))
    axes.tick_params(labelsize=8, color=GREY, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.6)


def draw_example(axes: Axes, picture: Tensor, colour: str) -> None:
    """One picture, uint8 [C, H, W], edged in a colour; of small ones one sees the pixels."""
    axes.imshow(
        picture.expand(3, -1, -1).movedim(0, 2).numpy(),
        interpolation="nearest" if max(picture.shape[1:]) <= 64 else "auto",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=2)
