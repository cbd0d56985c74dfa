"""The benchmarks' real pictures: archives in `../shared/data`, or in the folder STRIATE_TEST_DATA names."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

from bench.harness import ROOT

SHARED = Path(os.environ.get("STRIATE_TEST_DATA", ROOT.parent / "shared" / "data"))
INSIDE = {  # archive -> the data set's folder within it
    "hymenoptera": "hymenoptera/hymenoptera_data",
    "cifar10-jpg": "cifar10-jpg",
    "mnist": "mnist-idx",
    "imagenet-samples": "imagenet-1k-samples",
    "fer2013": "fer2013-jpg",
    "facial-keypoints": "facial-keypoints-ytf",
    "bccd": "bccd/BCCD",
    "coco128-train": "coco128",
    "weights": "weights",
}


def dataset(name: str) -> Path:
    """The folder of one data set, unpacked on first use into the user's cache.

    Raises:
        SystemExit: the archive is not there.
    """
    archive = SHARED / f"{name}.zip"
    if not archive.exists():
        sys.exit(f"bench: {archive} is missing; set STRIATE_TEST_DATA to the folder that holds {name}.zip")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "striate-bench"
    folder = cache / f"{name}-{archive.stat().st_size}"
    if not folder.exists():
        beside = cache / f"{name}.{os.getpid()}.part"
        with zipfile.ZipFile(archive) as file:
            file.extractall(beside)
        beside.rename(folder)
    return folder / INSIDE[name]


def as_train_and_val(source: Path, where: Path) -> Path:
    """A folder `WHERE/{train,val}/<class>/` of links to the pictures of `source/train` and `source/{val,test}`.

    Both sides of a comparison then train on all of the one and are judged on all of the other.
    """
    held_out = "val" if (source / "val").is_dir() else "test"
    for split, there in (("train", "train"), ("val", held_out)):
        for path in sorted((source / there).glob("*/*")):
            link = where / split / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return where


def repeated(source: Path, count: int, where: Path) -> Path:
    """A folder `WHERE/<class>/` of at least `count` links to the pictures of `source/<class>/`, round and round.

    One long epoch: no side pays for starting its workers again within the part that is timed.
    """
    files = sorted(path for path in source.glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg"))
    for number in range(-(-count // len(files))):
        for path in files:
            link = where / path.parent.name / f"{number:04d}_{path.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return where
