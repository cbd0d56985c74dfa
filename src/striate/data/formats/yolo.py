"""YOLO's text files: a line an object, `class cx cy w h` as shares of the picture's width and height, a file a picture.

Longer lines are outlines (`class x y x y …`, -seg) or, where data.yaml has `kpt_shape`, a box and its points (-pose).
`data.yaml` says where the splits are and what the classes are called. Without it, `images/` with `labels/` (in `train/`
and `val/`, or with those inside), or text files beside their pictures, are read the same; names then come from
`classes.txt` or are 0, 1, 2 …. A picture without a text file has no objects on it. Shares are of the picture turned as
its EXIF says, as ultralytics takes them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.formats.annotations import Annotations, Picture, number, shown, to_dataset
from striate.data.formats.yolo_yaml import NAME_FILES, Config, names_beside, read_config
from striate.data.picture_sizes import picture_sizes
from striate.data.sample import Dataset
from striate.data.split import SPLIT_NAMES
from striate.errors import DataError
from striate.images import PICTURE_SUFFIXES

CLASSES_AT_MOST = 10_000  # where no file names them
ROUNDED = 7  # digits behind the point of a pixel: shares tell no more, and whole pixels are whole again
_YAML = (".yaml", ".yml")
_LINE = re.compile(rb"\s*\d+(\s+[-+.\deE]+){4,}\s*$")


def recognises(source: str) -> bool:
    path = Path(source)
    if path.suffix.lower() in _YAML:
        return path.is_file()
    return path.is_dir() and (_yaml_in(path) is not None or bool(_plain_splits(path)))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Pictures are sorted by name within each folder; an outline's box is its bounds.

    Raises:
        DataError: names the first file and line that is wrong, or what data.yaml lacks.
    """
    path = Path(source)
    file = path if path.is_file() else _yaml_in(path)
    left_out: Counter[str] = Counter()
    if file is not None:
        config = read_config(file)
        folders = {split: _pictures_of(config, split, where, left_out) for split, where in config.splits.items()}
    else:
        splits = _plain_splits(path)
        config = Config(path, path, {}, names_beside([path, *splits.values(), *(_twin(f) for f in splits.values())]))
        folders = {split: _pictures_in(folder) for split, folder in splits.items()}
    root = file.parent if file is not None else path
    pictures = [Picture(p, os.path.relpath(p, root), split) for split, paths in folders.items() for p in paths]
    if not pictures:
        looked = shown(", ".join(config.splits.values())) or "its folders"
        raise DataError(f"{config.file}: no pictures in {looked}; check the paths")
    for picture, size in zip(pictures, picture_sizes([picture.path for picture in pictures]), strict=True):
        picture.size = size
    lost = sum(picture.size is None and os.path.isfile(picture.path) for picture in pictures)
    left_out["Pictures whose size cannot be read, left out"] += lost
    pictures = [p for p in pictures if p.size is not None or not os.path.isfile(p.path)]
    found, labels = _annotations(pictures, config, left_out)
    classes = config.names
    if classes is None:
        classes = {label: str(label) for label in range(max(labels, default=0) + 1)}
    place = {label: index for index, label in enumerate(classes)}
    found.labels = [place[label] for label in labels]
    told = f"YOLO ({file.name if file is not None else 'text files'})"
    return to_dataset(source, "yolo", told, list(classes.values()), found, val_fraction, seed)


def _annotations(pictures: list[Picture], config: Config, left_out: Counter[str]) -> tuple[Annotations, list[int]]:
    """All rows, and their class ids."""
    owners: list[int] = []
    labels: list[int] = []
    rows: list[list[float]] = []  # centre and sides
    masks: list[Any] = []
    points: list[np.ndarray] = []
    without = 0
    shape = config.points
    for index, picture in enumerate(pictures):
        if picture.size is None:
            continue
        file = label_file(picture.path)
        lines = _lines(file)
        without += lines is None
        height, width = picture.size
        for line, values in lines or ():
            where = f"{file}, line {line}"
            label = _label(where, values[0], config.names)
            numbers = _floats(where, values[1:])
            mask = None
            if len(numbers) == 4:
                box = numbers
            elif shape is not None and len(numbers) == 4 + shape[0] * shape[1]:
                box = numbers[:4]
            elif shape is None and len(numbers) >= 6 and len(numbers) % 2 == 0:
                outline = np.array(numbers).reshape(-1, 2) * (width, height)
                mask = [np.clip(outline, 0, (width, height)).reshape(-1).tolist()]
                box = None
                rows.append([*outline.min(0), *outline.max(0)])
            else:
                raise DataError(f"{where}: {len(values)} numbers; {_expected(shape)}")
            if box is not None:
                x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
                rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            if shape is not None:
                points.append(_points(where, numbers[4:], shape, width, height))
            owners.append(index)
            labels.append(label)
            masks.append(mask)
    if without and not owners:
        first = label_file(next(picture.path for picture in pictures if picture.size is not None))
        raise DataError(f"{config.file}: no picture has boxes; the first text file looked for is {shown(first)}")
    left_out["Pictures without a text file, taken to be empty"] += without
    stacked = np.stack(points) if points else None
    boxes = np.round(np.array(rows, dtype=np.float64).reshape(-1, 4), ROUNDED)
    return Annotations(pictures, owners, boxes, labels, masks=masks, keypoints=stacked, left_out=left_out), labels


def _expected(shape: tuple[int, int] | None) -> str:
    if shape is not None:
        return f"a box has 5, with kpt_shape {list(shape)} there are {5 + shape[0] * shape[1]}"
    return "a box has 5 (class cx cy w h), an outline an odd number from 7 on"


def _label(where: str, text: str, names: dict[int, str] | None) -> int:
    try:
        value = float(text) if len(text) < 20 else -1.0
    except ValueError:
        value = -1.0
    if not value.is_integer() or value < 0:
        raise DataError(f"{where}: class {shown(text)}; a whole number from 0 on is needed")
    label = int(value)
    if names is not None and label not in names:
        raise DataError(
            f"{where}: class {label} is not among the {number(len(names), 'class', 'classes')} that are named"
        )
    if names is None and label >= CLASSES_AT_MOST:
        raise DataError(f"{where}: class {label}, and nothing names the classes; write a data.yaml with names")
    return label


def _floats(where: str, texts: list[str]) -> list[float]:
    try:
        values = [float(text) for text in texts]
        if all(-1e9 < value < 1e9 for value in values):  # also False for NaN
            return values
    except ValueError:
        pass
    for text in texts:
        try:
            if -1e9 < float(text) < 1e9:
                continue
        except ValueError:
            pass
        raise DataError(f"{where}: {shown(text)}; shares of the picture's width and height, 0 to 1, are needed")
    raise AssertionError("one of them was odd")


def _points(where: str, values: list[float], shape: tuple[int, int], width: int, height: int) -> np.ndarray:
    """float64 [K, 3] in pixels; without a visibility, a point at 0, 0 is not there."""
    found = np.zeros((shape[0], 3))
    if not values:
        return found
    given = np.array(values).reshape(shape)
    found[:, :2] = given[:, :2] * (width, height)
    found[:, 2] = given[:, 2] if shape[1] == 3 else 2 * (given != 0).any(1)
    if not np.isin(found[:, 2], (0, 1, 2)).all():
        raise DataError(f"{where}: a point's third number is its visibility: 0 (not there), 1 (hidden) or 2 (seen)")
    return found


def _lines(file: str) -> list[tuple[int, list[str]]] | None:
    """(line, its words) of each line that is not empty; None where there is no file."""
    try:
        if not os.path.isfile(file):
            return None
        with open(file, "rb") as opened:
            text = opened.read().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no text (byte {error.start:,}); YOLO's lines are numbers") from None
    split = [(line, words.split()) for line, words in enumerate(text.split("\n"), start=1)]
    return [(line, words) for line, words in split if words]


def label_file(picture: str) -> str:
    """`…/images/train/a.jpg` → `…/labels/train/a.txt`: the last `images` counts; else beside the picture."""
    head, folder, tail = picture.rpartition(f"{os.sep}images{os.sep}")
    place = f"{head}{os.sep}labels{os.sep}{tail}" if folder else picture
    return os.path.splitext(place)[0] + ".txt"


def _twin(folder: Path) -> Path:
    return Path(label_file(str(folder / "x"))).parent


def _pictures_of(config: Config, split: str, where: str, left_out: Counter[str]) -> list[str]:
    """The pictures of one entry of data.yaml: a folder, or a text file that lists them."""
    paths: list[str] = []
    for place in where.split("\n"):
        found = config.find(place)
        if found is None:
            left_out[f"Folders that are not there, left out ({split}: {shown(place)})"] += 1
        elif found.is_dir():
            paths += _pictures_in(found)
        else:
            lines = _lines(str(found)) or []
            names = [" ".join(words) for _, words in lines]
            paths += [os.path.normpath(found.parent / name) if "\0" not in name else name for name in names]
    return paths


def _pictures_in(folder: Path) -> list[str]:
    """Sorted, however deep; links to folders are not followed."""
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")
    )


def _yaml_in(root: Path) -> Path | None:
    """The one YAML file in a folder that names train or val and the classes; data.yaml before others."""
    names = [name for name in _names(root) if name.lower().endswith(_YAML)]
    names.sort(key=lambda name: name.lower() not in ("data.yaml", "data.yml"))
    for name in names:
        try:
            with open(root / name, "rb") as file:
                head = file.read(1 << 20)
        except OSError:
            continue
        if re.search(rb"^(train|val)\s*:", head, re.MULTILINE) and re.search(rb"^(names|nc)\s*:", head, re.MULTILINE):
            return root / name
    return None


def _plain_splits(root: Path) -> dict[str, Path]:
    """Split → folder of pictures, without a data.yaml."""
    inside = {SPLIT_NAMES[name.lower()]: root / name for name in _names(root) if name.lower() in SPLIT_NAMES}
    images = root / "images"
    below = {SPLIT_NAMES[name.lower()]: images / name for name in _names(images) if name.lower() in SPLIT_NAMES}
    for choice in (
        {split: folder / "images" for split, folder in inside.items()},
        below,
        {"train": images},
        inside,
        {"train": root},
    ):
        found = {split: choice[split] for split in ("train", "val", "test") if split in choice}
        found = {split: folder for split, folder in found.items() if folder.is_dir()}
        if any(_has_boxes(_twin(folder)) for folder in found.values()):
            return found
    return {}


def _has_boxes(folder: Path) -> bool:
    """True where the first text file with something in it is YOLO's."""
    for file in _text_files(folder):
        try:
            with open(file, "rb") as opened:
                line = opened.readline(100_000)
        except OSError:
            continue
        if line.strip():
            return _LINE.match(line) is not None
    return False


def _text_files(folder: Path) -> Iterator[Path]:
    """Text files in a folder; of `labels/` also those in its folders."""
    for name in _names(folder):
        if name.endswith(".txt") and name.lower() not in NAME_FILES and (folder / name).is_file():
            yield folder / name
    for name in _names(folder) if folder.name == "labels" else ():
        yield from _text_files(folder / name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
