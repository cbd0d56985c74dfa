"""Targets of a whole picture: one class, several, votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from striate.data.targets.target import Names, Stratum, Target


class Label(Target, int):
    """One class a picture: an int, the class's index."""

    __slots__ = ()

    def class_ids(self) -> tuple[int, ...]:
        return (int(self),)

    def stratum(self) -> Stratum:
        return int(self)

    def remap(self, index: Sequence[int], count: int) -> Label:
        return Label(index[self])

    def names(self, classes: Sequence[str]) -> Names:
        return classes[self]

    def digest(self) -> bytes:
        return f"{int(self)}\t".encode()


class Labels(Target, tuple[int, ...]):
    """Any number of classes a picture: a tuple of their indices."""

    __slots__ = ()

    def class_ids(self) -> tuple[int, ...]:
        return tuple(self)

    def stratum(self) -> Stratum:
        return tuple(self)

    def remap(self, index: Sequence[int], count: int) -> Labels:
        return Labels(index[label] for label in self)

    def names(self, classes: Sequence[str]) -> Names:
        return tuple(classes[label] for label in self)

    def digest(self) -> bytes:
        return f"{tuple(self)!r}\t".encode()


class Identity(Label):
    """Which individual is shown. Individuals of validation need not be known from training: they keep their numbers."""

    __slots__ = ()

    def remap(self, index: Sequence[int], count: int) -> Identity:
        return self


@dataclass(frozen=True, slots=True)
class Votes(Target):
    """How people graded one picture: what each of the K grades got, at least 0, not all 0."""

    counts: tuple[float, ...]

    def mean(self, grades: Sequence[float]) -> float:
        """The mean grade."""
        return sum(count * grade for count, grade in zip(self.counts, grades, strict=True)) / sum(self.counts)

    def class_ids(self) -> tuple[int, ...]:
        """The grade nearest to the mean."""
        return (round(self.mean(range(len(self.counts)))),)

    def stratum(self) -> Stratum:
        return float(self.mean(range(len(self.counts))))

    def remap(self, index: Sequence[int], count: int) -> Votes:
        counts = [0.0] * count
        for number, votes in zip(index, self.counts, strict=True):
            counts[number] = votes
        return Votes(tuple(counts))

    def names(self, classes: Sequence[str]) -> Names:
        return self.mean([float(grade) for grade in classes])

    def digest(self) -> bytes:
        return f"{self!r}\t".encode()
