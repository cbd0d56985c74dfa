"""What is known of common sets of points: which swap places in a mirror, which are joined, what measures errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from striate.errors import UsageError


class Scheme(NamedTuple):
    """Of K points.

    Attributes:
        mirror: K indices, which point each one becomes when the picture is flipped left to right; None: unknown.
        lines: pairs of points that a drawing joins.
        unit: the two points whose distance measures errors; None: the diagonal of the box around the points.
    """

    mirror: tuple[int, ...] | None = None
    lines: tuple[tuple[int, int], ...] = ()
    unit: tuple[int, int] | None = None


def _chain(first: int, last: int, closed: bool = False) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(first, last)] + ([(last, first)] if closed else [])


def _swapped(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    order = list(range(count))
    for one, other in pairs:
        order[one], order[other] = other, one
    return tuple(order)


# fmt: off
# 300-W's 68 points (Sagonas et al. 2013, figure 1), counted from 0: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47,
# lips 48-67. The unit is 300-W's: the distance of the outer eye corners.
FACE_68 = Scheme(
    _swapped(68, [
        *((i, 16 - i) for i in range(8)), *((17 + i, 26 - i) for i in range(5)), (31, 35), (32, 34),
        (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),
        (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),
    ]),
    (
        *_chain(0, 16), *_chain(17, 21), *_chain(22, 26), *_chain(27, 30), *_chain(31, 35),
        *_chain(36, 41, True), *_chain(42, 47, True), *_chain(48, 59, True), *_chain(60, 67, True),
    ),
    (36, 45),
)

# COCO's 17 points of a person: nose, then left before right: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles
BODY_17 = Scheme(
    _swapped(17, [(i, i + 1) for i in range(1, 17, 2)]),
    (
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
)
# fmt: on
SCHEMES = {68: FACE_68, 17: BODY_17}


def scheme_of(classes: Sequence[str], mirror: Sequence[int] | None = None) -> Scheme:
    """What is known of these points: what the data says first, then their names, then their number.

    Args:
        classes: the points' names. Names with left and right in them say their mirror images themselves.
        mirror: K indices, from the data.

    Raises:
        UsageError: a mirror that does not give every point back when applied twice.
    """
    known = SCHEMES.get(len(classes), Scheme())
    if mirror is not None:
        order = tuple(int(index) for index in mirror)
        whole = range(len(classes))
        if len(order) != len(classes) or any(i not in whole or order[i] not in whole for i in order):
            raise UsageError(f"symmetry must be {len(classes)} indices of points, not {list(mirror)[:8]}")
        if any(order[order[i]] != i for i in whole):
            raise UsageError("symmetry must pair points: the mirror image of a point's mirror image is the point")
        return known._replace(mirror=order)
    named = _mirror_by_name(classes)
    return known if named is None else known._replace(mirror=named)


SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
_SIDE = re.compile(r"(?<![a-z])(left|right|l|r)(?![a-z])")


def _mirror_by_name(classes: Sequence[str]) -> tuple[int, ...] | None:
    """By `left_eye` and `right eye`, `eye.l` and `eye.r`; None where no name has a side, or one is without its twin."""
    lower = [name.lower() for name in classes]
    place = {name: index for index, name in enumerate(lower)}
    twins = [_SIDE.sub(lambda side: SIDES[side[0]], name) for name in lower]
    if twins == lower or any(twin not in place for twin in twins):
        return None
    return tuple(place[twin] for twin in twins)
