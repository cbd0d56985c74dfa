"""What every reader gives and every later step takes: samples, in named splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from striate.data.targets import Target, as_target


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what is to be said of it.

    Attributes:
        image: the path of a file, or the pixels themselves, uint8 [C, H, W] with C 1 or 3.
        target: one of `striate.data.targets`, None where unlabelled; a plain class index becomes a Label, a tuple of
            them Labels.
        name: how messages and reports call it (a path relative to the root, or `train/17`).
    """

    image: str | Path | Tensor
    target: Any
    name: str

    def __post_init__(self) -> None:
        if self.target is not None and not isinstance(self.target, Target):
            object.__setattr__(self, "target", as_target(self.target))


@dataclass
class Dataset:
    """A data set as its reader found it.

    Attributes:
        source: the path or name the user gave.
        format: the reader's name (`folder`, `csv`, `ava`, `idx`, `builtin`, `torchvision`, `coco`, `voc`, `yolo` …).
        task: the task its layout asks for (`classify`, `score`, `detect`, `keypoints`).
        classes: class names in index order; of scores the grades, from low to high; of landmarks the points' names.
        splits: `train`, `val`, `test` to samples; always has at least one, none is empty.
        notes: what the reader decided or skipped and why, one sentence each, to be told.
        task_arguments: what the task must know besides classes, such as `multi_label=True`.
    """

    source: str
    format: str
    task: str
    classes: tuple[str, ...]
    splits: dict[str, list[Sample]]
    notes: list[str] = field(default_factory=list)
    task_arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def multi_label(self) -> bool:
        """True when a picture may have several labels."""
        return bool(self.task_arguments.get("multi_label"))


def remap_classes(sample: Sample, index: Sequence[int], count: int) -> Sample:
    """The same sample for other classes: `index[i]` of `count` is what class i is among them."""
    return replace(sample, target=None if sample.target is None else sample.target.remap(index, count))
