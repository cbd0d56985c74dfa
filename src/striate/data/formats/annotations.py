"""What the readers of boxes share: rows as a file says them become `Objects`, and what is wrong is told.

Coordinates of every format are taken to be in the picture as `read_image` gives it, turned as its EXIF says: that is
what annotation tools show.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch

from striate.data.picture_sizes import picture_sizes
from striate.data.sample import Dataset, Sample
from striate.data.split import hold_out
from striate.data.targets import Objects
from striate.errors import DataError

ROUNDING = 1.0  # pixels by which a box may leave its picture without a word: rounded, or counted from the other end
LARGEST = 2.0**24  # px; no picture is larger, and every whole number up to it is a float32
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(slots=True)
class Picture:
    """One picture that a file names: `size` is (height, width) where the file says it."""

    path: str
    name: str
    split: str
    size: tuple[int, int] | None = None


@dataclass
class Annotations:
    """All objects of a set, one row each, as the files say them.

    Attributes:
        owners: int64 [N], whose picture a row is.
        boxes: float64 [N, 4], x1 y1 x2 y2, outer edges in pixels; finite, else as wrong as they may be.
        areas: float64 [N], negative where the file does not say.
        masks: as in `Objects`, None where there is none.
        keypoints: float64 [N, K, 3].
        left_out: what was skipped and why → how often.
    """

    pictures: list[Picture]
    owners: Any
    boxes: Any
    labels: Any
    kinds: Any = None
    areas: Any = None
    masks: Sequence[Any] | None = None
    keypoints: Any = None
    left_out: Counter[str] = field(default_factory=Counter)


def to_dataset(
    source: str, format: str, told: str, classes: Sequence[str], found: Annotations, val_fraction: float, seed: int
) -> Dataset:
    """The set without missing pictures and impossible boxes; how many of each is in its notes.

    A box that leaves its picture is cut at the edge; one without extent, or wholly outside, is dropped. The size that
    the file says decides, but where a box leaves it the picture's own header does.

    Raises:
        DataError: no picture is there, or no object of any is on its picture.
    """
    there = np.array([os.path.isfile(picture.path) for picture in found.pictures], dtype=bool)
    if not there.any():
        first = f"; the first looked for is {shown(found.pictures[0].path)}" if found.pictures else ""
        raise DataError(f"{source}: none of its {len(there):,} pictures is there{first}. Check where they lie")
    count = len(found.pictures)
    owners = np.asarray(found.owners, dtype=np.int64).reshape(-1)
    boxes = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4)
    left_out = found.left_out + Counter({"Pictures that are not there, left out": int((~there).sum())})
    boxes, keep = _on_pictures(boxes, owners, _edges(found, there, boxes, owners), there, left_out)
    if len(owners) and there[owners].any() and not keep.any():
        raise DataError(f"{source}: none of its {len(owners):,} boxes has extent and is on its picture; are they px?")
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(owners[rows], kind="stable")]
    targets = _objects(found, rows, boxes)
    starts = np.searchsorted(owners[rows], np.arange(count + 1))
    splits: dict[str, list[Sample]] = {}
    for split in ("train", "val", "test"):
        for index, picture in enumerate(found.pictures):
            if picture.split == split and there[index]:
                objects = targets(int(starts[index]), int(starts[index + 1]))
                splits.setdefault(split, []).append(Sample(picture.path, objects, picture.name))
    notes = [f"Read as {told}; task: detect, {number(len(classes), 'class', 'classes')}, {len(rows):,} objects."]
    notes += [f"{what}: {often:,}." for what, often in left_out.items() if often]
    notes += _unseen(classes, splits)
    splits, note = hold_out(splits, val_fraction, seed)
    return Dataset(source, format, "detect", tuple(classes), splits, notes + ([note] if note else []))


def _edges(found: Annotations, there: np.ndarray, boxes: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """float64 [P, 2]: width and height of each picture; LARGEST where nothing is known."""
    said = [picture.size or (0, 0) for picture in found.pictures]
    edges = np.array(said, dtype=np.float64).reshape(-1, 2)[:, ::-1].copy()
    leaves = (boxes < 0).any(1) | (boxes[:, 2:] > edges[owners]).any(1)
    doubtful = np.zeros(len(edges), dtype=bool)
    doubtful[owners[leaves]] = True
    asked = np.flatnonzero(doubtful & there)
    for index, size in zip(asked, picture_sizes([found.pictures[index].path for index in asked]), strict=True):
        if size is not None:
            edges[index] = size[::-1]
    return np.where(edges > 0, edges, LARGEST)


def _on_pictures(
    boxes: np.ndarray, owners: np.ndarray, edges: np.ndarray, there: np.ndarray, left_out: Counter[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut at the edges of their pictures [N, 4], and which of them are kept [N]."""
    has = there[owners]
    limit = np.tile(edges[owners], (1, 2))  # [N, 4]
    cut = np.clip(boxes, 0, limit).astype(np.float32)
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = (cut[:, 2:] <= cut[:, :2]).any(1) & ~empty
    keep = has & ~empty & ~outside
    over = keep & ((boxes < -ROUNDING) | (boxes > limit + ROUNDING)).any(1)
    left_out["Boxes without extent, left out"] += int((has & empty).sum())
    left_out["Boxes outside their picture, left out"] += int((has & outside).sum())
    left_out["Boxes over the edge of their picture, cut there"] += int(over.sum())
    return cut, keep


def _objects(found: Annotations, rows: np.ndarray, boxes: np.ndarray) -> Callable[[int, int], Objects]:
    """What gives the objects of rows[start:end]. Tensors are copies: a view would drag the whole set into pickles."""
    boxes = boxes[rows]
    extent = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    areas = extent if found.areas is None else np.asarray(found.areas, dtype=np.float64)[rows]
    areas = np.where(areas >= 0, np.minimum(areas, LARGEST**2), extent)
    labels = np.asarray(found.labels, dtype=np.int64)[rows]
    kinds = np.zeros(len(rows), np.int64) if found.kinds is None else np.asarray(found.kinds, dtype=np.int64)[rows]
    columns = [torch.from_numpy(values) for values in (boxes, labels, kinds, areas.astype(np.float32))]
    masks = None
    if found.masks is not None and any(mask is not None for mask in found.masks):
        masks = [found.masks[row] for row in rows]
    points = None
    if found.keypoints is not None and found.keypoints.shape[1]:
        clipped = np.clip(found.keypoints[rows], -LARGEST, LARGEST)
        points = torch.from_numpy(clipped.astype(np.float32))

    def of(start: int, end: int) -> Objects:
        part = [column[start:end].clone() for column in columns]
        return Objects(
            *part,
            masks=None if masks is None else tuple(masks[start:end]),
            keypoints=None if points is None else points[start:end].clone(),
        )

    return of


def _unseen(classes: Sequence[str], splits: dict[str, list[Sample]]) -> list[str]:
    """A note on classes that val or test have and train has not."""
    seen = {
        split: set(torch.cat([sample.target.labels for sample in samples]).unique().tolist())
        for split, samples in splits.items()
    }
    notes = []
    for split in ("val", "test"):
        strange = sorted(seen.get(split, set()) - seen["train"]) if "train" in seen else []
        if strange:
            listed = ", ".join(str(classes[label]) for label in strange[:5]) + ", …" * (len(strange) > 5)
            notes.append(f"Classes of {split} without a box in train: {listed}.")
    return notes


def number(count: int, one: str, many: str) -> str:
    """`1 class`, `2,000 classes`."""
    return f"{count:,} {one if count == 1 else many}"


def shown(value: Any) -> str:
    """Anything from a file as a short piece of one line that any terminal takes."""
    text = value if isinstance(value, str) else _json(value)
    text = _NOT_PRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text[:200])
    return text if len(text) <= 120 else text[:119] + "…"


def _json(value: Any) -> str:
    if isinstance(value, dict) or (
        isinstance(value, list) and (len(value) > 8 or any(isinstance(inner, list | dict) for inner in value))
    ):  # what aliases of YAML nest may be far larger than its file
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # also whole numbers of more than 4,300 digits
        return f"a value of type {type(value).__name__}"


def class_name(value: Any, where: str) -> str:
    """A class's name with single blanks.

    Raises:
        DataError: it is empty or cannot be printed.
    """
    name = " ".join(value.split()) if isinstance(value, str) else ""
    if not name or _NOT_PRINTED.search(name):
        raise DataError(f"{where}: {shown(value)} is no name for a class; write one with letters")
    return name


def numbers(rows: Sequence[Any], width: int, where: Callable[[int], str]) -> np.ndarray:
    """float64 [N, width] from lists of numbers, checked; quick where all is well.

    Args:
        rows: each should be a list of `width` finite numbers.
        where: how a message calls row i, as `boxes.json, annotations[3]: bbox`.

    Raises:
        DataError: names the first row that is not.
    """
    if all_numbers(rows) and set(map(len, rows)) <= {width}:
        return np.array(rows, dtype=np.float64).reshape(-1, width)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            raise DataError(f"{where(index)} is {shown(row)}; a list of {width} numbers is needed")
        for value in row:
            if not is_number(value):
                raise DataError(f"{where(index)} holds {shown(value)}; finite numbers are needed")
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def all_numbers(rows: Sequence[Any]) -> bool:
    """True where every row is a list of finite numbers."""
    try:
        return (
            set(map(type, rows)) <= {list}
            and set(map(type, chain.from_iterable(rows))) <= {int, float}
            and math.isfinite(sum(map(abs, chain.from_iterable(rows)), 0.0))
        )
    except OverflowError:  # a whole number beyond any float
        return False


def is_number(value: Any) -> bool:
    """True of a finite int or float; a flag is none."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
