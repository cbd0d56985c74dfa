"""The rows of a CSV that names pictures: its header understood, its cells checked, each with its line."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from striate.data.formats.annotations import shown
from striate.data.split import SPLIT_NAMES
from striate.errors import DataError, did_you_mean

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "path", "filepath", "file_path", "image_path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "tags")
SCORE_COLUMNS = ("score", "scores", "rating", "mean_score", "mos", "grade")
SPLIT_COLUMNS = ("split", "subset", "fold")
Kind = Literal["label", "labels", "score", "votes"]  # what a CSV says of a picture
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a CSV.

    Attributes:
        labels: one, or any number where several may hold.
        split: as written, "" if not.
        votes: in place of labels, how many people gave each grade.
    """

    file: Path
    line: int
    image: str
    labels: tuple[str, ...]
    split: str
    votes: tuple[float, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.line}"

    @property
    def picture(self) -> Path:
        """Where the picture lies: relative to the CSV."""
        return self.file.parent / (self.image if os.sep == "\\" else self.image.replace("\\", "/"))


def read_rows(file: Path, split: str) -> tuple[list[Row], Kind, list[str] | None]:
    """The rows of one CSV, what its cells are, and the classes or grades if its columns name them."""
    lines = read_records(file)
    line, header = next(lines, (0, []))
    if not header:
        raise DataError(f"{file}: is empty; write a header image,label and one line a picture")
    image_at, label_at, split_at, flags_at = _columns(file, line, header)
    names = [header[at] for at in flags_at]
    rows: list[Row] = []
    kind: Kind = "label"
    if flags_at:
        kind = "votes" if all(_is_number(name) for name in names) else "labels"
    elif header[label_at].lower() in SCORE_COLUMNS:
        kind = "score"
    for line, cells in lines:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}; quote cells with commas")
        if not cells[image_at]:
            raise DataError(f"{where}: no picture is named; fill the column {header[image_at]}, or remove the line")
        labels: tuple[str, ...] = ()
        votes: tuple[float, ...] = ()
        if kind == "votes":
            votes = _votes(where, names, [cells[at] for at in flags_at])
        elif flags_at:
            labels = tuple(header[at] for at in flags_at if _flag(where, header[at], cells[at]))
        elif kind == "score":
            labels = (_score(where, header[label_at], cells[label_at]),)
        else:
            labels = tuple(dict.fromkeys(part.strip() for part in cells[label_at].split(";") if part.strip()))
            if ";" in cells[label_at]:
                kind = "labels"
        named = split if split_at is None else split_name(where, cells[split_at])
        rows.append(Row(file, line, cells[image_at], labels, named, votes))
    return rows, kind, names or None


def names_pictures(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8-sig") as lines:
            header = lines.readline()
    except (OSError, UnicodeDecodeError):
        return False
    columns = {name.strip().strip('"').lower() for name in header.split(delimiter(header))}
    return not columns.isdisjoint(IMAGE_COLUMNS) and not columns.isdisjoint((*LABEL_COLUMNS, *SCORE_COLUMNS))


def delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def read_records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line it starts in, cells) of every record that is not empty; the header is the first."""
    text = _text(file)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter(text.partition("\n")[0]), strict=True)
    line = 0
    try:
        for cells in reader:
            start, line = line + 1, reader.line_num
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield start, cells
    except csv.Error as error:
        raise DataError(f"{file}, line {line + 1}: {error}; check the quotes") from None


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}, line {line}: is not UTF-8; save the file as UTF-8") from None


def _columns(file: Path, line: int, header: list[str]) -> tuple[int, int, int | None, list[int]]:
    """Where the image, the label and the split are; or, in place of a label, the columns of 0 and 1."""
    names = [name.lower() for name in header]
    where = f"{file}, line {line}"
    for name, count in Counter(header).items():
        if count > 1 or not name:
            raise DataError(f'{where}: {count} columns are called "{shown(name)}"; give each its own name')

    def find(known: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    image_at, split_at = find(IMAGE_COLUMNS), find(SPLIT_COLUMNS)
    label_at = find(LABEL_COLUMNS)
    if label_at is None:
        label_at = find(SCORE_COLUMNS)
    if image_at is None:
        near = next((hint for name in names if (hint := did_you_mean(name, IMAGE_COLUMNS))), "")
        raise DataError(
            f"{where}: no column names the pictures; the columns are {shown(', '.join(header))}; "
            f"call one of them image.{near}"
        )
    if label_at is not None:
        return image_at, label_at, split_at, []
    flags_at = [at for at in range(len(header)) if at not in (image_at, split_at)]
    if len(flags_at) < 2:
        raise DataError(
            f"{where}: no column is called label, and there are no columns of 0 and 1 for several labels; "
            f"the columns are {shown(', '.join(header))}"
        )
    return image_at, -1, split_at, flags_at


def _flag(where: str, column: str, cell: str) -> bool:
    if cell.lower() not in _FLAGS:
        raise DataError(
            f'{where}: "{shown(cell)}" in column {shown(column)}; without a column called label, all others hold 0 or 1'
        )
    return _FLAGS[cell.lower()]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _score(where: str, column: str, cell: str) -> str:
    if not _is_number(cell):
        raise DataError(
            f'{where}: "{shown(cell)}" in column {shown(column)} is no number; write one, or remove the line'
        )
    return cell


def _votes(where: str, names: list[str], cells: list[str]) -> tuple[float, ...]:
    for name, cell in zip(names, cells, strict=True):
        if not _is_number(cell) or float(cell) < 0:
            raise DataError(
                f'{where}: "{shown(cell)}" in column {shown(name)}: how many gave this grade? Write a number from 0 on'
            )
    votes = tuple(float(cell) for cell in cells)
    if not any(votes):
        raise DataError(f"{where}: nobody voted; remove the line")
    return votes


def split_name(where: str, cell: str) -> str:
    if cell.lower() not in SPLIT_NAMES:
        raise DataError(
            f'{where}: "{shown(cell)}" is no split; write train, val or test.{did_you_mean(cell, SPLIT_NAMES)}'
        )
    return SPLIT_NAMES[cell.lower()]
