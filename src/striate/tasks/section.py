"""What a task hands the report to show: plain data, so that the report knows no task's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from striate.errors import StriateError

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

    from striate.data.sample import Sample

Row = Sequence[str | int | float | None]
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
    rows: Sequence[Row]
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


def numbers_section(full: dict[str, Any], names: Mapping[str, str], text: str, more: Sequence[Row] = ()) -> Section:
    """The table of scalars of `Metrics.full()`, under their names, with what each says.

    Args:
        names: of scalars, as people call them.
        text: above the table.
        more: rows below: name, value, interval, meaning.
    """
    rows: list[Row] = []
    for name, one in full["scalars"].items():
        between = f"{one['low']:.4f} to {one['high']:.4f}" if "low" in one else "–"
        rows.append([names.get(name, name), one["value"], between, one.get("meaning", "")])
    return Section(
        "The numbers", text, tables=[Table(["measure", "value", "95 % interval", "what it says"], [*rows, *more])]
    )


def picture_card(
    sample: Sample, read: Callable[[Sample], Tensor | bytes], caption: str, tone: Literal["good", "bad", "neutral"]
) -> PictureCard:
    """A sample's picture with what is said of it; where it cannot be read, without."""
    try:
        picture = read(sample)
    except StriateError:
        picture, caption = None, f"{caption}\n(the picture could not be read)"
    return PictureCard(picture, f"{caption}\n{sample.name}", tone)


def refuse_other_count(evaluated: int, samples: Sequence[Any], what: str = "outputs") -> None:
    """Samples and what was evaluated must be the same pictures.

    Raises:
        StriateError: they differ in number.
    """
    if evaluated != len(samples):
        raise StriateError(f"{evaluated} {what} were judged but {len(samples)} samples given: one each is needed")
