"""What to do about what `check` found, in plain words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.data.inspect.check import DataReport

FEW = 20  # training pictures of a class
UNEVEN = 5.0  # largest class over smallest


def suggest(report: DataReport) -> list[str]:
    """One sentence for each finding, the gravest first; empty when nothing is wrong."""
    return [
        *_about_reading(report),
        *_about_leaks(report),
        *_about_conflicts(report),
        *_about_duplicates(report),
        *_about_classes(report),
        *_about_pictures(report),
        *_about_boxes(report),
    ]


def _about_boxes(report: DataReport) -> list[str]:
    found = report.boxes
    if found is None:
        return []
    told = []
    if found.twice:
        told.append(
            f"{pictures(len(found.twice))} with two boxes of one class at one place; the first: {found.twice[0]}. "
            f"Keep one: the other will count as missed."
        )
    if found.unused:
        listed = ", ".join(found.unused[:5]) + (" …" if len(found.unused) > 5 else "")
        told.append(f"no object of {listed}: leave such classes out, or add pictures.")
    if found.tiny > 0.05 * max(found.count, 1):
        told.append(
            f"{found.tiny:,} of {found.count:,} boxes are tiny (under 8 px where the longer side is 320): train with a "
            f"larger --size, and predict with --tile."
        )
    return told


def _about_reading(report: DataReport) -> list[str]:
    told = []
    if report.unreadable:
        first = report.unreadable[0]
        told.append(
            f"{pictures(len(report.unreadable))} cannot be read and will be left out; "
            f"the first: {first['reason']}. Repair or remove."
        )
    for split, counts in report.pictures.items():
        if counts["readable"] == 0:
            told.append(f"no picture of {split} can be read.")
        if counts["unlabelled"]:
            told.append(f"{pictures(counts['unlabelled'])} of {split} without a label will not be used.")
    return told


def _about_leaks(report: DataReport) -> list[str]:
    judged = Counter[str]()
    for group in report.leaks:
        splits = [place.split(": ", 1)[0] for place in group]
        if "train" in splits:
            judged.update(split for split in splits if split != "train")
    told = [
        f"{pictures(count)} of {split} also {'stands' if count == 1 else 'stand'} in train: "
        f"the {SCORE.get(split, split)} score will flatter; remove {'it' if count == 1 else 'them'}."
        for split, count in judged.items()
    ]
    others = sum(all(not place.startswith("train: ") for place in group) for group in report.leaks)
    if others:
        told.append(f"{pictures(others)} of one judging split also in another: the two scores are not independent.")
    return told


SCORE = {"val": "validation"}


def _about_conflicts(report: DataReport) -> list[str]:
    if not report.conflicts:
        return []
    return [
        f"{pictures(len(report.conflicts))} with more than one label, for the same pixels; "
        f"the first: {' and '.join(report.conflicts[0][:3])}. Decide on one label."
    ]


def _about_duplicates(report: DataReport) -> list[str]:
    told = []
    if report.duplicates:
        extra = sum(len(group) - 1 for group in report.duplicates)
        told.append(
            f"{pictures(extra)} more than once in the same split; the first: "
            f"{' and '.join(report.duplicates[0][:3])}. Copies count double; keep one of each."
        )
    if report.near_duplicates:
        first = " and ".join(report.near_duplicates[0][:3])
        told.append(
            f"{len(report.near_duplicates):,} group{'s' * (len(report.near_duplicates) > 1)} of pictures that look the "
            f"same; the first: {first}. Look at them; keep each group in one split."
        )
    return told


def _about_classes(report: DataReport) -> list[str]:
    split = "train" if "train" in report.pictures else next(iter(report.pictures))
    counts = {name: by_split[split] for name, by_split in report.classes.items()}
    if report.graded or not counts or not any(counts.values()):
        return []
    told = []
    empty = [name for name, count in counts.items() if count == 0]
    few = [name for name, count in counts.items() if 0 < count < FEW]
    if empty:
        told.append(f"no {split} picture of {listed(empty)}: these classes cannot be learnt.")
    if few:
        told.append(f"fewer than {FEW} {split} pictures of {listed(few)}: collect more, or start from a trained model.")
    if UNEVEN < report.imbalance < float("inf"):
        largest, smallest = max(counts, key=lambda n: counts[n]), min(counts, key=lambda n: counts[n])
        things, try_ = "pictures", "--class-weights balanced or --sampling balanced, and read balanced accuracy"
        if report.boxes is not None:
            things, try_ = "objects", "--sampling balanced, and read the average precision of each class"
        told.append(f"{largest} has {report.imbalance:.0f} times as many {split} {things} as {smallest}: try {try_}.")
    for other in report.pictures:
        lacking = [name for name, by_split in report.classes.items() if not by_split[other] and counts[name]]
        if other != split and lacking and report.pictures[other]["unlabelled"] < report.pictures[other]["pictures"]:
            told.append(f"no {other} picture of {listed(lacking)}: these classes are not judged there.")
    return told


def _about_pictures(report: DataReport) -> list[str]:
    told = []
    if report.tiny:
        told.append(
            f"{pictures(len(report.tiny))} far smaller than the rest; the first: {report.tiny[0]}. "
            "A thumbnail among photos is often a mistake."
        )
    if report.grey_in_colour:
        told.append(
            f"{pictures(len(report.grey_in_colour))} grey in a set of colour; the first: {report.grey_in_colour[0]}. "
            "Harmless, unless one class has most of them."
        )
    return told


def pictures(count: int) -> str:
    return f"{count:,} picture{'s' * (count != 1)}"


def listed(names: list[str], most: int = 5) -> str:
    """`cat, dog and 3 more`."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
