"""Many pictures on one: a sheet with captions, boxes and points, drawn with Pillow alone."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from striate.data.sample import Dataset, Sample
from striate.data.targets import Target, class_ids
from striate.drawing import caption_font, shortened
from striate.errors import ImageError
from striate.images import read_image

PAPER, INK, FAINT, RULE = "#ffffff", "#1f2328", "#6a737d", "#e4e7eb"
MARGIN, GAP = 24, 10
TITLE, LABEL, CAPTION = 22, 16, 12  # sizes of letters in pixels
MOST_LABEL, MOST_TITLE = 220, 1600  # pixels; a longer name of a group, or line of the title, is cut
MOST_ROWS = 24
TILE, MARKED_TILE = 128, 240  # pixels; of pictures alone, and of those with boxes or points, which need more room


def contact_sheet(
    pictures: Sequence[Tensor],
    captions: Sequence[str],
    columns: int = 8,
    title: str = "",
    *,
    groups: Sequence[str] | None = None,
    tile: int = TILE,
) -> Image.Image:
    """Lay pictures out in rows.

    Args:
        pictures: uint8 [1 or 3, H, W] each, of any sizes; small ones are enlarged by whole factors, so that one sees
            their pixels.
        captions: one line under each picture, cut to the tile; all empty: no room is kept for them.
        columns: pictures a row.
        title: at the top; a second line of it, after a newline, is set smaller.
        groups: the group of each picture; every group begins a row of its own and is named at the left.
        tile: side of the square each picture is fitted into.

    Returns:
        An RGB picture.
    """
    assert len(pictures) == len(captions)
    rows = _rows(list(groups) if groups is not None else [""] * len(pictures), columns)
    widest = max((len(row) for _, row in rows), default=1)
    labels = [_cut(name, LABEL, MOST_LABEL) for name, _ in rows]
    label_width = 0 if groups is None else max((_width(label, LABEL) for label in labels), default=0) + 2 * GAP
    caption_height = CAPTION + 8 if any(captions) else 0
    title_lines = [
        _cut(line, _title_size(at), MOST_TITLE) for at, line in enumerate(title.split("\n") if title else [])
    ]
    title_height = (TITLE + LABEL * (len(title_lines) - 1) + 2 * GAP) if title_lines else 0

    grid_width = widest * (tile + GAP) - GAP
    title_width = max((_width(line, _title_size(at)) for at, line in enumerate(title_lines)), default=0)
    width = 2 * MARGIN + max(label_width + grid_width, title_width)
    height = 2 * MARGIN + title_height + len(rows) * (tile + caption_height + GAP) - GAP * bool(rows)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)

    y = MARGIN
    for at, line in enumerate(title_lines):
        draw.text((MARGIN, y), line, fill=FAINT if at else INK, font=caption_font(_title_size(at)))
        y += LABEL + 4 if at else TITLE + 6
    y = MARGIN + title_height
    before = ""
    for label, (name, row) in zip(labels, rows, strict=True):
        if name and name != before:
            draw.text((MARGIN, y + tile / 2), label, fill=INK, font=caption_font(LABEL), anchor="lm")
        before = name
        x = MARGIN + label_width
        for index in row:
            picture = _fitted(pictures[index], tile)
            corner = (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2)
            draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill="#f6f8fa", outline=RULE)
            sheet.paste(picture, corner)
            if captions[index]:
                text = _cut(captions[index], CAPTION, tile)
                draw.text((x + tile / 2, y + tile + 3), text, fill=FAINT, font=caption_font(CAPTION), anchor="ma")
            x += tile + GAP
        y += tile + caption_height + GAP
    return sheet


def dataset_sheet(dataset: Dataset, columns: int = 10, seed: int = 0) -> Image.Image:
    """A row a class: pictures drawn at random from the training split, or from the first there is.

    At most 24 classes are shown; pictures that cannot be read are passed over. A picture of several objects, with
    their boxes on it, may stand in the row of any class it has; half as many stand in a row, for they are larger.
    """
    split = "train" if "train" in dataset.splits else next(iter(dataset.splits))
    samples = dataset.splits[split]
    by_class: dict[int | None, list[Sample]] = defaultdict(list)
    for sample in samples:
        spatial = sample.target is not None and sample.target.spatial
        labels = sorted(set(class_ids(sample.target))) if spatial else class_ids(sample.target)[:1]
        for label in labels or (None,):
            by_class[label].append(sample)
    placed = any(sample.target is not None and sample.target.spatial for sample in samples)
    tile = MARKED_TILE if placed else TILE
    draw = random.Random(seed)
    pictures: list[Tensor] = []
    groups: list[str] = []
    for label in sorted(by_class, key=lambda label: -1 if label is None else label)[:MOST_ROWS]:
        name = _no_class(by_class[label][0]) if label is None else dataset.classes[label]
        members = by_class[label]
        for picture, sample in readable(draw.sample(members, len(members)), columns // 2 if placed else columns):
            pictures.append(marked(picture, sample.target, dataset.classes, tile))
            groups.append(f"{name} ({len(members):,})")
    shown = f", {MOST_ROWS} of them shown" if len(by_class) > MOST_ROWS else ""
    count = len(dataset.classes)
    classes = f"{count:,} class{'es' * (count != 1)}{shown}"
    if set(by_class) == {None} and any(s.target is not None and s.target.stratum() is None for s in samples):
        classes = f"{count:,} point{'s' * (count != 1)}"
    title = f"{dataset.source}\n{split}: {len(samples):,} pictures, {classes}"
    return contact_sheet(pictures, [""] * len(pictures), columns, title, groups=groups, tile=tile)


def marked(picture: Tensor, target: Target | None, classes: Sequence[str], tile: int = MARKED_TILE) -> Tensor:
    """The picture with what its target says of places on it, fitted into a square; others stay as they are.

    Args:
        picture: uint8 [1 or 3, H, W].
        target: in pixels of the picture.
        classes: K names.
        tile: side of the square, at least 200.

    Returns:
        uint8 [3, h, w], neither side above `tile`, or the picture itself where there is nothing to mark.
    """
    if target is None or not target.spatial:
        return picture
    image = _fitted(picture, tile)
    scale = (image.width / picture.shape[-1], image.height / picture.shape[-2])
    drawn = target.load((picture.shape[-2], picture.shape[-1])).draw(image, scale, classes)
    return torch.from_numpy(np.array(drawn)).permute(2, 0, 1)


def readable(samples: Sequence[Sample], count: int) -> list[tuple[Tensor, Sample]]:
    """The first `count` samples that can be read, with their pictures, uint8 [C, H, W]."""
    found: list[tuple[Tensor, Sample]] = []
    for sample in samples:
        if len(found) == count:
            break
        try:
            image = sample.image if isinstance(sample.image, Tensor) else read_image(sample.image)
        except ImageError:
            continue
        found.append((image, sample))
    return found


def png_bytes(sheet: Image.Image) -> bytes:
    """The sheet as the content of a PNG file."""
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _no_class(sample: Sample) -> str:
    if sample.target is None:
        return "unlabelled"
    return "all" if sample.target.stratum() is None else "no label"


def _rows(groups: list[str], columns: int) -> list[tuple[str, list[int]]]:
    """(group, indices of its pictures), at most `columns` a row; a change of group begins a row."""
    rows: list[tuple[str, list[int]]] = []
    for index, name in enumerate(groups):
        if not rows or rows[-1][0] != name or len(rows[-1][1]) == columns:
            rows.append((name, []))
        rows[-1][1].append(index)
    return rows


def _fitted(picture: Tensor, tile: int) -> Image.Image:
    pixels = picture.permute(1, 2, 0).contiguous().cpu().numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    longer = max(image.size)
    if longer <= tile:  # whole factors, so that every pixel stays a square
        factor = max(1, tile // longer)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    size = (max(1, round(image.width * tile / longer)), max(1, round(image.height * tile / longer)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _title_size(line: int) -> int:
    return LABEL if line else TITLE


def _cut(text: str, size: int, most: float) -> str:
    return shortened(text, caption_font(size), most)


def _width(text: str, size: int) -> int:
    return int(caption_font(size).getlength(text)) + 1
