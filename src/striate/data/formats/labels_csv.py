"""CSV files that name pictures and their labels: `image,label`, `a;b` or 0/1 columns for several labels.

`image,score` gives each picture a number; columns whose names are numbers (`image,1,2,3,4,5`) hold how many people
gave that grade.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from striate.data.formats.annotations import shown
from striate.data.formats.csv_rows import Kind, Row, names_pictures, read_rows
from striate.data.sample import Dataset, Sample
from striate.data.scores import grades_of, name_of, votes_for
from striate.data.split import SPLIT_NAMES, hold_out
from striate.data.targets import Votes
from striate.errors import DataError, did_you_mean

_SUFFIXES = (".csv", ".tsv")


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
    names: list[str] | None = None
    kinds: set[Kind] = set()
    for split, file in files.items():
        of_file, kind, columns = read_rows(file, split)
        rows += of_file
        kinds.add(kind)
        if columns is not None and names is not None and set(columns) != set(names):
            odd = sorted(set(columns) ^ set(names))[0]
            raise DataError(
                f'{file}, line 1: label column "{shown(odd)}" is not in every CSV; give them the same columns'
            )
        names = names or columns
    if not rows:
        raise DataError(f"{source}: no rows below the header; write one line a picture: image,label")
    kind = _one_kind(source, kinds)
    if kind in ("label", "score"):
        _check_labelled(rows)
    rows, notes = _without_repeats(rows)
    _check_pictures(rows)
    classes, targets = TARGETS[kind](rows, names)
    splits: dict[str, list[Sample]] = {}
    for split in ("train", "val", "test"):
        for row, target in zip(rows, targets, strict=True):
            if (row.split or "train") == split:
                splits.setdefault(split, []).append(Sample(str(row.picture), target, row.image))
    if len(classes) < 2:
        raise DataError(f'{source}: only one class ("{shown(classes[0])}"); labels of at least two are needed')
    splits, note = hold_out(splits, val_fraction, seed)
    task = "classify" if kind in ("label", "labels") else "score"
    things = f"{len(classes)} classes" if task == "classify" else f"grades from {classes[0]} to {classes[-1]}"
    listed = ", ".join(file.name for file in files.values())
    notes = [f"Read as CSV ({listed}), {TOLD[kind]}; task: {task}, {things}.", *notes]
    arguments = {"multi_label": True} if kind == "labels" else {}
    return Dataset(source, "csv", task, tuple(classes), splits, notes + ([note] if note else []), arguments)


def _one_kind(source: str, kinds: set[Kind]) -> Kind:
    """What the cells of all files are; one file with `a;b` makes it several labels in all."""
    if kinds <= {"label", "labels"}:
        return "labels" if "labels" in kinds else "label"
    if len(kinds) > 1:
        raise DataError(f"{source}: its CSVs hold {' and '.join(sorted(kinds))}; give them the same columns")
    return next(iter(kinds))


def _label_targets(rows: list[Row], names: list[str] | None) -> tuple[list[str], list[Any]]:
    classes, number = _numbered(rows, names)
    return classes, [number[row.labels[0]] for row in rows]


def _labels_targets(rows: list[Row], names: list[str] | None) -> tuple[list[str], list[Any]]:
    classes, number = _numbered(rows, names)
    return classes, [tuple(sorted(number[label] for label in row.labels)) for row in rows]


def _numbered(rows: list[Row], names: list[str] | None) -> tuple[list[str], dict[str, int]]:
    if names is None:
        names = sorted({label for row in rows for label in row.labels}, key=_label_order(rows))
        _check_known(rows)
    return names, {name: index for index, name in enumerate(names)}


def _score_targets(rows: list[Row], names: list[str] | None) -> tuple[list[str], list[Any]]:
    scores = [float(row.labels[0]) for row in rows]
    grades = grades_of(scores)
    return [name_of(grade) for grade in grades], [votes_for(score, grades) for score in scores]


def _votes_targets(rows: list[Row], names: list[str] | None) -> tuple[list[str], list[Any]]:
    assert names is not None
    order = sorted(range(len(names)), key=lambda at: float(names[at]))
    return [names[at] for at in order], [Votes(tuple(row.votes[at] for at in order)) for row in rows]


TARGETS: dict[Kind, Callable[[list[Row], list[str] | None], tuple[list[str], list[Any]]]] = {
    "label": _label_targets,
    "labels": _labels_targets,
    "score": _score_targets,
    "votes": _votes_targets,
}
TOLD: dict[Kind, str] = {
    "label": "one label a picture",
    "labels": "several labels a picture",
    "score": "a score a picture",
    "votes": "votes on each picture",
}


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
    return {"": folder / found[0]} if len(found) == 1 and names_pictures(folder / found[0]) else {}


def _without_repeats(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Each picture once. The same again is dropped and told; another label or split for it is an error."""
    first: dict[str, Row] = {}
    for row in rows:
        key = os.path.normpath(row.picture)
        known = first.setdefault(key, row)
        if set(known.labels) != set(row.labels) or known.votes != row.votes:
            raise DataError(
                f"{row.place}: {shown(row.image)} has other labels than in line {known.line}; "
                "write several labels of one picture as a;b"
            )
        if known.split != row.split:
            raise DataError(f"{row.place}: {shown(row.image)} is in {row.split}, in line {known.line} in {known.split}")
    dropped = len(rows) - len(first)
    notes = [f"{dropped:,} lines repeat a picture with the same label and were left out."] if dropped else []
    return list(first.values()), notes


def _check_labelled(rows: list[Row]) -> None:
    for row in rows:
        if not row.labels:
            raise DataError(f"{row.place}: no label; fill the cell, or remove the line")


def _check_pictures(rows: list[Row]) -> None:
    missing = [row for row in rows if not row.picture.is_file()]
    if missing:
        more = f" (and {len(missing) - 1:,} lines more)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0].place}: no picture {shown(str(missing[0].picture))}{more}; paths are relative to the CSV file"
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
                    f'{row.place}: label "{shown(label)}" is in {row.split} but not in train.'
                    f"{did_you_mean(label, train)}"
                )
