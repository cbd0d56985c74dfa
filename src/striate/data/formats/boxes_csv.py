"""CSV of boxes, a row an object: `image,x1,y1,x2,y2,label`, also with xmin … or x,y,width,height, and keras-retinanet's
rows without a header.

Coordinates are outer edges in pixels from 0, so a box is x2 - x1 wide. A row with a picture alone is an empty picture.
`split` parts the pictures, `kind` (plain, crowd, difficult) the objects; with corners, `width` and `height` are the
picture's. A `classes.csv` beside it (`name,number`, as keras-retinanet has it) gives the classes' order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from striate.data.formats.annotations import LARGEST, Annotations, Picture, class_name, shown, to_dataset
from striate.data.formats.csv_rows import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    delimiter,
    read_records,
    split_name,
)
from striate.data.sample import Dataset
from striate.data.split import SPLIT_NAMES
from striate.data.targets import CROWD, DIFFICULT, PLAIN
from striate.errors import DataError
from striate.images import PICTURE_SUFFIXES

CLASSES = "classes.csv"
KINDS = {"": PLAIN, "plain": PLAIN, "crowd": CROWD, "difficult": DIFFICULT}
_SUFFIXES = (".csv", ".tsv")
_CORNERS = (
    ("x1", "xmin", "x_min", "left"),
    ("y1", "ymin", "y_min", "top"),
    ("x2", "xmax", "x_max", "right"),
    ("y2", "ymax", "y_max", "bottom"),
)
_SIDES = (
    ("x", "bbox_x", "left", "xmin", "x_min", "x1"),
    ("y", "bbox_y", "top", "ymin", "y_min", "y1"),
    ("w", "width", "bbox_w", "bbox_width"),
    ("h", "height", "bbox_h", "bbox_height"),
)
_LABELS = ("name", *LABEL_COLUMNS)
_IMAGES = (*IMAGE_COLUMNS, "image_name", "image_id")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a CSV has what; None where it has it not."""

    image: int
    box: tuple[int, int, int, int]
    corners: bool
    label: int | None
    split: int | None = None
    kind: int | None = None
    size: tuple[int, int] | None = None  # height, width


def recognises(source: str) -> bool:
    path = Path(source)
    if path.suffix.lower() in _SUFFIXES:
        return path.is_file() and _has_boxes(path)
    return path.is_dir() and bool(_files_in(path))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Paths are relative to the CSV. In a folder, `train.csv` and `val.csv` are splits, or a CSV in `train/`, `val/`.

    Raises:
        DataError: names the file and the line.
    """
    path = Path(source)
    files = {"train": path} if path.is_file() else _files_in(path)
    root = path if path.is_dir() else path.parent
    pictures: dict[tuple[Path, str], int] = {}
    listed: list[Picture] = []
    places: list[str] = []
    owners: list[int] = []
    boxes: list[list[float]] = []
    names: list[str] = []
    kinds: list[int] = []
    for file_split, file in files.items():
        for where, cells, columns in _rows(file):
            image = cells[columns.image]
            split = file_split
            if columns.split is not None:
                split = split_name(where, cells[columns.split]) or file_split
            index = pictures.setdefault((file.parent, image), len(listed))
            if index == len(listed):
                inside = image if os.sep == "\\" else image.replace("\\", "/")
                place = os.path.normpath(file.parent / inside) if "\0" not in inside else inside
                size = _size(cells, columns)
                listed.append(Picture(place, os.path.join(os.path.relpath(file.parent, root), inside), split, size))
                listed[-1].name = os.path.normpath(listed[-1].name) if "\0" not in inside else inside
                places.append(where)
            elif listed[index].split != split:
                raise DataError(f"{where}: {shown(image)} is in {split}, in {places[index]} in {listed[index].split}")
            if not any(cells[at] for at in columns.box):
                if columns.label is not None and cells[columns.label]:
                    raise DataError(f"{where}: a label without a box; write all four numbers, or no label")
                continue
            boxes.append(_box(where, cells, columns))
            names.append("object" if columns.label is None else class_name(cells[columns.label], f"{where}: label"))
            kinds.append(_kind(where, cells, columns))
            owners.append(index)
    if not names:
        raise DataError(f"{source}: no boxes; write a row an object: image,x1,y1,x2,y2,label")
    classes = _classes(next(iter(files.values())).parent / CLASSES, names)
    number = {name: index for index, name in enumerate(classes)}
    told = f"CSV of boxes ({', '.join(os.path.relpath(file, root) for file in files.values())})"
    found = Annotations(listed, owners, boxes, [number[name] for name in names], kinds, left_out=Counter())
    return to_dataset(source, "boxes-csv", told, classes, found, val_fraction, seed)


def _rows(file: Path) -> Iterator[tuple[str, list[str], Columns]]:
    """Where a row is, its cells and what they are."""
    rows = read_records(file)
    line, header = next(rows, (0, []))
    columns = _columns(header)
    wide = len(header)
    if columns is None:
        if not _headless(header):
            raise DataError(f"{file}, line 1: no columns of boxes; write image,x1,y1,x2,y2,label")
        columns = Columns(0, (1, 2, 3, 4), True, 5)
        yield _checked(f"{file}, line {line}", header, wide, columns)
    for line, cells in rows:
        yield _checked(f"{file}, line {line}", cells, wide, columns)


def _checked(where: str, cells: list[str], wide: int, columns: Columns) -> tuple[str, list[str], Columns]:
    if len(cells) != wide:
        raise DataError(f"{where}: {len(cells)} cells, the first line has {wide}; quote cells with commas")
    if not cells[columns.image]:
        raise DataError(f"{where}: no picture is named; fill the first cell, or remove the line")
    return where, cells, columns


def _columns(header: list[str]) -> Columns | None:
    """What the columns are; None where they hold no boxes."""
    names = [name.lower().replace(" ", "_") for name in header]

    def find(known: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    image = find(_IMAGES)
    if image is None:
        return None
    for corners, wanted in ((True, _CORNERS), (False, _SIDES)):
        at = [found for known in wanted if (found := find(known)) is not None]
        if len(set(at)) == 4:
            height, width = find(("height", "image_height")), find(("width", "image_width"))
            size = (height, width) if corners and height is not None and width is not None else None
            box = (at[0], at[1], at[2], at[3])
            return Columns(image, box, corners, find(_LABELS), find(SPLIT_COLUMNS), find(("kind",)), size)
    return None


def _headless(cells: list[str]) -> bool:
    """keras-retinanet: `path,x1,y1,x2,y2,class`, or `path,,,,,` for an empty picture."""
    if len(cells) != 6 or os.path.splitext(cells[0])[1].lower() not in PICTURE_SUFFIXES:
        return False
    return not any(cells[1:]) or all(_is_number(cell) for cell in cells[1:5])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _box(where: str, cells: list[str], columns: Columns) -> list[float]:
    values = []
    for at in columns.box:
        value = float(cells[at]) if _is_number(cells[at]) else float("nan")
        if not -LARGEST <= value <= LARGEST:
            raise DataError(
                f"{where}: {shown(cells[at]) or 'an empty cell'} is no place in a picture; write a number of pixels"
            )
        values.append(value)
    if not columns.corners:
        values[2:] = values[0] + values[2], values[1] + values[3]
    return values


def _kind(where: str, cells: list[str], columns: Columns) -> int:
    text = cells[columns.kind].lower() if columns.kind is not None else ""
    if text not in KINDS:
        raise DataError(f"{where}: {shown(text)} is no kind of object; write plain, crowd or difficult")
    return KINDS[text]


def _size(cells: list[str], columns: Columns) -> tuple[int, int] | None:
    if columns.size is None:
        return None
    height, width = (float(cells[at]) if _is_number(cells[at]) else 0.0 for at in columns.size)
    return (int(height), int(width)) if 1 <= height < LARGEST and 1 <= width < LARGEST else None


def _classes(file: Path, names: list[str]) -> list[str]:
    """In the order of classes.csv where there is one; sorted, whole numbers as numbers."""
    seen = set(names)
    known: dict[int, str] = {}
    if file.is_file():
        for line, cells in read_records(file):
            if len(cells) != 2 or not cells[1].isdecimal() or len(cells[1]) > 9:
                raise DataError(f"{file}, line {line}: a class and its number from 0 on are needed: name,0")
            if int(cells[1]) in known or cells[0] in known.values():
                raise DataError(f"{file}, line {line}: {shown(cells[0])},{cells[1]} stands there already")
            known[int(cells[1])] = class_name(cells[0], f"{file}, line {line}")
    numeric = all(name.isdecimal() and len(name) < 10 for name in seen)
    rest = sorted(seen - set(known.values()), key=(lambda name: (int(name), name)) if numeric else None)
    return [*(known[number] for number in sorted(known)), *rest]


def _has_boxes(file: Path) -> bool:
    """True where its first line is a header with a picture and a box, or a row of both."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            first = lines.readline(100_000)
    except (OSError, UnicodeDecodeError):
        return False
    cells = [cell.strip().strip('"') for cell in first.split(delimiter(first))]
    return _columns(cells) is not None or _headless(cells)


def _files_in(root: Path) -> dict[str, Path]:
    """Split → CSV with boxes."""
    found = _csv_files(root)
    splits = {SPLIT_NAMES[file.stem.lower()]: file for file in found if file.stem.lower() in SPLIT_NAMES}
    if "train" in splits:
        return {split: splits[split] for split in ("train", "val", "test") if split in splits}
    if found:
        return {"train": found[0]} if len(found) == 1 else {}
    inside = {SPLIT_NAMES[name.lower()]: root / name for name in _names(root) if name.lower() in SPLIT_NAMES}
    each = {split: _csv_files(inside[split]) for split in ("train", "val", "test") if split in inside}
    return {split: files[0] for split, files in each.items() if len(files) == 1}


def _csv_files(folder: Path) -> list[Path]:
    names = [name for name in _names(folder) if name.lower().endswith(_SUFFIXES) and not name.startswith(".")]
    return [
        folder / name for name in names if name != CLASSES and (folder / name).is_file() and _has_boxes(folder / name)
    ]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
