"""Data of boxes out: one writer a format, each read back by `open_dataset`. `WRITERS` is the whole list."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from striate.data.convert import boxes_csv, coco, voc, yolo
from striate.data.convert.pictures import Placed, place_pictures
from striate.data.sample import Dataset
from striate.errors import StriateError, UsageError, did_you_mean

# a writer puts annotations into a folder and says, one sentence each, what the format could not take
Writer = Callable[[Path, tuple[str, ...], dict[str, list[Placed]]], list[str]]
WRITERS: dict[str, Writer] = {"coco": coco.write, "voc": voc.write, "yolo": yolo.write, "csv": boxes_csv.write}
FOLDERS: dict[str, str] = {  # where the pictures of a split go
    "coco": "{split}",
    "voc": "JPEGImages",
    "yolo": "images/{split}",
    "csv": "images/{split}",
}


def convert(
    dataset: Dataset, out: str | Path, format: str, *, overwrite: bool = False, link: bool = False
) -> list[str]:
    """Write a data set of boxes in another format, pictures included.

    All is made in a folder beside `out` and moved there when it is whole.

    Args:
        dataset: of task `detect`.
        out: the folder; with `overwrite`, what stands in it under the names that are written is replaced.
        format: coco, voc, yolo or csv.
        link: symbolic links to the pictures in place of copies.

    Returns:
        What could not be kept, one sentence each.

    Raises:
        UsageError: no such format, another task, or something stands there; StriateError: it could not be written.
    """
    if format not in WRITERS:
        raise UsageError(f"--format {format}: must be one of {', '.join(WRITERS)}.{did_you_mean(format, WRITERS)}")
    if dataset.task != "detect":
        raise UsageError(f"{dataset.source}: its task is {dataset.task}; only data of boxes (detect) are converted")
    out = Path(out)
    _check_free(dataset, out, overwrite)
    beside = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        placed, notes = place_pictures(dataset, beside, FOLDERS[format], link)
        notes += WRITERS[format](beside, dataset.classes, placed)
        out.mkdir(exist_ok=True)
        for entry in sorted(beside.iterdir()):
            stands = out / entry.name
            if stands.is_dir() and not stands.is_symlink():
                shutil.rmtree(stands)
            os.replace(entry, stands)
    except OSError as error:
        raise StriateError(f"{error.filename or out}: could not be written ({error.strerror})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return notes


def _check_free(dataset: Dataset, out: Path, overwrite: bool) -> None:
    """Nothing stands there, or it may be replaced and none of the pictures is in it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder")
    if any(out.iterdir()) and not overwrite:
        raise UsageError(f"{out} exists already: choose another place, or pass --overwrite")
    whole = os.path.join(os.path.realpath(out), "")
    for samples in dataset.splits.values():
        for sample in samples:
            if isinstance(sample.image, str | Path) and os.path.realpath(sample.image).startswith(whole):
                raise UsageError(f"{out} holds the pictures that are to be converted: choose another place")
