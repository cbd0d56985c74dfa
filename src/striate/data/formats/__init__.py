"""One reader a format. `READERS` is the whole list, asked in this order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from striate.data.formats import (
    ava,
    boxes_csv,
    builtin,
    coco,
    folder,
    idx,
    labels_csv,
    landmarks_csv,
    landmarks_dlib,
    vision,
    voc,
    yolo,
)
from striate.data.sample import Dataset
from striate.errors import DataError, did_you_mean


class Reader(NamedTuple):
    """`recognises(source)` looks without reading much; `read(source, val_fraction, seed, download)` reads."""

    recognises: Callable[[str], bool]
    read: Callable[[str, float, int, bool], Dataset]


READERS = {
    "builtin": Reader(builtin.recognises, builtin.read),
    "torchvision": Reader(vision.recognises, vision.read),
    "ava": Reader(ava.recognises, ava.read),
    "landmarks": Reader(landmarks_csv.recognises, landmarks_csv.read),
    "dlib": Reader(landmarks_dlib.recognises, landmarks_dlib.read),
    "coco": Reader(coco.recognises, coco.read),
    "voc": Reader(voc.recognises, voc.read),
    "yolo": Reader(yolo.recognises, yolo.read),
    "boxes-csv": Reader(boxes_csv.recognises, boxes_csv.read),
    "csv": Reader(labels_csv.recognises, labels_csv.read),
    "idx": Reader(idx.recognises, idx.read),
    "folder": Reader(folder.recognises, folder.read),
}

LAYOUTS = (
    "a folder with one folder a class, or with train/ and val/ of such; a CSV with columns image,label or image,score; "
    "AVA.txt with images/; IDX files (*-images-idx3-ubyte); of boxes, COCO's JSON (annotations/instances_train.json), "
    "PASCAL VOC's XML (Annotations/ with JPEGImages/), YOLO's data.yaml, a CSV image,x1,y1,x2,y2,label; or a name: "
    + ", ".join([*builtin.NAMES, *vision.SETS])
)


def read_dataset(source: str, *, val_fraction: float, seed: int, download: bool) -> Dataset:
    """The data set, by the first reader that recognises the source.

    Raises:
        DataError: none does, or what it found is wrong.
    """
    for reader in READERS.values():
        if reader.recognises(source):
            return reader.read(source, val_fraction, seed, download)
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{source}: {_inside(path)}. What is understood: {LAYOUTS}")
    if path.exists():
        raise DataError(f"{source}: a file that is no CSV, JSON or YAML. What is understood: {LAYOUTS}")
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = did_you_mean(path.name, [*beside, *builtin.NAMES, *vision.SETS])
    raise DataError(f"{source}: no such file, folder or data set.{near} What is understood: {LAYOUTS}")


def _inside(path: Path) -> str:
    """What lies in a folder, for a message."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    except OSError as error:
        return f"the folder cannot be read ({error.strerror})"
    kinds = Counter(os.path.splitext(name)[1].lower() or "files without suffix" for name in names)
    if not kinds:
        return "the folder is empty"
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(4))
    return f"a folder without class folders, that holds {listed}"
