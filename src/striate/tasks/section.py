"""What a task hands the report to show: plain data, so that the report knows no task's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

# Colours that read on white paper and on a dark page; a report turns matplotlib's black ink into the page's own.
BLUE, ORANGE, GREEN, RED, VIOLET, GREY = "#3b82f6", "#f08c2e", "#2ea36c", "#e5484d", "#8b6cf0", "#8a919e"


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing. Draw in matplotlib's defaults: black is shown in the page's text colour, backgrounds are left out.

    Attributes:
        content: a matplotlib Figure (of `matplotlib.figure`, not pyplot), or the bytes of a PNG, JPEG or SVG.
        caption: one sentence below it.
        alt: what it shows, for those who cannot see it.
        wide: True takes the page's whole width, False leaves room for a neighbour.
    """

    content: Drawing | bytes
    caption: str = ""
    alt: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text and numbers; a float is shown with up to four digits, None as a dash; a click on a head sorts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class PictureCard:
    """One picture and what is said of it.

    Attributes:
        picture: uint8 [3, H, W] or [1, H, W] (made a thumbnail), bytes of a PNG or JPEG (kept as they are), or None
            where it could not be read.
        caption: the lines below it, the first one is set bold.
        tone: the colour of its edge.
    """

    picture: Tensor | bytes | None
    caption: str
    tone: Literal["good", "bad", "neutral"] = "neutral"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report: text (paragraphs apart by an empty line), then figures, tables and pictures."""

    title: str
    text: str = ""
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[PictureCard] = field(default_factory=list)
