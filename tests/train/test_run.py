"""A run of something that has no data set: whatever goes on in epochs has a folder, history, checkpoints, signals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from striate.errors import DataError
from striate.train.checkpoints import load_checkpoint
from striate.train.loop import TrainState
from striate.train.run import Run
from striate.train.stopping import Interrupted


class Climb:
    """Three steps an epoch up or down a line; nothing is read from anywhere."""

    lr = 0.5

    def __init__(self, folder: Path, slope: float = 1.0, stop_at: int = -1) -> None:
        self.folder, self.slope, self.stop_at = folder, slope, stop_at
        self.state, self.height, self.kept = TrainState(), 0.0, []

    def train(self, after_step: Callable[[], None]) -> None:
        while self.state.batch < 3:
            self.height += self.slope
            self.state.step += 1
            self.state.batch += 1
            self.state.images_seen += 10
            self.state.loss_sum += 1.0
            if self.state.step == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            after_step()

    def evaluate(self) -> dict[str, float]:
        return {"train_loss": self.state.loss_sum / 3, "val_height": self.height}

    def epoch_ended(self, better: bool) -> None:
        pass

    def keep(self) -> None:
        self.kept.append(self.height)

    def checkpoint(self) -> dict[str, Any]:
        return {"height": self.height, "state": dict(vars(self.state))}

    def warnings(self) -> list[str]:
        return []

    def resumed(self) -> Climb:
        found = load_checkpoint(self.folder)
        again = Climb(self.folder, self.slope)
        again.height, again.state = found["height"], TrainState(**found["state"])
        return again


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_of(folder: Path, **options: Any) -> Run:
    return Run(folder, **{"epochs": 4, "steps": 3, "decides": "val_height", "quiet": True, **options})


@pytest.mark.parametrize(("mode", "slope"), [("max", 1.0), ("min", -1.0)])
def test_better_is_kept_whichever_way_that_is(tmp_path: Path, mode: str, slope: float) -> None:
    climb = Climb(tmp_path, slope)
    run_of(tmp_path, mode=mode).go(climb)
    assert climb.kept == [3 * slope, 6 * slope, 9 * slope, 12 * slope]
    assert climb.state.best_epoch == 4
    found = rows(tmp_path)
    assert [row["val_height"] for row in found] == climb.kept
    assert [row["epoch"] for row in found] == [1, 2, 3, 4]
    assert all(row["images_per_second"] > 0 for row in found)


@pytest.mark.parametrize(("mode", "slope"), [("max", -1.0), ("min", 1.0)])
def test_worse_is_not_kept_and_patience_ends_it(tmp_path: Path, mode: str, slope: float) -> None:
    climb = Climb(tmp_path, slope)
    run_of(tmp_path, mode=mode, epochs=30, patience=2).go(climb)
    assert climb.kept == [3 * slope]
    assert len(rows(tmp_path)) == 3


def test_no_number_is_never_best(tmp_path: Path) -> None:
    climb = Climb(tmp_path, float("nan"))
    run_of(tmp_path).go(climb)
    assert climb.kept == []
    assert climb.state.best is None


def test_a_signal_saves_and_the_rest_is_the_same(tmp_path: Path) -> None:
    whole = Climb(tmp_path / "whole")
    run_of(tmp_path / "whole").go(whole)
    cut = Climb(tmp_path / "cut", stop_at=5)
    with pytest.raises(Interrupted, match=r"--resume .*cut"):
        run_of(tmp_path / "cut").go(cut)
    again = cut.resumed()
    assert (again.state.epoch, again.state.batch, again.state.step) == (1, 2, 5)
    run_of(tmp_path / "cut").go(again)
    assert vars(again.state).keys() == vars(whole.state).keys()
    assert [row["val_height"] for row in rows(tmp_path / "cut")] == [3.0, 6.0, 9.0, 12.0] == whole.kept


def test_checkpoints_of_another_version_are_refused(tmp_path: Path) -> None:
    import torch

    (tmp_path / "last").mkdir()
    torch.save({"trainer": {}}, tmp_path / "last" / "checkpoint.pt")
    with pytest.raises(DataError, match="another version of striate"):
        load_checkpoint(tmp_path)
