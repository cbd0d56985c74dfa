"""Folders of pictures: one folder a class, in train/ and val/ or not split yet (torchvision's ImageFolder)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from striate.data.formats import idx
from striate.data.sample import Dataset, Sample
from striate.data.split import SPLIT_NAMES, hold_out
from striate.errors import DataError, did_you_mean
from striate.images import PICTURE_SUFFIXES


def recognises(source: str) -> bool:
    path = Path(source)
    return path.is_dir() and bool(_folders(path))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Classes in the order of their names; pictures below a class folder are found however deep.

    Raises:
        DataError: no class folders, no pictures, fewer than two classes, or a class that `train` does not know.
    """
    root = Path(source)
    found = _split_folders(root)
    ignored: Counter[str] = Counter()
    notes: list[str] = []
    if found:
        trees = {split: _scan_split(root, folder, ignored) for split, folder in found.items()}
        layout = f"class folders in {', '.join(folder.name + '/' for folder in found.values())}"
        others = [name for name in _folders(root) if root / name not in found.values()]
        notes += [f"{name}/ is not a split: left out." for name in others]
    else:
        trees = {"train": _scan_split(root, root, ignored)}
        layout = "one folder a class"
    for split in [split for split in trees if not trees[split]]:  # a flat test/ of unlabelled pictures, as on Kaggle
        if split == "train":
            raise DataError(f"{found.get(split, root)}: has no class folders; make one folder a class in it")
        notes.append(f"{found[split].name}/ has no class folders, so no labels: left out.")
        del trees[split]
    classes = _classes(root, trees, found, notes)
    number = {name: index for index, name in enumerate(classes)}
    splits = {
        split: [Sample(str(root / name), number[label], name) for label in tree for name in tree[label]]
        for split, tree in trees.items()
    }
    splits = {split: samples for split, samples in splits.items() if samples}
    splits, note = hold_out(splits, val_fraction, seed)
    if ignored:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common(5))
        notes.append(f"{ignored.total():,} files are no pictures and were left out: {listed}.")
    notes = [f"Read as {layout}; task: classify, {len(classes)} classes.", *notes]
    return Dataset(source, "folder", "classify", classes, splits, notes + ([note] if note else []))


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name))
    except OSError as error:
        raise DataError(f"{path}: the folder cannot be read ({error.strerror}); check its permissions") from None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _split_folders(root: Path) -> dict[str, Path]:
    """train, val, test → folder; none where the folders in root are classes."""
    names = _folders(root)
    found: dict[str, Path] = {}
    for name in names:
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            continue
        if split in found:
            raise DataError(f"{root}: both {found[split].name}/ and {name}/ could be {split}; keep one of them")
        found[split] = root / name
    # without train/, these are splits only if nothing else is there and classes are in them: a class may be "test"
    if "train" not in found and (len(found) < len(names) or not all(_folders(folder) for folder in found.values())):
        return {}
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _scan_split(root: Path, folder: Path, ignored: Counter[str]) -> dict[str, list[str]]:
    """Class → sorted paths of its pictures relative to root, with / on every system."""
    labels = _folders(folder)
    # links may lead back up or into another class: a folder on the way here or of a class is not entered by a link
    taken = {_identity(place) for place in (root, folder, *(folder / label for label in labels))}
    tree = {}
    for label in labels:
        start = folder / label
        tree[label] = _pictures(start, start.relative_to(root).as_posix(), taken, ignored)
    with os.scandir(folder) as entries:
        ignored.update(_kind(entry.name) + " outside class folders" for entry in entries if _loose(entry))
    return tree


def _loose(entry: os.DirEntry[str]) -> bool:
    return not _hidden(entry.name) and entry.is_file() and _suffix(entry.name) in PICTURE_SUFFIXES


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _kind(name: str) -> str:
    return "hidden" if _hidden(name) else _suffix(name) or "without suffix"


def _pictures(start: Path, relative: str, taken: set[tuple[int, int]], ignored: Counter[str]) -> list[str]:
    """Paths relative to the root, of all pictures below one class folder; no file is opened or even looked at."""
    pictures: list[str] = []
    entered: set[tuple[int, int]] = set()
    waiting = [(str(start), relative)]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError as error:
            raise DataError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None
        for entry in listed:
            if entry.is_dir():
                if _hidden(entry.name):
                    continue
                identity = _identity(entry.path)
                if identity in taken or identity in entered:
                    ignored["links to folders above or already read"] += 1
                    continue
                entered.add(identity)
                waiting.append((entry.path, f"{prefix}/{entry.name}"))
            elif _suffix(entry.name) in PICTURE_SUFFIXES and not _hidden(entry.name) and entry.is_file():
                pictures.append(f"{prefix}/{entry.name}")
            else:
                ignored[_kind(entry.name)] += 1
    return sorted(pictures)


def _classes(
    root: Path, trees: dict[str, dict[str, list[str]]], found: dict[str, Path], notes: list[str]
) -> tuple[str, ...]:
    """The classes, in the order torchvision gives them; says which folders are empty or lack in a split."""
    first = "train" if "train" in trees else next(iter(trees))
    for split, tree in trees.items():
        empty = [label for label, pictures in tree.items() if not pictures]
        if empty:
            where = found[split].name + "/" if split in found else ""
            notes.append(f"Class folders without pictures: {_some([where + label for label in empty])}.")
    known = [label for label, pictures in trees[first].items() if pictures]
    if first != "train":
        known = sorted({label for tree in trees.values() for label, pictures in tree.items() if pictures})
    elsewhere = [(split, label) for split in trees for label, pictures in trees[split].items() if pictures]
    for split, label in elsewhere:
        if label not in known:
            raise DataError(
                f'{found[split] / label}: class "{label}" is in {split} but not in train.{did_you_mean(label, known)}'
            )
    for split, tree in trees.items():
        missing = [label for label in known if not tree.get(label)]
        if missing:
            notes.append(f"Classes of train without a picture in {split}: {_some(missing)}.")
    if len(known) < 2:
        nested = [name for name in _folders(root) if _split_folders(root / name) or idx.recognises(str(root / name))]
        hint = f" Did you mean {root / nested[0]}?" if nested else " Two class folders with pictures are needed."
        what = f'only one class ("{known[0]}")' if known else "no pictures in its folders"
        raise DataError(f"{root}: {what}.{hint}")
    return tuple(known)


def _some(names: list[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
