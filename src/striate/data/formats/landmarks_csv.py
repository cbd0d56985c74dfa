"""CSV files with the points of one face, body or thing a picture: `image,x0,y0,x1,y1…`, `image,nose_x,nose_y…`.

Also `file,0,1,2,3…` (coordinates in turn), in files whose names say so. An empty cell or `nan` is a point not known.
"""

from __future__ import annotations

import math
import os
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from striate.data.formats.csv_rows import IMAGE_COLUMNS, SPLIT_COLUMNS, read_records
from striate.data.sample import Dataset, Sample
from striate.data.seeds import seed_of
from striate.data.split import SPLIT_NAMES
from striate.data.targets import Points
from striate.errors import DataError, did_you_mean

PERSON_COLUMNS = ("person", "subject", "identity", "group", "video", "patient")
BESIDE = ("", "data", "images")  # folders beside the CSV where pictures may lie
_SAYS_POINTS = re.compile(r"key_?-?points?|landmarks?|_pts|points", re.IGNORECASE)
_AXIS_LAST = re.compile(r"^(?P<point>.+?)[_.\- ]?(?P<axis>[xyv])$")
_AXIS_FIRST = re.compile(r"^(?P<axis>[xyv])[_.\- ]?(?P<point>\d+)$")
_NUMBER_AT_END = re.compile(r"[_\- .]?\d+$")


class Columns(NamedTuple):
    """Where things are in a row: the picture, each point's x, y and (or None) whether it is known, split, person."""

    image: int
    points: dict[str, tuple[int, int, int | None]]
    split: int | None
    person: int | None


def recognises(source: str) -> bool:
    return _file_of(Path(source)) is not None


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Pictures lie beside the CSV, or in `data/` or `images/` there.

    Whoever is on a picture held out is on no picture of training: people are told by a column (person, subject, …),
    else by names of pictures less the number at their end (`Luis_Fonsi_21.jpg`).

    Raises:
        DataError: names the file and the line.
    """
    file = _file_of(Path(source))
    assert file is not None
    lines = read_records(file)
    line, header = next(lines, (0, []))
    columns = columns_of(header, file)
    if columns is None:
        raise DataError(f"{file}, line {line}: the columns are not image,x0,y0,x1,y1…; name them so")
    names = list(columns.points)
    samples: list[Sample] = []
    people: list[str] = []
    said: list[str] = []
    first: dict[str, int] = {}
    for line, cells in lines:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}; quote cells with commas")
        image = cells[columns.image].replace("\\", "/")
        if not image:
            raise DataError(f"{where}: no picture is named; fill the first column, or remove the line")
        if first.setdefault(os.path.normpath(image), line) != line:
            raise DataError(
                f"{where}: {image} is in line {first[os.path.normpath(image)]} already; one set of points a picture"
            )
        points = [_point(where, name, cells, at) for name, at in columns.points.items()]
        path = _picture(where, file.parent, image)
        samples.append(Sample(str(path), Points(torch.tensor(points, dtype=torch.float32)), image))
        people.append(cells[columns.person] if columns.person is not None else person_of(image))
        said.append(_split(where, cells, columns, image))
    if not samples:
        raise DataError(f"{file}: no rows below the header; write one line a picture: image,x0,y0,x1,y1…")
    splits, note = in_splits(samples, people, said, val_fraction, seed)
    known = sum(int((sample.target.values[:, 2] > 0).sum()) for sample in samples)
    notes = [f"Read as CSV of landmarks ({file.name}); task: keypoints, {len(names)} points a picture."]
    if unknown := len(samples) * len(names) - known:
        notes.append(f"{unknown:,} of {len(samples) * len(names):,} points are not known (empty cells).")
    return Dataset(source, "landmarks", "keypoints", tuple(names), splits, notes + ([note] if note else []))


def columns_of(header: Sequence[str], file: Path) -> Columns | None:
    """Where a header says that things are; None when it is not one of points."""
    lower = [name.lower() for name in header]
    image = next((lower.index(name) for name in IMAGE_COLUMNS if name in lower), None)
    if image is None:
        image = 0 if lower[:1] == [""] else None  # as pandas writes an index
    if image is None:
        return None
    split = next((lower.index(name) for name in SPLIT_COLUMNS if name in lower), None)
    person = next((lower.index(name) for name in PERSON_COLUMNS if name in lower), None)
    rest = [at for at in range(len(header)) if at not in (image, split, person)]
    if not rest:
        return None
    if [lower[at] for at in rest] == [str(number) for number in range(len(rest))]:
        # bare numbers may be grades that people gave (`image,1,2,3,4,5`), so the file's name must say what they are
        if len(rest) % 2 or not _SAYS_POINTS.search(file.stem):
            return None
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return Columns(image, {str(number): (x, y, None) for number, (x, y) in enumerate(pairs)}, split, person)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for at in rest:
        match = _AXIS_FIRST.match(lower[at]) or _AXIS_LAST.match(lower[at])
        if match is None:
            return None
        found[match["point"]][match["axis"]] = at
    if any("x" not in axes or "y" not in axes for axes in found.values()) or sum(map(len, found.values())) != len(rest):
        return None
    return Columns(
        image, {point: (axes["x"], axes["y"], axes.get("v")) for point, axes in found.items()}, split, person
    )


def person_of(image: str) -> str:
    """Who a picture shows, by its name: folder and name less the number at the end."""
    folder, name = os.path.split(image)
    stem = os.path.splitext(name)[0]
    shorter = _NUMBER_AT_END.sub("", stem)
    return f"{folder}/{shorter or stem}"


def hold_out_groups(groups: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Indices to hold out, ascending: whole groups, drawn by the seed, until they are `fraction` of all."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = sorted(members)
    random.Random(seed_of(seed, "split")).shuffle(order)
    wanted = round(len(groups) * fraction)
    held: list[int] = []
    for group in order:
        if len(held) + len(members[group]) <= wanted:
            held += members[group]
    return sorted(held)


def _file_of(path: Path) -> Path | None:
    """The CSV of points that a path is, or that lies in it: the only one, or the only one whose name says so."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return path if path.is_file() and _is_one(path) else None
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError:
        return None
    found = [name for name in sorted(names) if name.lower().endswith((".csv", ".tsv"))]
    found = [name for name in found if _SAYS_POINTS.search(Path(name).stem)] or found
    return path / found[0] if len(found) == 1 and _is_one(path / found[0]) else None


def _is_one(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8-sig") as lines:
            first = lines.readline()
    except (OSError, UnicodeDecodeError):
        return False
    header = [name.strip().strip('"') for name in first.split(max(",;\t", key=first.count))]
    return columns_of(header, file) is not None


def _point(where: str, name: str, cells: list[str], at: tuple[int, int, int | None]) -> tuple[float, float, float]:
    x, y, known = at
    values = [_number(where, name, cells[place]) for place in (x, y)]
    if known is not None and _number(where, name, cells[known]) in (None, 0.0):
        return 0.0, 0.0, 0.0
    if values[0] is None or values[1] is None:
        if values != [None, None]:
            raise DataError(f"{where}: point {name} has only one of x and y; fill both cells, or neither")
        return 0.0, 0.0, 0.0
    return values[0], values[1], 1.0


def _number(where: str, name: str, cell: str) -> float | None:
    if cell.lower() in ("", "nan", "na", "null"):
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value) or abs(value) > 1e6:
        raise DataError(f'{where}: "{cell}" of point {name} is no place in a picture; write pixels, or nothing')
    return value


def _picture(where: str, folder: Path, image: str) -> Path:
    for beside in BESIDE:
        if (path := folder / beside / image).is_file():
            return path
    places = ", ".join(str(folder / beside) for beside in BESIDE)
    raise DataError(f"{where}: no picture {image} in any of {places}; paths are relative to the CSV file")


def _split(where: str, cells: list[str], columns: Columns, image: str) -> str:
    if columns.split is None:
        return SPLIT_NAMES.get(image.partition("/")[0].lower(), "")
    cell = cells[columns.split]
    if cell.lower() not in SPLIT_NAMES:
        raise DataError(f'{where}: "{cell}" is no split; write train, val or test.{did_you_mean(cell, SPLIT_NAMES)}')
    return SPLIT_NAMES[cell.lower()]


def in_splits(
    samples: list[Sample], people: list[str], said: list[str], fraction: float, seed: int
) -> tuple[dict[str, list[Sample]], str | None]:
    """Samples by split, `val` taken from `train` where none is said, and how it was taken."""
    splits: dict[str, list[Sample]] = {}
    for name in ("train", "val", "test"):
        if rows := [sample for sample, one in zip(samples, said, strict=True) if (one or "train") == name]:
            splits[name] = rows
    train = splits.get("train", [])
    if "val" in splits or not train or fraction <= 0:
        return splits, None
    who = [person for person, one in zip(people, said, strict=True) if (one or "train") == "train"]
    held = hold_out_groups(who, fraction, seed) if len(set(who)) < len(who) else []
    by_person = bool(held)
    if not by_person:  # every picture is somebody else's, or too few people to hold one out
        held = hold_out_groups([str(index) for index in range(len(who))], fraction, seed)
    if not held:
        return splits, "Too few pictures to hold any out for validation."
    out = set(held)
    splits = {
        "train": [sample for index, sample in enumerate(train) if index not in out],
        "val": [train[index] for index in held],
        **{name: rows for name, rows in splits.items() if name != "train"},
    }
    note = f"Held out {len(held):,} of {len(train):,} training pictures as val (seed {seed}"
    if by_person:
        return (
            splits,
            f"{note}): all pictures of {len({who[i] for i in held}):,} of {len(set(who)):,} people or things.",
        )
    return splits, f"{note})."
