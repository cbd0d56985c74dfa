"""Scores and votes read: AVA's list, CSVs with numbers, classes whose names are numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data import open_dataset
from striate.data.inspect.check import check_dataset
from striate.data.inspect.contact_sheet import dataset_sheet
from striate.data.sample import Sample, remap_classes
from striate.data.scores import MOST_GRADES, grades_of, votes_for
from striate.data.statistics import fingerprint
from striate.data.targets import Votes, class_ids, target_names
from striate.errors import DataError, UsageError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (len(path.name) * 7 % 256, hash(path.name) % 256, 9)).save(path)


def ava(root: Path, lines: list[str], present: list[str], folder: str = "images") -> Path:
    (root / "AVA.txt").write_text("\n".join(lines) + "\n")
    for identity in present:
        picture(root / folder / f"{identity}.jpg")
    return root


def line(number: int, identity: int, *counts: int) -> str:
    return f"{number} {identity} {' '.join(map(str, counts))} 1 22 1396"


# the first line of the real AVA.txt
REAL = "1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396"


@pytest.mark.parametrize("folder", ["images", "image", "."])
def test_avas_list_is_read_wherever_its_pictures_lie(tmp_path, folder):
    lines = [REAL, *(line(i, 100 + i, *([0] * (i % 9) + [3, 4] + [0] * (8 - i % 9))) for i in range(2, 21))]
    root = ava(tmp_path, lines, ["953619", *(str(100 + i) for i in range(2, 21))], folder)
    dataset = open_dataset(root, val_fraction=0.2)
    assert (dataset.format, dataset.task, dataset.classes) == ("ava", "score", tuple("12345678") + ("9", "10"))
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 16, "val": 4}
    first = next(s for samples in dataset.splits.values() for s in samples if s.name.endswith("953619.jpg"))
    assert first.target == Votes((0, 1, 5, 17, 38, 36, 15, 6, 5, 1))
    # 5.637: what the literature computes for AVA's first picture
    assert target_names(first.target, dataset.classes) == pytest.approx(5.6371, abs=1e-4)
    assert open_dataset(root / "AVA.txt", val_fraction=0).format == "ava"


def test_pictures_that_are_gone_are_told_and_the_authors_partition_is_kept(tmp_path):
    lines = [line(i, 100 + i, *[1] * 10) for i in range(1, 11)]
    root = ava(tmp_path, lines, [str(100 + i) for i in range(1, 9)])
    (root / "aesthetics_image_lists").mkdir()
    (root / "aesthetics_image_lists" / "generic_test.jpgl").write_text("101\n102\n110\n")
    dataset = open_dataset(root, val_fraction=0)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 6, "test": 2}
    assert "2 of 10 listed pictures are not there" in " ".join(dataset.notes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([REAL, "2 5 1 2 3"], "line 2: 5 numbers, there must be 15"),
        ([REAL, line(2, 7, *[0] * 10)], "line 2: nobody voted for picture 7"),
        ([REAL, REAL.replace("38", "-38")], 'line 2: "-38" is not a whole number'),
        ([REAL, REAL.replace("38", "3.8")], 'line 2: "3.8" is not a whole number'),
        ([REAL, REAL], "line 2: picture 953619 stands in line 1 already"),
        ([line(1, 8, *[1] * 10)], "none of its 1 pictures is there"),
    ],
)
def test_the_first_bad_line_is_named(tmp_path, lines, message):
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        open_dataset(ava(tmp_path, lines, ["953619"]))


def csv(root: Path, text: str) -> Path:
    rows = text.strip().splitlines()
    for row in rows[1:]:
        if row.partition(",")[0].endswith(".png"):
            picture(root / row.partition(",")[0])
    (root / "labels.csv").write_text(text)
    return root / "labels.csv"


def test_a_score_column_is_shared_between_neighbouring_grades(tmp_path):
    dataset = open_dataset(csv(tmp_path, "image,score\na.png,1.25\nb.png,5\nc.png,3.5\n"), val_fraction=0)
    assert (dataset.task, dataset.classes) == ("score", ("1", "2", "3", "4", "5"))
    targets = {sample.name: sample.target for sample in dataset.splits["train"]}
    assert targets["a.png"] == Votes((0.75, 0.25, 0, 0, 0))
    assert targets["b.png"] == Votes((0, 0, 0, 0, 1))
    assert "a score a picture; task: score, grades from 1 to 5" in dataset.notes[0]


def test_columns_of_votes_are_sorted_as_numbers(tmp_path):
    dataset = open_dataset(csv(tmp_path, "image,10,9,8\na.png,1,0,3\nb.png,0,2,0\n"), val_fraction=0)
    assert (dataset.task, dataset.classes) == ("score", ("8", "9", "10"))
    assert [sample.target for sample in dataset.splits["train"]] == [Votes((3, 0, 1)), Votes((0, 2, 0))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,score\na.png,good\n", r'line 2: "good" in column score is no number'),
        ("image,score\na.png,1\nb.png,nan\n", r'line 3: "nan" in column score is no number'),
        ("image,score\na.png,1\na.png,2\n", r"line 3: a.png has other labels than in line 2"),
        ("image,1,2,3\na.png,1,x,0\n", r'line 2: "x" in column 2: how many gave this grade'),
        ("image,1,2,3\na.png,1,-1,0\n", r'line 2: "-1" in column 2'),
        ("image,1,2,3\na.png,0,0,0\n", "line 2: nobody voted"),
        ("image,1,2,3\na.png,1,0,0\na.png,1,0,1\n", "line 3: a.png has other labels"),
    ],
)
def test_the_first_bad_cell_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        open_dataset(csv(tmp_path, text))


def test_classes_that_are_numbers_are_scores_when_asked(tmp_path):
    for grade in ("1", "2", "3", "5"):
        for number in range(10):
            picture(tmp_path / grade / f"{number}.png")
    assert open_dataset(tmp_path).task == "classify"
    dataset = open_dataset(tmp_path, task="score")
    assert dataset.classes == ("1", "2", "3", "4", "5")
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 32, "val": 8}
    assert all(sample.target.counts[int(sample.name[0]) - 1] == 1 for sample in dataset.splits["val"])
    picture(tmp_path / "good" / "0.png")
    with pytest.raises(DataError, match='class "good" is no number'):
        open_dataset(tmp_path, task="score")


def test_scores_are_no_classes(tmp_path):
    with pytest.raises(UsageError, match='task score, it cannot be read for task "classify"'):
        open_dataset(csv(tmp_path, "image,score\na.png,1\nb.png,2\n"), task="classify")


def test_checking_and_showing_understand_votes(tmp_path):
    file = csv(tmp_path, "image,score,split\na.png,1,train\nb.png,5,train\nc.png,3,val\n")
    dataset = open_dataset(file)
    report = check_dataset(dataset)
    assert report.graded
    assert report.classes["5"] == {"train": 1, "val": 0}
    assert not any("cannot be learnt" in suggestion for suggestion in report.suggestions)
    assert dataset_sheet(dataset).width > 100
    before = fingerprint(dataset)
    dataset.splits["train"][0] = Sample(dataset.splits["train"][0].image, Votes((0.5, 0.5, 0, 0, 0)), "a.png")
    assert fingerprint(dataset) != before


@given(st.lists(st.floats(-1e4, 1e4, allow_nan=False), min_size=1, max_size=20))
@settings(deadline=None)
def test_grades_hold_every_score_and_votes_keep_its_mean(scores: list[float]):
    grades = grades_of(scores)
    assert 2 <= len(grades) <= MOST_GRADES + 1
    steps = {round(high - low, 6) for low, high in pairwise(grades)}
    assert len(steps) == 1
    for score in scores:
        assert grades[0] <= score <= grades[-1]
        votes = votes_for(score, grades)
        assert min(votes.counts) >= 0
        assert sum(votes.counts) == pytest.approx(1)
        assert votes.mean(grades) == pytest.approx(score, abs=1e-6 * max(1, abs(score)))


def test_targets_as_classes_names_and_in_another_order():
    votes = Votes((1, 1, 4))
    assert (class_ids(None), class_ids(3), class_ids((2, 5)), class_ids(votes)) == ((), (3,), (2, 5), (2,))
    assert target_names((0, 2), ("a", "b", "c")) == ("a", "c")
    assert target_names(1, ("a", "b")) == "b"
    assert target_names(None, ("a",)) is None
    assert remap_classes(Sample("x", votes, "x"), (3, 1, 0), 4).target == Votes((4, 1, 0, 1))
    assert remap_classes(Sample("x", (0, 2), "x"), (3, 1, 0), 4).target == (3, 0)
    assert remap_classes(Sample("x", 1, "x"), (3, 1, 0), 4).target == 1
