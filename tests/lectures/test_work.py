"""Part C: transfer against scratch, and robustness, on tiny or made-up runs; the real ones are slow."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from striate.lectures.page import Setting
from striate.lectures.work import robustness, transfer


@dataclass(frozen=True)
class Known(Setting):
    """What was found, by name, and what every long run gave; None: run."""

    places: Any = None
    known: Any = None

    def found(self, name: str) -> Path | None:
        return (self.places or {}).get(name)

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return compute() if self.known is None else self.known


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
@pytest.mark.parametrize("module", [transfer, robustness])
def test_ten_lines_run(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert len(module.PYTHON.splitlines()) <= 10
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(module.PYTHON, "PYTHON", "exec"), {"__name__": "__main__"})
    assert "features: 0." in out.getvalue() or "costs most" in out.getvalue()
    assert not list(tmp_path.iterdir())
