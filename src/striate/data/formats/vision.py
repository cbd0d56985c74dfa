"""torchvision's sets by name, as arrays: `mnist`, `cifar10`, … or `mnist:/where/they/are`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from striate.data.sample import Dataset, Sample
from striate.data.split import hold_out
from striate.errors import DataError

HELD_OUT_AT_MOST = 5_000  # these sets have a test split; a larger val would only cost training data


class VisionSet(NamedTuple):
    """The class in torchvision.datasets, its arguments for each split, and where it looks below the root."""

    cls: str
    splits: dict[str, dict[str, Any]]
    folder: str


_BY_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_BY_NAME: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}


def _emnist(split: str) -> VisionSet:
    return VisionSet("EMNIST", {name: {"split": split, **flag} for name, flag in _BY_FLAG.items()}, "EMNIST/raw")


SETS = {
    "mnist": VisionSet("MNIST", _BY_FLAG, "MNIST/raw"),
    "fashion_mnist": VisionSet("FashionMNIST", _BY_FLAG, "FashionMNIST/raw"),
    "kmnist": VisionSet("KMNIST", _BY_FLAG, "KMNIST/raw"),
    "qmnist": VisionSet("QMNIST", _BY_FLAG, "QMNIST/raw"),
    "emnist": _emnist("balanced"),
    "emnist_letters": _emnist("letters"),
    "emnist_digits": _emnist("digits"),
    "cifar10": VisionSet("CIFAR10", _BY_FLAG, "cifar-10-batches-py"),
    "cifar100": VisionSet("CIFAR100", _BY_FLAG, "cifar-100-python"),
    "svhn": VisionSet("SVHN", _BY_NAME, "."),
    "stl10": VisionSet("STL10", _BY_NAME, "stl10_binary"),
    "usps": VisionSet("USPS", _BY_FLAG, "."),
}


def recognises(source: str) -> bool:
    return source.partition(":")[0] in SETS


def default_root() -> Path:
    """STRIATE_DATA, or ~/.cache/striate/data."""
    return Path(os.environ.get("STRIATE_DATA") or Path.home() / ".cache" / "striate" / "data")


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Samples are uint8 [1 or 3, H, W].

    Raises:
        DataError: the files are not there, not whole, or could not be downloaded.
    """
    name, _, given = source.partition(":")
    root = Path(given).expanduser() if given else default_root()
    if given and not download and not root.is_dir():
        raise DataError(f'{source}: no folder "{given}"; write {name}:FOLDER or {name}:SPLIT (train, val, test)')
    splits: dict[str, list[Sample]] = {}
    classes: tuple[str, ...] = ()
    for split in SETS[name].splits:
        found = _open(name, split, root, download)
        images, labels = _images(found), _labels(found)
        classes = _classes(found, labels)
        low = min(labels) if name == "emnist_letters" else 0  # its labels are 1..26
        splits[split] = [
            Sample(image, label - low, f"{split}/{index}")
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
    splits, note = hold_out(splits, val_fraction, seed, HELD_OUT_AT_MOST)
    notes = [f"Read as torchvision's {SETS[name].cls} from {root}; task: classify, {len(classes)} classes."]
    return Dataset(source, "torchvision", "classify", classes, splits, notes + ([note] if note else []))


def _open(name: str, split: str, root: Path, download: bool) -> Any:
    import torchvision.datasets

    entry = SETS[name]
    arguments = entry.splits[split]
    try:
        return getattr(torchvision.datasets, entry.cls)(str(root), download=download, **arguments)
    except Exception as error:  # RuntimeError, URLError, EOFError, UnpicklingError …: not there, not whole, no network
        if download:
            raise DataError(
                f"{name}: could not be downloaded ({' '.join(str(error).split())}); check the connection, "
                f"or place its files in {root / entry.folder}"
            ) from None
        raise DataError(
            f"{name}: no whole copy in {root / entry.folder}; pass --download to fetch it, place its files there, "
            f"or say where they are: {name}:FOLDER or the variable STRIATE_DATA"
        ) from None


def _images(found: Any) -> Tensor:
    """uint8 [N, C, H, W] from `.data`: [N, H, W], [N, H, W, 3] (CIFAR) or [N, 3, H, W] (SVHN, STL-10)."""
    images = torch.as_tensor(np.asarray(found.data))
    if images.ndim == 3:
        return images[:, None]
    return images.permute(0, 3, 1, 2).contiguous() if images.shape[-1] == 3 else images


def _labels(found: Any) -> list[int]:
    labels = np.asarray(found.targets if hasattr(found, "targets") else found.labels)
    return (labels[:, 0] if labels.ndim == 2 else labels).astype(int).tolist()  # QMNIST: label first of 8 columns


def _classes(found: Any, labels: list[int]) -> tuple[str, ...]:
    names = [str(name) for name in getattr(found, "classes", [])]
    if names[:1] == ["N/A"]:  # EMNIST letters count from 1
        names = names[1:]
    if not names:
        names = [str(label) for label in range(max(labels) + 1)]
    # MNIST's "0 - zero" is "0" everywhere else
    return tuple(re.sub(r"^(\d+) - .*$", r"\1", name) for name in names)
