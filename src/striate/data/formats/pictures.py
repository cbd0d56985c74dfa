"""A folder of pictures of which nothing is said: each is its own target, for networks that make pictures of them."""

from __future__ import annotations

from pathlib import Path

from striate.data.sample import Dataset, Sample
from striate.data.split import hold_out
from striate.data.targets import ImageTarget
from striate.errors import DataError
from striate.images import PICTURE_SUFFIXES

MOST_HELD_OUT = 16


def read(source: str, val_fraction: float, seed: int) -> Dataset:
    """Every picture below a folder, a few of them held out as val.

    Raises:
        DataError: no folder, or no picture in it.
    """
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"{source}: no such folder of pictures")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"{source}: no pictures to learn from; name a folder that holds some")
    train = [Sample(path, ImageTarget(path), str(path.relative_to(root))) for path in files]
    splits, note = hold_out({"train": train}, val_fraction, seed, MOST_HELD_OUT)
    notes = [f"Read as {len(files):,} pictures without labels.", *([note] if note else [])]
    return Dataset(source, "pictures", "pictures", (), splits, notes)
