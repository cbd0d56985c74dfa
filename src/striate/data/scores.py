"""Scores as votes over grades: single numbers, and classes whose names are numbers, brought into one form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from striate.data.sample import Dataset
from striate.data.targets import Votes
from striate.errors import DataError

MOST_GRADES = 21  # whole numbers from lowest to highest, if they are no more than this; else TENTHS of their range
TENTHS = 10


def grades_of(scores: Sequence[float]) -> tuple[float, ...]:
    """Evenly spaced grades that hold all scores: whole numbers (1 … 5), or for a wide range ten steps (0, 10 … 100).

    >>> grades_of([1.5, 4.2])
    (1.0, 2.0, 3.0, 4.0, 5.0)
    >>> grades_of([3.1, 96.0])
    (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0)
    """
    low, high = math.floor(min(scores)), math.ceil(max(scores))
    if low == high:
        high += 1
    if high - low < MOST_GRADES:
        return tuple(float(grade) for grade in range(low, high + 1))
    step = 10.0 ** math.ceil(math.log10((high - low) / TENTHS))
    for finer in (step / 5, step / 2):
        if (high - low) / finer <= MOST_GRADES - 1:
            step = finer
            break
    first, last = math.floor(low / step), math.ceil(high / step)
    return tuple(number * step for number in range(first, last + 1))


def votes_for(score: float, grades: Sequence[float]) -> Votes:
    """One vote, shared between the two grades around a score so that its mean is the score.

    >>> votes_for(3.25, (1.0, 2.0, 3.0, 4.0, 5.0)).counts
    (0.0, 0.0, 0.75, 0.25, 0.0)
    """
    place = (score - grades[0]) / (grades[1] - grades[0])
    below = min(int(place), len(grades) - 2)
    counts = [0.0] * len(grades)
    counts[below], counts[below + 1] = 1 - (place - below), place - below
    return Votes(tuple(counts))


def name_of(grade: float) -> str:
    """`7`, or `7.5`."""
    return f"{grade:g}"


def as_scores(dataset: Dataset) -> Dataset:
    """A data set of one label a picture, whose classes are numbers, as one of scores.

    Raises:
        DataError: a class is not a number, or pictures have several labels.
    """
    if dataset.multi_label:
        raise DataError(f"{dataset.source}: has several labels a picture, which are no scores")
    values = []
    for name in dataset.classes:
        try:
            values.append(float(name))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise DataError(f'{dataset.source}: class "{name}" is no number; task score needs classes such as 1, 2, 3')
    grades = grades_of(values)
    votes = [votes_for(value, grades) for value in values]
    splits = {
        split: [replace(sample, target=None if sample.target is None else votes[sample.target]) for sample in samples]
        for split, samples in dataset.splits.items()
    }
    names = tuple(map(name_of, grades))
    note = f"Labels read as scores from {names[0]} to {names[-1]}; task: score."
    notes = [note, *(told for told in dataset.notes if "; task: " not in told)]
    return replace(dataset, task="score", classes=names, splits=splits, notes=notes)
