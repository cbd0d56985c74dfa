"""What every reader gives and every later step takes: samples, in named splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what is to be said of it.

    Attributes:
        image: the path of a file, or the pixels themselves, uint8 [C, H, W] with C 1 or 3.
        target: what the task reads. classify: the class index (int), or for several labels
            a tuple of class indices; None where unlabelled.
        name: how messages and reports call it (a path relative to the root, or `train/17`).
    """

    image: str | Path | Tensor
    target: Any
    name: str


@dataclass
class Dataset:
    """A data set as its reader found it.

    Attributes:
        source: the path or name the user gave.
        format: the reader's name (`folder`, `csv`, `idx`, `builtin`, `torchvision`).
        task: the task its layout asks for (`classify`).
        classes: class names in index order.
        multi_label: True when a picture may have several labels.
        splits: `train`, `val`, `test` to samples; always has at least one, none is empty.
        notes: what the reader decided or skipped and why, one sentence each, to be told.
    """

    source: str
    format: str
    task: str
    classes: tuple[str, ...]
    multi_label: bool
    splits: dict[str, list[Sample]]
    notes: list[str] = field(default_factory=list)
