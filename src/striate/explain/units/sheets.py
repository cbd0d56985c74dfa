"""Sheets of small pictures for a page, light or dark: what is between the pictures is transparent."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from striate.drawing import caption_font
from striate.layers.receptive_fields import Place

TILE, GAP, LETTER = 128, 6, 12  # pixels
WIDTH = 1080  # of a sheet that fills a page, in pixels
INK = "#7d8590"  # is read on white and on black
NOTHING = 128  # the grey outside a picture, and of 0 in a projection


def crop_of(picture: Tensor, place: Place | None, row: int, column: int, beyond: int = NOTHING) -> Tensor:
    """The pixels that value (row, column) of a map sees.

    Args:
        picture: [C, H, W], as the network saw it.
        place: where the map's values look; None: everywhere.
        beyond: what is put outside the picture.

    Returns:
        [C, h, w], each side the field's or, where that is larger than the picture, the picture's.
    """
    if place is None:
        return picture
    sides = []
    for axis, at in enumerate((row, column)):
        field, side = place.field[axis], picture.shape[axis + 1]
        start = place.first[axis] + at * place.jump[axis]
        sides.append((start, start + field) if field < side else (0, side))
    (top, bottom), (left, right) = sides
    height, width = picture.shape[1:]
    over = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
    inside = picture[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    return F.pad(inside, over, value=beyond)


def as_tile(picture: Tensor, side: int = TILE) -> Image.Image:
    """uint8 [1 or 3, h, w] as an RGB picture whose longer side is `side`; small ones show their pixels."""
    pixels = picture.expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
    image = Image.fromarray(pixels)
    longer = max(image.size)
    size = (max(1, round(image.width * side / longer)), max(1, round(image.height * side / longer)))
    whole = side % longer == 0 or longer <= side // 3
    return image.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def grid(tiles: Sequence[Image.Image], captions: Sequence[str] = (), columns: int = 3, side: int = TILE) -> Image.Image:
    """Tiles in rows, RGBA; a caption under each where there are captions.

    Args:
        tiles: RGB, none larger than `side`.
        captions: as many, or none; what is too long loses its beginning, for names of files differ at their ends.
    """
    font = caption_font(LETTER)
    high = max((tile.height for tile in tiles), default=side)
    step_x, step_y = side + GAP, high + GAP + (LETTER + 6 if captions else 0)
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGBA", (columns * step_x - GAP, rows * step_y - GAP))
    pen = ImageDraw.Draw(sheet)
    for at, tile in enumerate(tiles):
        x, y = at % columns * step_x, at // columns * step_y
        sheet.paste(tile, (x + (side - tile.width) // 2, y + (high - tile.height) // 2))
        if captions:
            pen.text((x + side / 2, y + high + 3), cut(captions[at], font, side), INK, font, anchor="ma")
    return sheet


def sheet(pictures: Sequence[Tensor], labels: Sequence[str], side: int | None = None) -> bytes:
    """WebP of pictures uint8 [1 or 3, h, w] with a label each, as many in a row as fill a page.

    Args:
        side: longer side of each in pixels, at least; by default as large as lets few fill the width, 40 to 84. Small
            pictures grow by a whole factor without smoothing.
    """
    longest = max(max(picture.shape[-2:]) for picture in pictures)
    if side is None:
        side = max(40, min(84, round((WIDTH * 420 / len(pictures)) ** 0.5)))
    if longest <= side:
        side = longest * -(-side // longest)
    columns = max(1, min(len(pictures), (WIDTH + GAP) // (side + GAP)))
    return webp(grid([as_tile(one, side) for one in pictures], labels, columns, side), lossless=longest <= side)


def cut(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """What fits under a tile: of the words after the first, the end."""
    first, _, rest = text.partition(" ")
    room = width - font.getlength(f"{first} ")
    if font.getlength(rest) <= room:
        return text
    while rest and font.getlength("…" + rest) > room:
        rest = rest[1:]
    return f"{first} …{rest}"


def number(value: float) -> str:
    """Three digits, and no powers of ten for what people can read without."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def beside(sheets: Sequence[Image.Image], gap: int = 4 * GAP) -> Image.Image:
    """Sheets of one height, from left to right."""
    width = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
    whole = Image.new("RGBA", (width, max(sheet.height for sheet in sheets)))
    left = 0
    for sheet in sheets:
        whole.paste(sheet, (left, 0))
        left += sheet.width + gap
    return whole


def webp(sheet: Image.Image, lossless: bool = False) -> bytes:
    """The sheet as the content of a WebP file."""
    content = io.BytesIO()
    sheet.save(content, "WEBP", lossless=lossless, quality=88, method=4)
    return content.getvalue()


def as_grey(values: Tensor) -> Tensor:
    """Signed values [C, h, w] as uint8, 0 in the middle: scaled so that all but the outermost 1 % have room."""
    most = torch.quantile(values.abs().flatten().float(), 0.99).clamp(min=1e-12)
    return (NOTHING + 127 * (values / most).clamp(-1, 1)).round().to(torch.uint8)
