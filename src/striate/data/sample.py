"""What every reader gives and every later step takes: samples, in named splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Votes:
    """How people graded one picture: what each of the K grades got, at least 0, not all 0."""

    counts: tuple[float, ...]

    def mean(self, grades: Sequence[float]) -> float:
        """The mean grade."""
        return sum(count * grade for count, grade in zip(self.counts, grades, strict=True)) / sum(self.counts)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what is to be said of it.

    Attributes:
        image: the path of a file, or the pixels themselves, uint8 [C, H, W] with C 1 or 3.
        target: what the task reads. classify: the class index (int), or for several labels
            a tuple of class indices; score: Votes; None where unlabelled.
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
        format: the reader's name (`folder`, `csv`, `ava`, `idx`, `builtin`, `torchvision`).
        task: the task its layout asks for (`classify`, `score`).
        classes: class names in index order; of scores the grades, from low to high.
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


def classes_of(target: Any) -> tuple[int, ...]:
    """The classes that a target stands for: none where unlabelled; of votes the grade nearest to their mean."""
    if target is None:
        return ()
    if isinstance(target, Votes):
        return (round(target.mean(range(len(target.counts)))),)
    return tuple(target) if isinstance(target, tuple | list) else (target,)


def named(target: Any, classes: Sequence[str]) -> str | tuple[str, ...] | float | None:
    """A target as people read it: a name, several names, or of votes the mean grade."""
    if target is None:
        return None
    if isinstance(target, Votes):
        return target.mean([float(grade) for grade in classes])
    names = tuple(classes[index] for index in classes_of(target))
    return names if isinstance(target, tuple | list) else names[0]


def renumbered(sample: Sample, index: Sequence[int], count: int) -> Sample:
    """The same sample for other classes: `index[i]` of `count` is what class i is among them."""
    target = sample.target
    if isinstance(target, Votes):
        counts = [0.0] * count
        for number, votes in zip(index, target.counts, strict=True):
            counts[number] = votes
        target = Votes(tuple(counts))
    elif isinstance(target, tuple | list):
        target = tuple(index[label] for label in target)
    elif target is not None:
        target = index[target]
    return replace(sample, target=target)
