"""A sheet of small pictures with a line below each, on a clear ground so that it stands on pale and dark pages."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from striate.drawing import caption_font
from striate.results import as_pillow

WIDTH = 1080  # pixels
GAP, LETTERS = 6, 12
INK = (128, 135, 148, 255)  # reads on white and on black


def sheet(pictures: Sequence[Tensor], labels: Sequence[str], side: int | None = None) -> bytes:
    """WebP of pictures uint8 [1 or 3, h, w], row after row, in the order given.

    Args:
        side: longer side of each in pixels, at least; by default as large as lets few fill the width, 40 to 84. Small
            pictures grow by a whole factor without smoothing.
    """
    longest = max(max(picture.shape[-2:]) for picture in pictures)
    if side is None:
        side = max(40, min(84, round((WIDTH * 420 / max(1, len(pictures))) ** 0.5)))
    factor = -(-side // longest) if longest <= side else side / longest
    wide = max(round(picture.shape[-1] * factor) for picture in pictures)
    high = max(round(picture.shape[-2] * factor) for picture in pictures)
    columns = max(1, min(len(pictures), (WIDTH + GAP) // (wide + GAP)))
    rows = -(-len(pictures) // columns)
    pitch = high + LETTERS + 2 * GAP
    page = Image.new("RGBA", (columns * (wide + GAP) - GAP, rows * pitch - GAP), (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(page), caption_font(LETTERS)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * (wide + GAP), index // columns * pitch
        drawn = as_pillow(picture)
        way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
        size = (max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor)))
        page.paste(drawn.resize(size, way), (left + (wide - size[0]) // 2, top + (high - size[1]) // 2))
        pen.text((left + wide / 2, top + high + GAP), label, INK, font, anchor="mt")
    buffer = io.BytesIO()
    page.save(buffer, "WEBP", lossless=longest <= side, quality=88)
    return buffer.getvalue()
