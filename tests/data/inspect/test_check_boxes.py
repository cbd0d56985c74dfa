"""What `data check` says of boxes, on data made to have each fault."""

from __future__ import annotations

import pytest
import torch

from striate.data import open_dataset
from striate.data.inspect.check import check_dataset
from striate.data.inspect.check_boxes import check_boxes, repeated
from striate.data.sample import Dataset, Sample
from striate.data.statistics import fingerprint
from striate.data.targets import DIFFICULT, PLAIN, Objects, Points


def test_each_fault_is_counted():
    twice = Objects.of([[10, 10, 60, 60], [10, 10, 60, 61], [10, 10, 60, 60]], [0, 0, 1])
    tiny = Objects.of([[0, 0, 4, 4], [0, 0, 100, 100]], [0, 1], kinds=[PLAIN, DIFFICULT])
    places = [("a", twice, (320, 320)), ("b", tiny, (320, 320)), ("c", Objects.of([], []), (320, 320))]
    found = check_boxes(places, ("x", "y", "z"))
    assert found is not None
    assert (found.count, found.ignored, found.without, found.tiny) == (5, 1, 1, 1)
    assert found.twice == ["a"]
    assert found.unused == ["z"]
    assert found.per_picture == {"min": 0.0, "median": 2.0, "max": 3.0}
    assert found.sides["50 %"] == pytest.approx(50 / 320)


def test_boxes_of_other_classes_or_apart_are_no_repetition():
    assert not repeated(Objects.of([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 1]))
    assert not repeated(Objects.of([[0, 0, 10, 10], [0, 0, 10, 12]], [0, 0]))
    assert not repeated(Objects.of([[0, 0, 10, 10]] * 2, [0, 0], kinds=[PLAIN, DIFFICULT]))


def test_a_set_of_boxes_is_checked_whole():
    dataset = open_dataset("shapes")
    dataset.splits = {name: samples[:12] for name, samples in dataset.splits.items()}
    report = check_dataset(dataset)
    assert report.boxes is not None
    total = sum(len(sample.target) for samples in dataset.splits.values() for sample in samples)
    assert report.boxes.count == total
    assert sum(count for by_split in report.classes.values() for count in by_split.values()) == total
    assert report.conflicts == []


def test_the_fingerprint_sees_a_change_in_the_middle_of_many_boxes():
    boxes = torch.rand(2000, 4)

    def mark(values: torch.Tensor) -> str:
        sample = Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), Objects.of(values, torch.zeros(2000)), "x")
        return fingerprint(Dataset("s", "f", "detect", ("a",), {"train": [sample]}))

    changed = boxes.clone()
    changed[1000, 2] += 1
    assert mark(boxes) == mark(boxes.clone()) != mark(changed)
    points = [
        Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), Points(torch.full((2, 3), float(n))), "x") for n in (0, 1)
    ]
    marks = {fingerprint(Dataset("s", "f", "keypoints", ("a", "b"), {"train": [point]})) for point in points}
    assert len(marks) == 2
