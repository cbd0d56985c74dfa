"""The benchmarks of the lectures' claims: their whole way on made-up pictures; their verdicts on made-up results."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import depth, emotion, harness
from bench.__main__ import main
from bench.depth import Trained
from bench.harness import ROOT


def make_pictures(folder: Path, splits: dict[str, int], classes: Iterable[str], size: int, mode: str) -> Path:
    """`FOLDER/<split>/<class>/<number>.png`: noise, lighter from class to class."""
    random = np.random.default_rng(0)
    for split, count in splits.items():
        for level, label in enumerate(classes):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                values = random.integers(0, 100, (size, size, len(mode)), dtype=np.uint8) + 20 * level
                Image.fromarray(values.squeeze(), mode).save(folder / split / label / f"{number}.png")
    return folder


def within_this_process(command: Sequence[str | Path]) -> str:
    """In place of `bench.harness.run`: spares each command the seconds that importing torch takes."""
    from striate.cli import main as striate

    _, dash, module, *arguments = map(str, command)
    assert (dash, module) == ("-m", "striate")
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout), pytest.raises(SystemExit) as ended:
        striate(arguments)
    assert ended.value.code == 0, shlex.join(arguments)
    return stdout.getvalue()


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Rows that --record would have appended."""
    rows: list[dict[str, Any]] = []
    monkeypatch.setattr(harness, "append", lambda row: rows.append(json.loads(json.dumps(row))))
    return rows


def test_depth_goes_all_the_way(tmp_path: Path, monkeypatch, capsys):
    pictures = make_pictures(tmp_path / "cifar", {"train": 9, "test": 4}, ("cat", "dog"), 16, "RGB")
    monkeypatch.setattr(depth, "dataset", lambda name: pictures)
    monkeypatch.setattr(depth, "run", within_this_process)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # set by the benchmark; this puts it back
    rows = recorded(monkeypatch)
    options = ["--networks", "plain-20", "residual-20", "--epochs", "2", "--limit", "16", "--held-out", "6"]
    picture = tmp_path / "depth.png"
    assert main(["depth", *options, "--jobs", "1", "--record", "--picture", str(picture)]) == 0
    [row] = rows
    assert row["facts"]["pictures"] == "16 to train, 6 held out"
    for name in ("plain-20", "residual-20"):
        assert 0 <= float(row["facts"][f"training error of {name}"].split()[0]) <= 1
    assert not [fact for fact in row["facts"] if "minus" in fact]  # no pair of the claim was trained
    assert Image.open(picture).width > 500
    printed = capsys.readouterr().err
    assert "plain-20 " in printed
    assert "residual-20 " in printed


def test_depth_draws_the_same_number_of_each_class(tmp_path: Path):
    source = make_pictures(tmp_path / "all", {"train": 5}, ("a", "b", "c"), 8, "L") / "train"
    assert depth.link_some(source, tmp_path / "some", 10) == 9
    assert [len(list((tmp_path / "some" / label).iterdir())) for label in "abc"] == [3, 3, 3]
    assert depth.link_some(source, tmp_path / "most", 99) == 15
    depth.link_some(source, tmp_path / "again", 10)
    assert names(tmp_path / "again") == names(tmp_path / "some")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def errors(**values: Sequence[float]) -> dict[str, list[Trained]]:
    return {name.replace("_", "-"): [Trained([], error, 0.5, 1.0) for error in runs] for name, runs in values.items()}


@pytest.mark.parametrize(
    ("plain20", "plain56", "residual20", "residual56", "held"),
    [
        ([0.2], [0.4], [0.1], [0.05], [True, True, True]),  # as in the paper
        ([0.4], [0.2], [0.1], [0.05], [False, True, True]),
        ([0.2], [0.21], [0.1], [0.05], [False, True, True]),  # within noise, 2 √((0.16 + 0.1659) / 1000) = 0.036
        ([0.2], [0.4], [0.1], [0.15], [True, False, True]),
        ([0.2], [0.4], [0.1], [0.11], [True, True, True]),  # above, but within noise
        ([0.2], [0.4], [0.4], [0.4], [True, True, False]),
        ([0.0], [0.0], [0.0], [0.0], [False, True, False]),  # nothing to tell apart
        ([0.2, 0.2], [0.21, 0.21], [0.1, 0.1], [0.1, 0.1], [True, True, True]),  # over seeds there is no noise
        ([0.1, 0.3], [0.2, 0.4], [0.1, 0.1], [0.1, 0.1], [False, True, True]),  # 0.1, noise 2 √(0.1² + 0.1²)
    ],
)
def test_depth_fails_when_a_claim_does_not_hold(plain20, plain56, residual20, residual56, held):
    found = errors(plain_20=plain20, plain_56=plain56, residual_20=residual20, residual_56=residual56)
    assert [holds for _, holds in depth.judge(found, 1000).values()] == held


def test_noise_of_one_seed_and_of_several():
    assert depth.noise_of([0.5], [0.5], 200) == pytest.approx(2 * sqrt(2 * 0.25 / 200))
    # deviations √2/10 and √2/5, so standard errors 0.1 and 0.2
    assert depth.noise_of([0.1, 0.3], [0.2, 0.6], 200) == pytest.approx(2 * sqrt(0.01 + 0.04))


def test_emotion_goes_all_the_way(tmp_path: Path, shared_data, monkeypatch, capsys):
    pytest.importorskip("h5py")
    faces = make_pictures(tmp_path / "fer", {"train": 10, "validation": 2}, sorted(emotion.CLASSES), 48, "L")
    where = {"fer2013": faces, "weights": shared_data("weights") / "weights"}
    monkeypatch.setattr(emotion, "dataset", where.__getitem__)
    monkeypatch.setattr(emotion, "run", within_this_process)
    rows = recorded(monkeypatch)
    picture = tmp_path / "emotion.png"
    assert main(["emotion", "--epochs", "1", "--record", "--picture", str(picture)]) == 1  # noise shows no emotion
    [row] = rows
    assert row["ok"] is False
    for side in ("trained", "public"):
        assert row["facts"][f"accuracy of {side}"][0].endswith("on 14 faces")
        assert row["facts"][f"recalls of {side}"][0].keys() == set(emotion.CLASSES)
    assert Image.open(picture).width > 500
    assert capsys.readouterr().err.count("recall\n") == 2


def answer(classes: list[str], confusion: list[list[int]]) -> dict[str, Any]:
    total = sum(map(sum, confusion))
    right = sum(row[index] for index, row in enumerate(confusion)) / total
    accuracy = {"value": right, "low": right - 0.1, "high": right + 0.1}
    return {"classes": classes, "confusion": confusion, "samples": total, "scalars": {"accuracy": accuracy}}


def test_recalls_weighted_as_on_fer2013():
    said = answer(["happy", "disgust", "neutral"], [[9, 1, 0], [3, 1, 0], [0, 0, 0]])
    recalls = emotion.recalls_of(said)
    assert recalls == {"happy": 0.9, "disgust": 0.25}  # no neutral face was shown
    assert emotion.at_shares(recalls) == pytest.approx((0.9 * 895 + 0.25 * 56) / (895 + 56))


@pytest.mark.parametrize(("right", "passes"), [((40, 53), True), ((30, 53), False), ((40, 50), False)])
def test_emotion_fails_when_either_is_too_bad(right, passes):
    sides = zip(("trained", "public"), right, strict=True)
    said = {side: [answer(["happy", "sad"], [[hits, 100 - hits], [0, 0]])] for side, hits in sides}
    assert emotion.passed(said) is passes


@pytest.mark.slow
def test_depth_hurts_plain_networks_and_not_residual_ones(shared_data, tmp_path):
    """He et al. 2015, figures 1 and 6, as the lectures claim: 24 minutes on two cores."""
    shared_data("cifar10-jpg")
    command = [sys.executable, "-m", "bench", "depth", "--picture", str(tmp_path / "depth.png")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
