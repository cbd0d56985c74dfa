"""Words under pictures: the caption bar of a drawn result, legible on digits of 8 pixels and photos of 4,000."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

LEAST_WIDTH = 256  # pixels; below this no caption can be read
GROUND, TRACK, INK, DIM = (24, 24, 27), (63, 63, 70), (250, 250, 250), (161, 161, 170)
FILL = {None: (96, 165, 250), "right": (74, 222, 128), "wrong": (248, 113, 113)}


def captioned(
    picture: Image.Image, scores: Sequence[tuple[str, float]], held: Literal["right", "wrong"] | None = None
) -> Image.Image:
    """An RGB picture over one row a score: label, bar, percent; the first row is emphasised.

    Small pictures are enlarged by a whole factor without smoothing, so that their pixels stay what they are;
    large ones keep every pixel and get larger letters.
    """
    factor = max(1, LEAST_WIDTH // max(picture.size))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width = max(LEAST_WIDTH, picture.width)
    # very wide pictures: letters no higher than a sixth of the picture, lest the bar outgrow it
    size = max(14, min(width // 24, picture.height // 6))
    row, pad = round(size * 1.5), size // 2
    sheet = Image.new("RGB", (width, picture.height + row * len(scores) + pad), GROUND)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    pen, font = ImageDraw.Draw(sheet), caption_font(size)
    # columns: label to 50 %, bar to what the percentage leaves
    bar_left, bar_right = width // 2, width - pad * 2 - round(font.getlength("100.0 %"))
    for rank, (label, score) in enumerate(scores):
        middle = picture.height + pad // 2 + row * rank + row // 2
        ink = INK if rank == 0 else DIM
        pen.text((pad, middle), shortened(label, font, bar_left - 2 * pad), ink, font, anchor="lm")
        pen.text((width - pad, middle), f"{100 * score:.1f} %", ink, font, anchor="rm")
        top, bottom = middle - size // 5, middle + size // 5
        pen.rectangle((bar_left, top, bar_right, bottom), TRACK)
        filled = round((bar_right - bar_left) * min(max(score, 0.0), 1.0))
        if filled:
            pen.rectangle((bar_left, top, bar_left + filled, bottom), FILL[held] if rank == 0 else DIM)
    return sheet


def with_histogram(
    picture: Image.Image, grades: Sequence[float], shares: Sequence[float], mean: float, spread: float
) -> Image.Image:
    """An RGB picture over the histogram of its grades: a bar a grade, the mean as a line, the spread as a band."""
    factor = max(1, LEAST_WIDTH // max(picture.size))
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width = max(LEAST_WIDTH, picture.width)
    size = max(14, min(width // 24, picture.height // 6))
    pad, bars = size // 2, size * 4
    sheet = Image.new("RGB", (width, picture.height + bars + 4 * size), GROUND)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    pen, font = ImageDraw.Draw(sheet), caption_font(size)
    pen.text((pad, picture.height + size), f"{mean:.2f} ± {spread:.2f}", INK, font, anchor="lm")
    top, floor = picture.height + 2 * size, picture.height + 2 * size + bars
    column = (width - 2 * pad) / len(grades)
    step = grades[1] - grades[0]

    def across(grade: float) -> float:
        return pad + column * ((grade - grades[0]) / step + 0.5)

    pen.rectangle((max(pad, across(mean - spread)), top, min(width - pad, across(mean + spread)), floor), TRACK)
    highest = max(*shares, 1e-9)
    small = caption_font(max(9, round(size * 0.7)))
    for grade, share in zip(grades, shares, strict=True):
        left, right = across(grade) - 0.4 * column, across(grade) + 0.4 * column
        pen.rectangle((left, floor - round(bars * share / highest), right, floor), FILL[None])
        if len(grades) <= 12:
            pen.text((across(grade), floor + size), f"{grade:g}", DIM, small, anchor="mm")
    pen.line((across(mean), top - size // 3, across(mean), floor), INK, max(2, size // 8))
    return sheet


@lru_cache(maxsize=16)
def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows Latin, Greek, Cyrillic and Arabic letters; matplotlib brings it."""
    package = find_spec("matplotlib")  # found, not imported: that would cost a tenth of a second
    assert package is not None
    assert package.origin is not None
    return ImageFont.truetype(str(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Text that fits, its end replaced by an ellipsis where it must be; on one line, with spaces for control codes."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
