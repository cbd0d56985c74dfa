"""Data in: `open_dataset` reads any layout that `striate.data.formats` knows into named splits of samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from striate.data.sample import Dataset, Sample
from striate.data.scores import as_scores
from striate.data.split import SPLIT_NAMES, hold_out
from striate.errors import DataError, UsageError, did_you_mean

__all__ = ["Dataset", "Sample", "open_dataset", "split_source"]


def open_dataset(
    source: str | Path,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    task: str = "auto",
    reads: Sequence[str] = (),
    download: bool = False,
) -> Dataset:
    """The data set that a path or name stands for.

    Args:
        source: a folder, CSV file or name (`digits`, `mnist`, `mnist:/path/root`; a name wins over a folder of the
            same name: write `./digits` for that). `photos/:val` gives that split alone.
        val_fraction: of `train` to hold out where there is no `val`; 0 holds nothing out.
        seed: of what is held out.
        task: `auto` takes the one that the layout asks for.
        reads: other tasks whose layouts this task reads as they are; `pictures` needs no layout: `Task.reads`.
        download: fetch a torchvision set that is not on the disk.

    Raises:
        DataError: nothing is there, its layout is not known, or something in it is wrong.
        UsageError: a task that the layout does not fit, or a fraction outside 0..1.
    """
    from striate.data.formats import pictures, read_dataset

    if not 0 <= val_fraction < 1:
        raise UsageError(f"val_fraction is {val_fraction:g}: must be at least 0 and below 1")
    name, split = split_source(os.fspath(source))
    if split is not None and split not in SPLIT_NAMES.values():
        raise DataError(
            f'{name}: no split or folder "{split}"; write train, val or test.{did_you_mean(split, SPLIT_NAMES)}'
        )
    if "pictures" in reads:  # nothing is said of them, whatever their folders are called
        dataset = replace(pictures.read(name, val_fraction, seed), task=task)
    else:
        dataset = read_dataset(name, val_fraction=val_fraction, seed=seed, download=download)
    if task not in ("auto", dataset.task):
        dataset = _as_task(read_dataset(name, val_fraction=0, seed=seed, download=False), task, reads)
        dataset.splits, note = hold_out(dataset.splits, val_fraction, seed)
        dataset.notes += [note] if note else []
    if split is None:
        return dataset
    if split not in dataset.splits:
        raise DataError(f'{name}: there is no split "{split}"; there is {", ".join(dataset.splits)}')
    return replace(dataset, source=os.fspath(source), splits={split: dataset.splits[split]})


# (what a layout asks for, what the user asks for) -> how the one is read as the other
CONVERSIONS: dict[tuple[str, str], Callable[[Dataset], Dataset]] = {
    ("classify", "score"): as_scores,
}


def _as_task(dataset: Dataset, task: str, reads: Sequence[str]) -> Dataset:
    if dataset.task in reads:
        return replace(dataset, task=task)
    convert = CONVERSIONS.get((dataset.task, task))
    if convert is None:
        near = did_you_mean(task, [dataset.task, *(asked for found, asked in CONVERSIONS if found == dataset.task)])
        raise UsageError(
            f'{dataset.source}: its layout is that of task {dataset.task}, it cannot be read for task "{task}".{near}'
        )
    return convert(dataset)


def split_source(source: str) -> tuple[str, str | None]:
    """`digits:test` → (`digits`, `test`); what does not end in the name of a split → (source, None).

    After the name of a set, any word is a split, known or not, unless it is a folder (`mnist:data`: its root).
    Paths that exist with the colon in their name, URLs and (on Windows) `C:test` are left whole;
    `valid` and the like mean `val`.
    """
    from striate.data.formats import builtin, vision

    head, colon, tail = source.rpartition(":")
    if not colon or not head or "://" in source:
        return source, None
    if head in (*builtin.NAMES, *vision.SETS) and tail.isidentifier() and not Path(tail).is_dir():
        return head, SPLIT_NAMES.get(tail.lower(), tail)  # a misspelt split, to be told as such
    if tail.lower() not in SPLIT_NAMES:
        return source, None
    if (len(head) == 1 and os.name == "nt") or Path(source).exists():
        return source, None
    return head, SPLIT_NAMES[tail.lower()]
