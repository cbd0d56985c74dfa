"""What every reader gives and every later step takes: samples, in named splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What is on one picture, object by object, in pixels of the picture as `read_image` gives it.

    Attributes:
        boxes: float32 [N, 4], x1 y1 x2 y2: the outer edges, so a box is x2 - x1 wide; 0 is the left or upper edge.
        labels: int64 [N], class indices.
        kinds: int64 [N]: PLAIN; CROWD, a region of many (COCO's iscrowd); DIFFICULT (VOC). Only plain ones are learnt,
            and the others are neither hits nor misses when detections are judged.
        areas: float32 [N], of the mask where the file says so, else of the box.
        masks: of each object a list of polygons ([x, y, x, y, …]), COCO's RLE (`{"size", "counts"}`) or None.
        keypoints: float32 [N, K, 3]: x, y, and 0 not there, 1 hidden, 2 seen.
    """

    boxes: Tensor
    labels: Tensor
    kinds: Tensor
    areas: Tensor
    masks: tuple[Any, ...] | None = None
    keypoints: Tensor | None = None

    @classmethod
    def of(cls, boxes: Any, labels: Any, **more: Any) -> Objects:
        """From rows of numbers; plain objects with the areas of their boxes where nothing else is said."""
        boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).unbind(1)
        kinds = more.pop("kinds", None)
        areas = more.pop("areas", None)
        return cls(
            boxes,
            labels,
            torch.zeros_like(labels) if kinds is None else torch.as_tensor(kinds, dtype=torch.int64),
            width * height if areas is None else torch.as_tensor(areas, dtype=torch.float32),
            **more,
        )

    def __len__(self) -> int:
        return len(self.labels)


PLAIN, CROWD, DIFFICULT = 0, 1, 2  # kinds of objects


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Landmarks of one picture: float32 [K, 3]: x and y in its pixels, and 1 where the point is known, else 0."""

    values: Tensor


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
            a tuple of class indices; score: Votes; detect and localize: Objects; keypoints: Points; None where
            unlabelled.
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


def classes_of(target: Any) -> tuple[int, ...]:
    """The classes that a target stands for: none where unlabelled; of votes the grade nearest to their mean."""
    if target is None:
        return ()
    if isinstance(target, Votes):
        return (round(target.mean(range(len(target.counts)))),)
    if isinstance(target, Objects):
        return tuple(target.labels.tolist())
    if isinstance(target, Points):
        return ()
    return tuple(target) if isinstance(target, tuple | list) else (target,)


def named(target: Any, classes: Sequence[str]) -> str | tuple[str, ...] | float | None:
    """A target as people read it: a name, several names, or of votes the mean grade; of places nothing."""
    if target is None or isinstance(target, Objects | Points):
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
    elif isinstance(target, Objects):
        target = replace(target, labels=torch.tensor(list(index), dtype=torch.int64)[target.labels])
    elif isinstance(target, Points):
        values = torch.zeros(count, 3)
        values[list(index)] = target.values
        target = Points(values)
    elif isinstance(target, tuple | list):
        target = tuple(index[label] for label in target)
    elif target is not None:
        target = index[target]
    return replace(sample, target=target)
