"""What is to be said of a picture: a type for each kind of target.

Nothing outside asks a target for its type: each knows how it is read, where it goes when its picture is flipped or
moved, which classes it holds, what it is among other classes, what it looks like (`striate.data.targets.target`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.data.targets.labels import Identity, Label, Labels, Votes
from striate.data.targets.maps import IGNORE, ImageTarget, SegmentationMap
from striate.data.targets.objects import CROWD, DIFFICULT, PLAIN, Objects, Points
from striate.data.targets.target import Names, Stratum, Target

__all__ = [
    "CROWD",
    "DIFFICULT",
    "IGNORE",
    "PLAIN",
    "Identity",
    "ImageTarget",
    "Label",
    "Labels",
    "Names",
    "Objects",
    "Points",
    "SegmentationMap",
    "Stratum",
    "Target",
    "Votes",
    "as_target",
    "class_ids",
    "target_names",
]


def as_target(value: Any) -> Target | None:
    """A plain class index as a Label, several as Labels; targets and None as they are."""
    if value is None or isinstance(value, Target):
        return value
    return Labels(value) if isinstance(value, tuple | list) else Label(value)


def class_ids(target: Any) -> tuple[int, ...]:
    """The classes that a target stands for; none where unlabelled."""
    target = as_target(target)
    return () if target is None else target.class_ids()


def target_names(target: Any, classes: Sequence[str]) -> Names:
    """A target as people read it: a name, several names, or of votes the mean grade; of boxes, points, maps nothing."""
    target = as_target(target)
    return None if target is None else target.names(classes)
