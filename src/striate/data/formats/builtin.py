"""Sets that need no download and no files: one that an installed library brings, and one that is drawn on the fly."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.sample import Dataset, Sample
from striate.data.shapes import CLASSES, SIZE, shapes_splits
from striate.data.split import hold_out, stratified_split

NAMES = ("digits", "shapes")
TEST_FRACTION = 0.2
TEST_SEED = 0  # the test fifth is the same for every seed of a run, so that scores can be compared


def recognises(source: str) -> bool:
    return source in NAMES


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    return _shapes(source) if source == "shapes" else _digits(source, val_fraction, seed)


def _shapes(source: str) -> Dataset:
    """Figures with known boxes, masks and corners, uint8 [3, 160, 160]; train and val are fixed."""
    splits = {split: list(samples) for split, samples in shapes_splits().items()}
    counts = " and ".join(f"{len(samples)} for {split}" for split, samples in splits.items())
    note = f"Drew the built-in shapes, {SIZE} px: {counts}; task: detect, {len(CLASSES)} classes."
    return Dataset(source, "builtin", "detect", CLASSES, splits, [note])


def _digits(source: str, val_fraction: float, seed: int) -> Dataset:
    """1,797 handwritten digits, 8x8 grey, 43 writers (Alpaydin & Kaynak, 1998, via scikit-learn): uint8 [1, 8, 8]."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)  # float [N, 64], int [N]
    grey = np.rint(np.asarray(values).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0..16 → 0..255
    images = torch.from_numpy(grey)[:, None]  # [N, 1, 8, 8]
    targets = [int(label) for label in labels]
    rest, test = stratified_split(targets, TEST_FRACTION, TEST_SEED)
    samples = [Sample(images[index], target, f"digits/{index}") for index, target in enumerate(targets)]
    splits = {"train": [samples[index] for index in rest], "test": [samples[index] for index in test]}
    splits, note = hold_out(splits, val_fraction, seed)
    notes = [
        "Read as the built-in digits of scikit-learn; task: classify, 10 classes.",
        f"A fixed, stratified fifth ({len(test)} pictures) is the test split.",
    ]
    classes = tuple(str(digit) for digit in range(10))
    return Dataset(source, "builtin", "classify", classes, splits, notes + ([note] if note else []))
