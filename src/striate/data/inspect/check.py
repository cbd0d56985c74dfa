"""What is in a data set and what is wrong with it: every picture is read, none is kept."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from striate.data.inspect.check_boxes import BoxFindings, check_boxes
from striate.data.inspect.near_duplicates import look_hash, near_groups
from striate.data.inspect.suggestions import suggest
from striate.data.sample import Dataset, Sample
from striate.data.statistics import fingerprint
from striate.data.targets import Target, class_ids
from striate.errors import ImageError
from striate.images import read_image

AT_A_TIME = 512  # pictures handed to the threads before results are collected


@dataclass(frozen=True, slots=True)
class Reading:
    """One picture's facts, or why it has none.

    `digest` is of the pixels, so a picture saved again without loss under another name or format is the same.
    """

    split: str
    name: str
    target: Target | None
    error: str = ""
    height: int = 0
    width: int = 0
    grey: bool = False
    digest: bytes = b""
    look: int | None = None


@dataclass
class DataReport:
    """What `check_dataset` found.

    Attributes:
        pictures: split → {"pictures", "readable", "unlabelled"}.
        graded: True where pictures have votes; each then counts for the grade nearest to its mean.
        classes: class → split → how many readable pictures have it.
        sizes: {"height", "width"} → {"min", "median", "max"}, of readable pictures.
        common_sizes: up to five most frequent `HxW` → how many.
        modes: {"colour", "grey"} → how many; a colour file whose three channels are equal counts as grey.
        unreadable: {"split", "name", "reason"} each.
        duplicates: groups of `split: name` with equal pixels, all in one split.
        leaks: such groups that stand in more than one split.
        conflicts: such groups whose labels differ.
        near_duplicates: groups that look the same (scaled, saved again); only when asked for.
        imbalance: the largest class of the training split over the smallest; infinite when one is empty.
        tiny: `split: name` of pictures far smaller than the rest.
        grey_in_colour: `split: name` of grey pictures where most are in colour.
        suggestions: what to do about it, in plain words.
    """

    source: str
    format: str
    task: str
    multi_label: bool
    graded: bool
    fingerprint: str
    pictures: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    sizes: dict[str, dict[str, float]] = field(default_factory=dict)
    common_sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    leaks: list[list[str]] = field(default_factory=list)
    conflicts: list[list[str]] = field(default_factory=list)
    boxes: BoxFindings | None = None  # of data with boxes; `classes` then counts objects
    near_duplicates: list[list[str]] = field(default_factory=list)
    imbalance: float = 1.0
    tiny: list[str] = field(default_factory=list)
    grey_in_colour: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)

    @property
    def readable(self) -> int:
        return sum(counts["readable"] for counts in self.pictures.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite imbalance becomes None."""
        return asdict(self) | {"imbalance": None if self.imbalance == float("inf") else round(self.imbalance, 3)}


def check_dataset(
    dataset: Dataset,
    workers: int | None = None,
    *,
    near: bool = False,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Read every picture of every split and say what is there, what is broken and what is twice there.

    Args:
        dataset: as `open_dataset` gives it.
        workers: threads that read; one a processor when not given.
        near: also look for pictures that are nearly the same.
        progress: called with the number of pictures read so far.

    Returns:
        The report. Pictures that cannot be read are listed in it, never raised.
    """
    readings: list[Reading] = []
    for reading in _read_all(dataset, workers or os.cpu_count() or 1, near):
        readings.append(reading)
        if progress is not None:
            progress(len(readings))
    good = [reading for reading in readings if not reading.error]
    report = DataReport(
        source=dataset.source,
        format=dataset.format,
        task=dataset.task,
        multi_label=dataset.multi_label,
        graded=any(r.target is not None and isinstance(r.target.stratum(), float) for r in readings),
        fingerprint=fingerprint(dataset),
        pictures=_count_pictures(dataset, good),
        classes=_count_classes(dataset, good),
        unreadable=[{"split": r.split, "name": r.name, "reason": r.error} for r in readings if r.error],
        notes=list(dataset.notes),
    )
    if good:
        _describe_sizes(report, good)
        _describe_modes(report, good)
    _find_duplicates(report, good)
    if near:
        _find_near_duplicates(report, good)
    listed = [(reading, reading.target.objects()) for reading in good if reading.target is not None]
    boxed = [(_place(r), objects, (r.height, r.width)) for r, objects in listed if objects is not None]
    report.boxes = check_boxes(boxed, dataset.classes)
    report.imbalance = _imbalance(report, dataset)
    report.suggestions = suggest(report)
    return report


def _read_all(dataset: Dataset, workers: int, near: bool) -> Iterator[Reading]:
    """Readings in the order of the data set; files are decoded in threads (decoders release the GIL)."""
    places = [(split, sample) for split, samples in dataset.splits.items() for sample in samples]
    if all(isinstance(sample.image, Tensor) for _, sample in places):
        yield from (_read(split, sample, near) for split, sample in places)  # too little work to share
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(places), AT_A_TIME):  # so that Ctrl-C waits for few
            yield from pool.map(lambda place: _read(place[0], place[1], near), places[start : start + AT_A_TIME])


def _read(split: str, sample: Sample, near: bool) -> Reading:
    try:
        image = sample.image if isinstance(sample.image, Tensor) else read_image(sample.image)
    except ImageError as error:
        return Reading(split, sample.name, sample.target, error=str(error))
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())  # [H, W, C]: a view of what decoders give
    height, width, channels = pixels.shape
    red = pixels[..., 0]
    grey = channels == 1 or bool(np.array_equal(red, pixels[..., 1]) and np.array_equal(red, pixels[..., 2]))
    digest = hashlib.blake2b(f"{height} {width} ".encode(), digest_size=16)
    digest.update(
        (np.ascontiguousarray(red) if grey else pixels).data
    )  # grey is grey, with one channel or three equal ones
    look = look_hash(image) if near else None
    return Reading(split, sample.name, sample.target, "", height, width, grey, digest.digest(), look)


def _count_pictures(dataset: Dataset, good: list[Reading]) -> dict[str, dict[str, int]]:
    readable = Counter(reading.split for reading in good)
    return {
        split: {
            "pictures": len(samples),
            "readable": readable[split],
            "unlabelled": sum(sample.target is None for sample in samples),
        }
        for split, samples in dataset.splits.items()
    }


def _count_classes(dataset: Dataset, good: list[Reading]) -> dict[str, dict[str, int]]:
    counts = Counter((reading.split, label) for reading in good for label in class_ids(reading.target))
    return {
        name: {split: counts[split, index] for split in dataset.splits} for index, name in enumerate(dataset.classes)
    }


def _describe_sizes(report: DataReport, good: list[Reading]) -> None:
    for side in ("height", "width"):
        values = np.array([getattr(reading, side) for reading in good])
        report.sizes[side] = {
            "min": int(values.min()),
            "median": float(np.median(values)),
            "max": int(values.max()),
        }
    common = Counter(f"{reading.height}x{reading.width}" for reading in good).most_common(5)
    report.common_sizes = dict(common)
    shorter = np.array([min(reading.height, reading.width) for reading in good])
    limit = max(8.0, float(np.median(shorter)) / 4)
    report.tiny = [_place(reading) for reading, side in zip(good, shorter, strict=True) if side < limit]


def _describe_modes(report: DataReport, good: list[Reading]) -> None:
    grey = [_place(reading) for reading in good if reading.grey]
    report.modes = {"colour": len(good) - len(grey), "grey": len(grey)}
    if 0 < len(grey) < len(good) / 2:
        report.grey_in_colour = grey


def _find_duplicates(report: DataReport, good: list[Reading]) -> None:
    groups: dict[bytes, list[Reading]] = defaultdict(list)
    for reading in good:
        groups[reading.digest].append(reading)
    for group in groups.values():
        if len(group) == 1:
            continue
        places = [_place(reading) for reading in group]
        across = len({reading.split for reading in group}) > 1
        (report.leaks if across else report.duplicates).append(places)
        if len({tuple(sorted(class_ids(reading.target))) for reading in group if reading.target is not None}) > 1:
            report.conflicts.append(places)


def _find_near_duplicates(report: DataReport, good: list[Reading]) -> None:
    looks: dict[bytes, tuple[int, str]] = {}  # one for each exact group: those are told already
    for reading in good:
        if reading.look is not None:
            looks.setdefault(reading.digest, (reading.look, _place(reading)))
    report.near_duplicates = near_groups(list(looks.values()))


def _imbalance(report: DataReport, dataset: Dataset) -> float:
    split = "train" if "train" in dataset.splits else next(iter(dataset.splits))
    counts = [by_split[split] for by_split in report.classes.values()]
    if not counts or max(counts) == 0:
        return 1.0
    return max(counts) / min(counts) if min(counts) else float("inf")


def _place(reading: Reading) -> str:
    return f"{reading.split}: {reading.name}"
