"""What is drawn on and under pictures: captions, boxes, points; legible on digits of 8 pixels and photos of 4,000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from torch import Tensor

LEAST_WIDTH = 256  # pixels; below this no caption can be read
GROUND, TRACK, INK, DIM = (24, 24, 27), (63, 63, 70), (250, 250, 250), (161, 161, 170)
BOXED_SIDE = 480  # pixels; pictures with boxes are enlarged to at most this, so that plates do not cover them
UNSURE = 0.2  # points below are drawn hollow
# of classes, in turn: the first eight are those of Okabe and Ito (2008), told apart by the colour-blind too
COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((255, 255, 255), (132, 204, 22), (168, 85, 247), (239, 68, 68), (20, 220, 220), (161, 98, 7), (251, 146, 210)),
)
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


def draw_boxes(
    picture: Image.Image,
    boxes: Tensor,
    labels: Sequence[str],
    scores: Sequence[float] | Tensor | None,
    groups: Sequence[int],
    *,
    side: int = BOXED_SIDE,
) -> Image.Image:
    """An RGB copy of the picture with a box around each object and a plate that names it; the first ones on top.

    Lines run outside their boxes, so that small objects stay seen, with a dark rim, so that they show on any ground.
    Plates stand above, below or in their box, wherever no plate of an earlier box is; lines and letters grow with
    the picture.

    Args:
        picture: a small one is enlarged by a whole factor without smoothing.
        boxes: float [N, 4], x1 y1 x2 y2 in its pixels; what is outside it or not finite is not drawn.
        labels: N names; an empty one without a score has no plate.
        scores: N, in 0..1, said after the name.
        groups: N numbers, of a class say; each has its colour, of which there are 14.
        side: pictures are enlarged to at most this.
    """
    factor = max(1, side // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    picture = picture.convert("RGB").resize(size, Image.Resampling.NEAREST)
    pen, width = ImageDraw.Draw(picture), max(2, round(max(size) / 300))
    # as in captions, no letter higher than a sixth of the picture
    font = caption_font(max(12, min(max(size) // 50, min(size) // 6)))
    edges = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * factor
    left, top = np.minimum(edges[:, :2], edges[:, 2:]).T
    right, bottom = np.maximum(edges[:, :2], edges[:, 2:]).T
    seen = np.isfinite(edges).all(1) & (right >= 0) & (bottom >= 0) & (left <= size[0]) & (top <= size[1])
    shown = np.flatnonzero(seen).tolist()
    # the outermost pixels of each line, inside the picture: a box around all of it is seen too
    outer = {
        row: (
            min(max(0, round(left[row]) - width), size[0] - 1),
            min(max(0, round(top[row]) - width), size[1] - 1),
            max(0, min(size[0], round(right[row]) + width) - 1),
            max(0, min(size[1], round(bottom[row]) + width) - 1),
        )
        for row in shown
    }
    for row in reversed(shown):
        x1, y1, x2, y2 = outer[row]
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=GROUND, width=width + 2)
        pen.rectangle(outer[row], outline=COLOURS[groups[row] % len(COLOURS)], width=width)
    taken = np.empty((0, 4))
    plates: list[tuple[str, tuple[int, int, int, int], tuple[int, int, int]]] = []
    for row in shown:
        score = "" if scores is None else f"{float(scores[row]):.2f}"
        most = size[0] - font.getlength(f"  {score}")
        text = f"{shortened(labels[row], font, most)} {score}".strip()
        if text:
            plate = _free_place(outer[row], (round(font.getlength(text + " ")), round(font.size * 1.3)), size, taken)
            taken = np.vstack((taken, plate))
            plates.append((text, plate, COLOURS[groups[row] % len(COLOURS)]))
    for text, plate, colour in reversed(plates):
        pen.rectangle((plate[0], plate[1], plate[2] - 1, plate[3] - 1), colour)
        # ITU-R BT.601's luma: dark letters on what is light
        ink = GROUND if np.dot(colour, (0.299, 0.587, 0.114)) > 110 else INK
        pen.text(((plate[0] + plate[2]) / 2, (plate[1] + plate[3]) / 2), text, ink, font, anchor="mm")
    return picture


def _free_place(
    box: tuple[int, int, int, int], plate: tuple[int, int], size: tuple[int, int], taken: np.ndarray
) -> tuple[int, int, int, int]:
    """Where a plate of (width, height) stands: the first place at its box that none of `taken`, [M, 4], has."""
    (x1, y1, x2, y2), (wide, high) = box, plate
    corners = ((x1, y1 - high), (x1, y1), (x1, y2 + 1), (x2 + 1 - wide, y1 - high), (x2 + 1 - wide, y2 + 1))
    corners += ((x1, y2 + 1 - high), (x2 + 1 - wide, y2 + 1 - high))
    places: list[tuple[int, int, int, int]] = []
    for left, top in corners:
        left, top = max(0, min(left, size[0] - wide)), max(0, min(top, size[1] - high))
        places.append((left, top, left + wide, top + high))
        meets = (taken[:, :2] < places[-1][2:]).all(1) & (taken[:, 2:] > places[-1][:2]).all(1)
        if not meets.any():
            return places[-1]
    return places[0]


def draw_map(picture: Image.Image, values: Tensor, ignore: int, opacity: float = 0.55) -> Image.Image:
    """An RGB copy of the picture under a map of classes, [H, W] of any size, each class in its colour."""
    palette = np.array([COLOURS[label % len(COLOURS)] for label in range(256)], dtype=np.uint8)
    indices = Image.fromarray(values.cpu().numpy().astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)
    labels = np.asarray(indices)
    mixed = (1 - opacity) * np.asarray(picture.convert("RGB"), dtype=np.float32) + opacity * palette[labels]
    shown = np.where((labels == ignore)[..., None], np.asarray(picture.convert("RGB")), mixed.round())
    return Image.fromarray(shown.astype(np.uint8))


def draw_points(
    picture: Image.Image,
    points: Tensor,
    lines: Sequence[tuple[int, int]],
    ink: str,
    shown: Tensor | None = None,
) -> Image.Image:
    """A copy of the picture with points [K, 3] (x, y, how sure) on it, and the lines between them.

    Small pictures are enlarged by a whole factor without smoothing, so that points do not cover them.

    Args:
        shown: bool [K]; all when not given.
    """
    factor = max(1, 200 // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    rows = [(x * factor, y * factor, sure) for x, y, sure in points.tolist()]
    there = [True] * len(rows) if shown is None else shown.tolist()
    there = [
        is_shown and math.isfinite(x) and math.isfinite(y) for is_shown, (x, y, _) in zip(there, rows, strict=True)
    ]
    finite = [(x, y) for (x, y, _), is_there in zip(rows, there, strict=True) if is_there]
    # by the distance that the points span, not by the picture: a face may be a small part of it
    span = max((max(axis) - min(axis) for axis in zip(*finite, strict=True)), default=0.0) if finite else 0.0
    radius = max(1.5, (span or max(picture.size)) / 100)
    for one, other in lines:
        if there[one] and there[other]:
            pen.line((*rows[one][:2], *rows[other][:2]), ink, max(1, round(radius / 2)))
    for (x, y, sure), is_there in zip(rows, there, strict=True):
        if is_there:
            circle = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(circle, ink if sure >= UNSURE else None, ink)
    return picture


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
