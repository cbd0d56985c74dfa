"""CSV files that name pictures and their labels: `image,label`, `a;b` or 0/1 columns for several labels."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.data.sample import Dataset, Sample
from striate.data.split import SPLIT_NAMES, hold_out
from striate.errors import DataError, did_you_mean

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "path", "filepath", "file_path", "image_path", "img")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target", "category", "tags")
SPLIT_COLUMNS = ("split", "subset", "fold")
_SUFFIXES = (".csv", ".tsv")
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a CSV. labels: one, or any number where several may hold; split: as written, "" if not."""

    file: Path
    line: int
    image: str
    labels: tuple[str, ...]
    split: str

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.line}"


def recognises(source: str) -> bool:
    path = Path(source)
    return (path.suffix.lower() in _SUFFIXES and path.is_file()) or bool(_files_in(path))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Paths are relative to the CSV. In a folder, `train.csv`, `val.csv` and `test.csv` are splits.

    Raises:
        DataError: names the file and the line.
    """
    path = Path(source)
    files = {"": path} if path.is_file() else _files_in(path)
    rows: list[Row] = []
    classes: list[str] | None = None
    multi_label = False
    for split, file in files.items():
        of_file, names, several = _read_rows(file, split)
        rows += of_file
        multi_label = multi_label or several
        if names is not None and classes is not None and set(names) != set(classes):
            odd = sorted(set(names) ^ set(classes))[0]
            raise DataError(f'{file}, line 1: label column "{odd}" is not in every CSV; give them the same columns')
        classes = classes or names
    if not rows:
        raise DataError(f"{source}: no rows below the header; write one line a picture: image,label")
    if not multi_label:
        _check_labelled(rows)
    rows, notes = _without_repeats(rows)
    _check_pictures(rows)
    if classes is None:
        classes = sorted({label for row in rows for label in row.labels}, key=_label_order(rows))
        _check_known(rows)
    number = {name: index for index, name in enumerate(classes)}
    splits: dict[str, list[Sample]] = {}
    for row in sorted(rows, key=lambda row: ("train", "val", "test").index(row.split or "train")):
        target = tuple(sorted(number[label] for label in row.labels)) if multi_label else number[row.labels[0]]
        sample = Sample(str(_picture(row)), target, row.image)
        splits.setdefault(row.split or "train", []).append(sample)
    if len(classes) < 2:
        raise DataError(f'{source}: only one class ("{classes[0]}"); labels of at least two are needed')
    splits, note = hold_out(splits, val_fraction, seed)
    kind = "several labels a picture" if multi_label else "one label a picture"
    listed = ", ".join(file.name for file in files.values())
    notes = [f"Read as CSV ({listed}), {kind}; task: classify, {len(classes)} classes.", *notes]
    return Dataset(source, "csv", "classify", tuple(classes), multi_label, splits, notes + ([note] if note else []))


def _files_in(folder: Path) -> dict[str, Path]:
    """Split → CSV in a folder, "" for the one that is not a split; nothing where it is not clear which is meant."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError:
        return {}
    found = sorted(name for name in names if os.path.splitext(name)[1].lower() in _SUFFIXES)
    if "labels.csv" in found:
        return {"": folder / "labels.csv"}
    splits = {SPLIT_NAMES[stem]: folder / name for name in found if (stem := name[:-4].lower()) in SPLIT_NAMES}
    if "train" in splits:
        return {split: splits[split] for split in ("train", "val", "test") if split in splits}
    # any other single CSV may be somebody's notes beside class folders: its header decides
    return {"": folder / found[0]} if len(found) == 1 and _names_pictures(folder / found[0]) else {}


def _names_pictures(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8-sig") as lines:
            header = lines.readline()
    except (OSError, UnicodeDecodeError):
        return False
    columns = {name.strip().strip('"').lower() for name in header.split(_delimiter(header))}
    return not columns.isdisjoint(IMAGE_COLUMNS) and not columns.isdisjoint(LABEL_COLUMNS)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _read_rows(file: Path, split: str) -> tuple[list[Row], list[str] | None, bool]:
    """The rows of one CSV, the classes if its columns name them, and whether there may be several labels."""
    records = _records(file)
    line, header = next(records, (0, []))
    if not header:
        raise DataError(f"{file}: is empty; write a header image,label and one line a picture")
    image_at, label_at, split_at, flags_at = _columns(file, line, header)
    rows: list[Row] = []
    several = bool(flags_at)
    for line, cells in records:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}; quote cells with commas")
        if not cells[image_at]:
            raise DataError(f"{where}: no picture is named; fill the column {header[image_at]}, or remove the line")
        if flags_at:
            labels = tuple(header[at] for at in flags_at if _flag(where, header[at], cells[at]))
        else:
            labels = tuple(dict.fromkeys(part.strip() for part in cells[label_at].split(";") if part.strip()))
            several = several or ";" in cells[label_at]
        named = split if split_at is None else _split_name(where, cells[split_at])
        rows.append(Row(file, line, cells[image_at], labels, named))
    return rows, [header[at] for at in flags_at] or None, several


def _records(file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line it starts in, cells) of every record that is not empty; the header is the first."""
    text = _text(file)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]), strict=True)
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
            raise DataError(f'{where}: {count} columns are called "{name}"; give each its own name')

    def find(known: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    image_at, label_at, split_at = find(IMAGE_COLUMNS), find(LABEL_COLUMNS), find(SPLIT_COLUMNS)
    if image_at is None:
        near = next((hint for name in names if (hint := did_you_mean(name, IMAGE_COLUMNS))), "")
        raise DataError(
            f"{where}: no column names the pictures; the columns are {', '.join(header)}; call one of them image.{near}"
        )
    if label_at is not None:
        return image_at, label_at, split_at, []
    flags_at = [at for at in range(len(header)) if at not in (image_at, split_at)]
    if len(flags_at) < 2:
        raise DataError(
            f"{where}: no column is called label, and there are no columns of 0 and 1 for several labels; "
            f"the columns are {', '.join(header)}"
        )
    return image_at, -1, split_at, flags_at


def _flag(where: str, column: str, cell: str) -> bool:
    if cell.lower() not in _FLAGS:
        raise DataError(f'{where}: "{cell}" in column {column}; without a column called label, all others hold 0 or 1')
    return _FLAGS[cell.lower()]


def _split_name(where: str, cell: str) -> str:
    if cell.lower() not in SPLIT_NAMES:
        raise DataError(f'{where}: "{cell}" is no split; write train, val or test.{did_you_mean(cell, SPLIT_NAMES)}')
    return SPLIT_NAMES[cell.lower()]


def _without_repeats(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Each picture once. The same again is dropped and told; another label or split for it is an error."""
    first: dict[str, Row] = {}
    for row in rows:
        key = os.path.normpath(_picture(row))
        known = first.setdefault(key, row)
        if set(known.labels) != set(row.labels):
            raise DataError(
                f"{row.place}: {row.image} has other labels than in line {known.line}; "
                "write several labels of one picture as a;b"
            )
        if known.split != row.split:
            raise DataError(f"{row.place}: {row.image} is in {row.split}, in line {known.line} in {known.split}")
    dropped = len(rows) - len(first)
    notes = [f"{dropped:,} lines repeat a picture with the same label and were left out."] if dropped else []
    return list(first.values()), notes


def _picture(row: Row) -> Path:
    return row.file.parent / (row.image if os.sep == "\\" else row.image.replace("\\", "/"))


def _check_labelled(rows: list[Row]) -> None:
    for row in rows:
        if not row.labels:
            raise DataError(f"{row.place}: no label; fill the cell, or remove the line")


def _check_pictures(rows: list[Row]) -> None:
    missing = [row for row in rows if not _picture(row).is_file()]
    if missing:
        more = f" (and {len(missing) - 1:,} lines more)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0].place}: no picture {_picture(missing[0])}{more}; paths are relative to the CSV file"
        )


def _label_order(rows: list[Row]) -> Callable[[str], Any]:
    """Labels that are all whole numbers are sorted as numbers."""
    numbers = all(label.lstrip("-").isdecimal() for row in rows for label in row.labels)
    return (lambda label: (int(label), label)) if numbers else (lambda label: label)


def _check_known(rows: list[Row]) -> None:
    """Every label of val and test is in train, where there is a train."""
    train = {label for row in rows if row.split in ("", "train") for label in row.labels}
    for row in rows:
        for label in row.labels:
            if train and label not in train:
                raise DataError(
                    f'{row.place}: label "{label}" is in {row.split} but not in train.{did_you_mean(label, train)}'
                )
