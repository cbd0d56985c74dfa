"""Matrices drawn with their numbers in their cells, as lectures draw them; tints that read on white and on black."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check
from striate.tasks.section import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

UNIT = 0.42  # inches a cell
STRONGEST = 0.62  # opacity of the largest number's tint: ink of either colour reads on it
VULGAR = {Fraction(1, 2): "½", Fraction(1, 4): "¼", Fraction(3, 4): "¾"}

Matrix = Sequence[Sequence[Any]]


def sheet(width: float, height: float, unit: float = UNIT) -> tuple[Drawing, Axes]:
    """A drawing measured in cells, rows downwards, without a frame: matrices are placed on it by `matrix`."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(width * unit, height * unit))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return drawing, axes


def matrix(
    axes: Axes,
    values: Matrix | Tensor,
    left: float,
    top: float,
    *,
    title: str = "",
    below: str = "",
    colour: str | None = None,
    largest: float | None = None,
    cell: float = 1.0,
    size: float = 10,
) -> None:
    """Numbers or words in cells, upper left corner at (left, top).

    Args:
        values: [H, W]; None leaves a cell out.
        colour: of every tint; None: blue above zero, orange below.
        largest: the number of the strongest tint; None: the largest here. Words are tinted faintly.
        cell: side of a cell, in the sheet's units.
        size: of the numbers, in points.
    """
    from matplotlib.patches import Rectangle

    rows: list[list[Any]] = values.tolist() if hasattr(values, "tolist") else [list(row) for row in values]  # type: ignore[union-attr]
    numbers = [abs(value) for row in rows for value in row if isinstance(value, int | float)]
    largest = largest or max(numbers, default=0) or 1
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if value is None:
                continue
            strength = abs(value) / largest if isinstance(value, int | float) else 0.25
            hue = colour or (ORANGE if isinstance(value, int | float) and value < 0 else BLUE)
            corner = (left + x * cell, top + y * cell)
            axes.add_patch(
                Rectangle(corner, cell, cell, facecolor=hue, alpha=STRONGEST * min(strength, 1), linewidth=0)
            )
            axes.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor=GREY, alpha=0.55, linewidth=0.7))
            word(axes, corner[0] + cell / 2, corner[1] + cell / 2, written(value), size)
    width, height = (max(map(len, rows)) * cell, len(rows) * cell) if rows else (0, 0)
    if title:
        word(axes, left + width / 2, top - 0.38, title, 9.5)
    if below:
        word(axes, left + width / 2, top + height + 0.4, below, 9, GREY)


def word(
    axes: Axes, x: float, y: float, text: str, size: float = 10, colour: str = "black", align: str = "center"
) -> None:
    """Text with its middle (or, by `align`, its left or right end) at a place of the sheet."""
    axes.text(x, y, text, fontsize=size, color=colour, ha=align, va="center", linespacing=1.35)


def window(axes: Axes, left: float, top: float, width: float, height: float, colour: str = ORANGE) -> None:
    """An outline around cells."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=2.2, zorder=3))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    )


def written(value: Any) -> str:
    """A number as on a blackboard: 3, −½, 7/2, 2.33; words as they are."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    sign, size = "−" if value < 0 else "", abs(value)
    fraction = Fraction(size).limit_denominator(16) if size < 1e6 else Fraction(round(size))
    if abs(float(fraction) - size) > 1e-9:
        return f"{sign}{size:.3g}" if size < 1000 else f"{sign}{size:,.0f}"
    if fraction.denominator == 1:
        return f"{sign}{fraction.numerator:,}"
    if fraction in VULGAR:
        return sign + VULGAR[fraction]
    if fraction.denominator == 2:
        return f"{sign}{fraction.numerator}/2"
    return f"{sign}{size:.4g}" if fraction.denominator in (4, 5, 8, 10) else f"{sign}{fraction}"


def rows_of(values: Matrix | Tensor) -> str:
    """A matrix as text, one row a line, columns under one another."""
    rows = values.tolist() if hasattr(values, "tolist") else values  # type: ignore[union-attr]
    cells = [[written(value) for value in row] for row in rows]
    width = max((len(cell) for row in cells for cell in row), default=0)
    return "\n".join(" ".join(cell.rjust(width) for cell in row) for row in cells)


def animation(
    draw: Callable[[int], Drawing], frames: int, milliseconds: int = 120, hold: int = 8, dpi: int = 100
) -> bytes:
    """A GIF that runs for ever: `draw(0)` … `draw(frames - 1)` on white, the last one held `hold` times as long."""
    from PIL import Image

    pictures = []
    for number in range(frames):
        buffer = io.BytesIO()
        draw(number).savefig(buffer, format="png", dpi=dpi, facecolor="white")
        pictures.append(Image.open(buffer).convert("RGB"))
    # one palette, of the last frame, which has every colour; without dithering still parts stay still
    palette = pictures[-1].quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[milliseconds] * (frames - 1) + [milliseconds * hold],
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def told(value: Any) -> str:
    """A number, a matrix or words, as a check shows them."""
    is_matrix = hasattr(value, "ndim") or (
        isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple)
    )
    return rows_of(value) if is_matrix and getattr(value, "ndim", 2) == 2 else written(value)


def compared(what: str, printed: Any, ours: Any, why: str = "") -> Check:
    """Printed beside ours; they agree when, written down, they are the same."""
    return Check(what, told(printed), told(ours), told(printed) == told(ours), why)
