"""COCO JSON: `annotations/instances_train2017.json` beside picture folders, Roboflow's folders, or one file.

What is found, in this order: `annotations/` with a file a split; `train/_annotations.coco.json` (any JSON in a split's
folder); JSON files in the folder itself. Pictures are looked for in `train2017/`, `images/train2017/`, `train/`,
`images/train/`, `images/`, and beside the file. Ids need not be consecutive: classes are in the order of their ids.
"""

from __future__ import annotations

import gc
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from striate.data.formats.annotations import Annotations, Picture, to_dataset
from striate.data.formats.coco_file import CocoFile, read_coco_file
from striate.data.sample import Dataset
from striate.data.split import SPLIT_NAMES
from striate.errors import DataError

SNIFFED = 64 * 1024  # bytes of a file that tell whether it is COCO's
LOOKED_FOR = 50  # pictures that decide which folder they are in
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_KINDS = ("instances", "person_keypoints", "")  # of several files for one split the first of these
_OTHERS = re.compile(r"captions|panoptic|stuff|image_info|results")  # files beside them that hold no objects


def recognises(source: str) -> bool:
    path = Path(source)
    if path.suffix.lower() == ".json":
        return path.is_file()
    return path.is_dir() and bool(_files_in(path))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """A file whose name says no split is `train`.

    Raises:
        DataError: names the file and the first wrong entry; or two files are one split; or no picture is there.
    """
    path = Path(source)
    files = {_split_of(path) or "train": path} if path.is_file() else _files_in(path)
    root = path if path.is_dir() else _root(path)
    left_out: Counter[str] = Counter()
    with _without_collector():
        parts = {split: read_coco_file(file, left_out) for split, file in files.items()}
    classes = _classes(parts, left_out)
    number = {name: index for index, name in enumerate(classes)}
    pictures: list[Picture] = []
    owners, labels, masks = [], [], []
    for split, part in parts.items():
        owners.append(part.owners + len(pictures))
        folder, whole = _picture_folder(root, part)
        inside = os.path.relpath(folder, root)
        for name, size in part.images:
            name = name if whole else os.path.basename(name)
            told = name if inside == "." else os.path.join(inside, name)
            pictures.append(Picture(os.path.join(folder, name), told, split, size))
        labels += [number[part.categories[label]] for label in part.labels]
        masks += part.masks
    found = Annotations(
        pictures,
        np.concatenate(owners),
        np.concatenate([part.boxes for part in parts.values()]),
        labels,
        np.concatenate([part.kinds for part in parts.values()]),
        np.concatenate([part.areas for part in parts.values()]),
        masks,
        _stacked([points for part in parts.values() for points in part.keypoints]),
        left_out,
    )
    told = f"COCO JSON ({', '.join(file.name for file in dict.fromkeys(files.values()))})"
    return to_dataset(source, "coco", told, classes, found, val_fraction, seed)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of lists are made and none is garbage: looking for it would take a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _files_in(root: Path) -> dict[str, Path]:
    """Split → file in a folder."""
    inside = _json_files(root / "annotations")
    if inside:
        return _by_split(root, inside)
    splits = {SPLIT_NAMES[name.lower()]: root / name for name in _names(root) if name.lower() in SPLIT_NAMES}
    found = {split: files for split in ("train", "val", "test") if (files := _json_files(splits.get(split)))}
    for split, files in found.items():
        if len(files) > 1:
            raise DataError(f"{splits[split]}: both {files[0].name} and {files[1].name} could be {split}; keep one")
    if found:
        return {split: files[0] for split, files in found.items()}
    return _by_split(root, _json_files(root))


def _by_split(root: Path, files: list[Path]) -> dict[str, Path]:
    """Of each split the one file; one file alone may be named as it likes."""
    for kind in _KINDS:
        chosen = [file for file in files if file.name.startswith(kind)]
        if not chosen:
            continue
        if len(chosen) == 1:
            return {_split_of(chosen[0]) or "train": chosen[0]}
        found: dict[str, Path] = {}
        for file in chosen:
            split = _split_of(file)
            if split is None:
                raise DataError(f"{file}: is it train, val or test? Say it in its name, or name the one file you mean")
            if split in found:
                raise DataError(f"{root}: both {found[split].name} and {file.name} could be {split}; name one of them")
            found[split] = file
        return {split: found[split] for split in ("train", "val", "test") if split in found}
    return {}


def _split_of(file: Path) -> str | None:
    """`instances_val2017.json` → val."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLIT_NAMES[word] for word in reversed(words) if word in SPLIT_NAMES), None)


def _json_files(folder: Path | None) -> list[Path]:
    """JSON files in a folder that begin as COCO's annotations do."""
    if folder is None:
        return []
    names = [name for name in _names(folder) if name.lower().endswith(".json") and not name.startswith(".")]
    return [folder / name for name in names if not _OTHERS.match(name) and _is_coco(folder / name)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_coco(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with open(file, "rb") as opened:
            return _KEYS.search(opened.read(SNIFFED)) is not None
    except OSError:
        return False


def _root(file: Path) -> Path:
    return file.parent.parent if file.parent.name.lower() == "annotations" else file.parent


def _classes(parts: dict[str, CocoFile], left_out: Counter[str]) -> list[str]:
    """Names in the order of the first file's ids, then what only later files have."""
    first: dict[object, tuple[str, CocoFile]] = {}
    used = {part.categories[label] for part in parts.values() for label in set(part.labels)}
    idle = {part.categories[key] for part in parts.values() for key in part.idle} - used
    classes: dict[str, None] = {}
    for part in parts.values():
        for key, name in part.categories.items():
            known, where = first.setdefault(key, (name, part))
            if known != name:
                raise DataError(
                    f'{part.file}: category {key} is "{name}", in {where.file.name} it is "{known}"; '
                    "give all files the same categories"
                )
            classes.setdefault(name)
    left_out["Categories that only group others, left out"] += len(idle)
    return [name for name in classes if name not in idle]


def _picture_folder(root: Path, part: CocoFile) -> tuple[Path, bool]:
    """The folder in which most of the first pictures are; False where only the last part of their names counts."""
    stem = re.sub(r"^(instances|person_keypoints)_", "", part.file.stem)
    split = _split_of(part.file)
    near = [stem, f"images/{stem}"] + ([split, f"images/{split}"] if split else []) + ["images", "."]
    folders = list(dict.fromkeys([part.file.parent / "images", part.file.parent, *(root / name for name in near)]))
    if part.file.parent.name.lower() == "annotations":
        folders = folders[2:] + folders[:2]
    names = [name for name, _ in islice(part.images, LOOKED_FOR)]

    def hits(choice: tuple[Path, bool]) -> int:
        folder, whole = choice
        return sum(os.path.isfile(folder / (name if whole else os.path.basename(name))) for name in names)

    choices = [(folder, whole) for whole in (True, False) for folder in folders]
    return max(choices, key=hits)  # the first of equals


def _stacked(points: list[np.ndarray | None]) -> np.ndarray | None:
    """float64 [N, K, 3] with K as many as any has; what an object has not is 0."""
    most = max((len(values) for values in points if values is not None), default=0)
    if most == 0:
        return None
    found = np.zeros((len(points), most, 3))
    for row, values in zip(found, points, strict=True):
        if values is not None:
            row[: len(values)] = values
    return found
