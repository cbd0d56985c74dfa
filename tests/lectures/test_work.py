"""Part C on tiny or made-up runs, the real ones are slow; outside truths: worked examples, SciPy, scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lectures.known import Known, agreeing, said

from striate.lectures.page import innermost
from striate.lectures.work import classify, emotion, rating, robustness, scenes, transfer


def runs(**last: float) -> dict[str, Any]:
    return {
        f"{way}-{count}": {"curve": [0.5, value], "seconds": {"features": 5, "finetune": 20, "scratch": 20}[way]}
        for way, value in last.items()
        for count in (10, 48)
    }


def test_without_data_it_says_what_to_fetch(tmp_path: Path):
    shown = transfer.show(Known(tmp_path))
    assert not shown.checks
    assert [line.split()[0] for line in shown.missing] == ["hymenoptera.zip", "squeezenet1_0-imagenet.safetensors"]
    only = transfer.show(Known(tmp_path, places={"hymenoptera": tmp_path}))
    assert len(only.missing) == 1


def test_transfer_is_judged_by_its_accuracies(tmp_path: Path):
    places = {"hymenoptera": tmp_path, transfer.WEIGHTS: tmp_path}
    shown = transfer.show(Known(tmp_path, places=places, known=runs(features=0.87, finetune=0.89, scratch=0.5)))
    assert [check.agrees for check in shown.checks] == [True] * 5
    assert shown.checks[0].ours == "87.0% against 50.0%"
    worse = transfer.show(Known(tmp_path, places=places, known=runs(features=0.4, finetune=0.89, scratch=0.5)))
    assert not worse.checks[0].agrees


def test_labels_keep_apart():
    from striate.lectures.diagrams import apart

    assert apart({"a": 87.0, "b": 89.0, "c": 50.0}, 5) == {"b": 89.0, "a": 84.0, "c": 50.0}


def test_some_pictures_are_the_same_every_time(tmp_path: Path):
    for split, count in (("train", 6), ("val", 3)):
        for label in ("ants", "bees"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "set" / split / label / f"{number}.jpg").write_bytes(b"")
    one, other = (transfer.some_pictures(tmp_path / "set", tmp_path / name, 2) for name in ("one", "other"))
    names = [sorted(str(path.relative_to(where)) for path in where.rglob("*.jpg")) for where in (one, other)]
    assert names[0] == names[1]
    assert len(list((one / "train").rglob("*.jpg"))) == 4
    assert len(list((one / "val").rglob("*.jpg"))) == 6


@pytest.mark.slow
def test_transfer_on_real_pictures(shared_data, shared_file, tmp_path: Path):
    places = {"hymenoptera": shared_data("hymenoptera"), transfer.WEIGHTS: shared_file(transfer.WEIGHTS)}
    found = transfer.trained(*places.values(), Known(tmp_path), (48,), 2)
    assert found["features-48"]["curve"][-1] > 0.8  # bench: 0.87


@pytest.mark.slow
def test_robustness_on_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(robustness, "EPOCHS", 8)
    shown = robustness.show(Known(tmp_path))
    assert [check.agrees for check in shown.checks] == [True, True]
    assert sum(len(section.figures) for section in shown.sections) == 3


def test_robustness_is_drawn_from_what_was_remembered(tmp_path: Path):
    curve = {"unit": "degrees", "strengths": [1, 2, 3, 4, 5], "values": [0.9, 0.8, 0.7, 0.6, 0.5], "kept": 0.7}
    picture = [[0.0, 1.0], [1.0, 0.0]]
    example = {"picture": picture, "changed": picture, "before": [1, 0.9], "after": [7, 0.6]}
    known = {
        "clean": 0.98,
        "count": 288,
        "sentence": "rotation costs most",
        "curves": {"rotation": curve, "blur": curve},
        "fgsm": [0.98, 0.8, 0.5, 0.3, 0.1, 0.0],
        "noise": [0.98, 0.98, 0.97, 0.9, 0.7, 0.4],
        "examples": [example],
    }
    shown = robustness.show(Known(tmp_path, known=known))
    assert [check.agrees for check in shown.checks] == [True, True]
    known["fgsm"] = known["noise"]
    assert not robustness.show(Known(tmp_path, known=known)).checks[1].agrees


@pytest.mark.slow
@pytest.mark.parametrize("module", [transfer, robustness, classify])
def test_ten_lines_run(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert len(module.PYTHON.splitlines()) <= 10
    printed = said(module.PYTHON)
    assert any(part in printed for part in ("features: 0.", "costs most", "are named rightly"))
    assert not list(tmp_path.iterdir())


# C1


def test_classification_without_data_is_worked_by_hand(tmp_path: Path):
    shown = classify.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert shown.checks[0].ours == "-0.3410, +0.2424, +0.0986"  # softmax of 2, 1, 0.1 is 0.6590, 0.2424, 0.0986
    names = [line.split()[0] for line in shown.missing]
    assert names == ["mnist.zip", classify.WEIGHTS, "imagenet-samples.zip", "imagenet-classes.txt"]


def test_digits_are_judged_by_their_confusion(tmp_path: Path):
    mistake = {"picture": [[0, 255], [255, 0]], "truth": 3, "said": 5, "sure": 0.9}
    confusion = (99 * torch.eye(10, dtype=torch.int64) + torch.eye(10, dtype=torch.int64).roll(1, 1)).tolist()
    check, section = classify.digits({"accuracy": 0.99, "confusion": confusion, "worst": [mistake]})
    assert check.agrees
    assert check.ours == "99.00%: 10 of 1,000 wrong"
    assert section.tables[0].rows[0] == ["0", 100, "99.0%", "99.0%"]
    worse, _ = classify.digits({"accuracy": 0.9, "confusion": confusion, "worst": [mistake]})
    assert not worse.agrees


def test_photographs_agree_within_two_standard_errors():
    from striate.data.sample import Sample

    samples = {str(at): Sample(torch.zeros(3, 40, 60, dtype=torch.uint8), 0, str(at)) for at in range(100)}
    top = [["a, b", 0.6], ["c", 0.2], ["d", 0.1], ["e", 0.05], ["f", 0.01]]

    def checks(first: int, fifth: int) -> list[bool]:
        ranks = [1] * first + [3] * (fifth - first) + [9] * (100 - fifth)
        rows = [{"name": str(at), "truth": "c", "rank": rank, "top": top} for at, rank in enumerate(ranks)]
        return [check.agrees for check in classify.photographs(rows, samples)[0]]

    assert checks(62, 84) == [True, True]
    assert checks(72, 90) == [False, True]  # 2 × √(0.621 · 0.379 / 100) = 0.097; 2 × √(0.84 · 0.16 / 100) = 0.073
    assert checks(62, 70) == [True, False]


# C3


def coco(where: Path, count: int) -> Path:
    """Photographs of noise: all have a dog, every second a cat, every third a tree."""
    from PIL import Image

    labels = where / "object_detection" / "labels"
    for folder in (labels, where / "images"):
        folder.mkdir(parents=True)
    (where / "object_detection" / "config.yaml").write_text("names: {0: cat, 1: dog, 2: tree}")
    for number in range(count):
        there = [1] + [0] * (number % 2 == 0) + [2] * (number % 3 == 0)
        (labels / f"{number:03}.txt").write_text("".join(f"{label} 0.5 0.5 0.1 0.1\n" for label in there))
        Image.new("RGB", (32, 32), (number, 0, 0)).save(where / "images" / f"{number:03}.jpg")
    (labels / "999.txt").write_text("0 0.5 0.5 0.1 0.1\n")  # its photograph is not there
    return where


def test_labels_of_photographs_are_listed(tmp_path: Path):
    labels, on = scenes.listed(coco(tmp_path, 12))
    assert labels == ["dog", "cat"]  # 12 and 6; 4 trees are too few
    assert {Path(path).stem: found for path, found in on.items()}["000"] == ["cat", "dog"]
    assert len(on) == 12


def test_several_labels_are_judged_against_chance(tmp_path: Path):
    photos = coco(tmp_path / "coco", 12)
    known = {
        "labels": ["dog", "cat", *"efgh"],
        "logits": [[3.0, 2.0 - number, -1, -2, -3, -4] for number in range(4)],
        "truth": [[1, 1, 0, 0, 0, 0]] + [[1, 0, 0, 0, 0, 0]] * 3,
        "photos": [f"{number:03}.jpg" for number in range(4)],
    }
    assert scenes.precisions(known) == {"dog": (1.0, 1.0, 4), "cat": (1.0, 0.25, 1)}
    shown = scenes.show(Known(tmp_path, places={"coco128-train": photos, scenes.WEIGHTS: tmp_path}, known=known))
    assert agreeing(shown) == [True, True, False]  # 1.00 is not more than twice 0.625
    assert shown.checks[0].printed == "1.00 and 1.85"  # σ(3) + σ(2) + σ(−4) = 0.9526 + 0.8808 + 0.0180
    assert "1.00 against 0.62" in shown.checks[2].ours
    assert shown.missing == shown.missing[:1]


def test_places_are_counted(tmp_path: Path):
    (tmp_path / "IO_places365.txt").write_text("/a/airfield 2\n/b/bar 1\n/b/barn/outdoor 2\n")
    (tmp_path / "labels_sunattribute.txt").write_text("boating\ndriving\n")
    (check,), section = scenes.places(tmp_path)
    assert not check.agrees
    assert [row[1] for row in section.tables[0].rows] == [1, 2, 2]
    assert section.tables[0].rows[1][2] == "airfield, barn/outdoor"


# C4


def test_votes_are_written_as_ava_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    from striate.data import open_dataset

    monkeypatch.setattr(rating, "COUNT", 8)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        Image.effect_noise((64, 48), 60).convert("RGB").save(photos / f"{number}.JPEG")
    dataset = open_dataset(str(rating.written(photos, tmp_path / "ava")), val_fraction=0.2, seed=0)
    samples = [sample for split in dataset.splits.values() for sample in split]
    assert len(samples) == 40
    assert all(sum(sample.target.counts) == 200 for sample in samples)
    held = {int(Path(sample.name).stem) for sample in dataset.splits["test"]}
    assert held == {1000 + number * 5 + grade for number in (0, 4) for grade in range(5)}
    means = {
        grade: [
            sample.target.mean(range(1, 11)) for sample in samples if (int(Path(sample.name).stem) - 1000) % 5 == grade
        ]
        for grade in range(5)
    }
    assert min(means[0]) > max(means[2]) > max(means[4])


def test_grades_are_judged_by_scipy(tmp_path: Path):
    sharp = [[float(grade == at) for grade in range(10)] for at in (1, 4, 7)]
    found = {"said": sharp, "voted": sharp, "names": ["1000", "1001", "1002"]}
    assert [check.agrees for check in rating.claims(found)] == [True] * 2
    assert {type(check.agrees) for check in rating.claims(found)} == {bool}  # NumPy's are no JSON
    found["said"] = sharp[::-1]  # the order turned round: off by 6, 0 and 6 grades
    checks = rating.claims(found)
    assert [check.agrees for check in checks] == [False] * 2
    assert checks[0].ours.startswith("-1.000")
    assert checks[1].ours.startswith("4.00 against")
    assert rating.expected([0, 0.5, 0, 0.5]) == 3
    assert rating.spread([0, 0.5, 0, 0.5]) == 1


def test_distances_of_sure_answers_are_roots(tmp_path: Path):
    shown = rating.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert shown.checks[0].ours == "0.316, 0.707, 0.949"
    assert len(shown.missing) == 2


# C5


def test_emotions_are_weighted_as_fer2013_has_them():
    perfect = (50 * torch.eye(7, dtype=torch.int64)).tolist()
    face = {"picture": [[0, 255], [255, 0]], "truth": "sad", "said": "fear", "sure": 0.8}
    checks = emotion.claims({"accuracy": 1.0, "confusion": perfect, "faces": [face]})
    assert [check.agrees for check in checks] == [False, True]
    happy = [[0] * 7 for _ in range(7)]
    for row in happy:
        row[3] = 50  # all are called happy: 895 of 3,589 are
    checks = emotion.claims({"accuracy": 1 / 7, "confusion": happy, "faces": [face]})
    assert [check.ours for check in checks] == [f"{895 / 3589:.1%}", "14.3% against 14.3%"]
    assert [check.agrees for check in checks] == [False, False]
    assert emotion.said({"confusion": happy, "faces": [face]}).tables[0].rows[0] == ["angry", 50, "0%", "happy (50)"]


def test_mini_xception_has_about_sixty_thousand_weights(tmp_path: Path):
    shown = emotion.show(Known(tmp_path))
    assert agreeing(shown) == [True]
    assert [line.split()[0] for line in shown.missing] == ["fer2013.zip", "weights.zip"]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (scenes, ["sum 1.00", "sum 1.85"]),
        (rating, ["said 5, voted 10: 0.707 = √(5 / 10)"]),
        (emotion, ["56,951 weights", "module4: [128, 4, 4]"]),
    ],
)
def test_quick_lines_run(module: Any, expected: list[str]):
    assert len(module.PYTHON.splitlines()) <= 10
    printed = said(module.PYTHON)
    for part in expected:
        assert part in printed


# the real ones


@pytest.mark.slow
def test_classification_of_real_digits(shared_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(classify, "COUNT", 6_000)
    monkeypatch.setattr(classify, "EPOCHS", 4)
    found = classify.trained(innermost(shared_data("mnist"), "mnist"), Known(tmp_path))
    assert found["accuracy"] > 0.93
    assert sum(map(sum, found["confusion"])) == 5_001
    assert all(one["said"] != one["truth"] for one in found["worst"])


@pytest.mark.slow
def test_several_labels_of_real_photographs(shared_data, shared_file, tmp_path: Path):
    places = {
        scenes.PHOTOS: innermost(shared_data(scenes.PHOTOS), scenes.PHOTOS),
        scenes.LISTS: innermost(shared_data(scenes.LISTS), scenes.LISTS),
        scenes.WEIGHTS: shared_file(scenes.WEIGHTS),
    }
    assert all(agreeing(scenes.show(Known(tmp_path, places=places))))


@pytest.mark.slow
def test_grades_of_real_photographs(shared_data, shared_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rating, "COUNT", 40)
    places = {
        rating.PHOTOS: innermost(shared_data(rating.PHOTOS), rating.PHOTOS),
        rating.WEIGHTS: shared_file(rating.WEIGHTS),
    }
    assert agreeing(rating.show(Known(tmp_path, places=places)))[:2] == [True, True]


@pytest.mark.slow
def test_emotions_of_real_faces(shared_data, tmp_path: Path):
    places = {name: innermost(shared_data(name), name) for name in (emotion.FACES, emotion.KEPT)}
    shown = emotion.show(Known(tmp_path, places=places))
    assert shown.checks[2].ours == "53.8% against 14.6%"  # as `python -m bench emotion` has it
