"""The kills hit what they aim at, and the comparison sees a single bit."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench import kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def write_run(run: Path, weight: torch.Tensor, momentum: torch.Tensor) -> None:
    (run / "last").mkdir(parents=True, exist_ok=True)
    save_file({"weight": weight}, run / "model.safetensors")
    torch.save({"optimizer": {"state": [{"momentum": momentum}]}, "seconds": 1.5}, run / "last" / "checkpoint.pt")


def test_digests_see_a_single_bit_in_weights_and_in_optimiser_state(tmp_path: Path):
    weight, momentum = torch.tensor([1.0, float("nan")]), torch.ones(3)
    write_run(tmp_path / "a", weight, momentum)
    write_run(tmp_path / "b", weight.clone(), momentum.clone())
    assert kills.digests(tmp_path / "a") == kills.digests(tmp_path / "b")  # NaN too: bits are compared
    assert kills.digests(tmp_path / "a").keys() == {"model/weight", "last/optimizer/state/0/momentum"}
    for changed_weight, changed_momentum in (
        (torch.nextafter(weight, torch.tensor(9.0)), momentum),
        (weight, torch.nextafter(momentum, torch.tensor(9.0))),
        (weight.reshape(2, 1), momentum),
        (weight, momentum.double()),
    ):
        write_run(tmp_path / "c", changed_weight, changed_momentum)
        assert kills.digests(tmp_path / "a") != kills.digests(tmp_path / "c")


def saves(run: Path, count: int, seconds: float = 0.2) -> None:
    """What a training does with its files: write beside, rename; slow enough to be seen on a busy machine."""
    (run / "last").mkdir(parents=True)
    for number in range(count):
        beside = run / "last" / "checkpoint.pt.1.part"
        beside.write_text(str(number))
        time.sleep(seconds)
        beside.rename(run / "last" / "checkpoint.pt")
        time.sleep(seconds)


def test_every_save_is_counted(tmp_path: Path):
    run = tmp_path / "out" / "classify" / "run"
    assert kills.count_saves(kills.fork(lambda: saves(run, 3), tmp_path / "log"), run) == 3


def test_a_kill_lands_within_the_save_it_aims_at(tmp_path: Path):
    run = tmp_path / "run"
    pid = kills.fork(lambda: saves(run, 8), tmp_path / "log")
    assert kills.kill_during_save(pid, run, skip=2, delay=0.0)
    assert kills.parts(run)  # a file half written stayed behind
    assert (run / "last" / "checkpoint.pt").read_text() == "1"  # the save before it had been completed


def test_a_run_that_ended_first_was_not_killed(tmp_path: Path):
    pid = kills.fork(lambda: saves(tmp_path / "run", 1, 0.05), tmp_path / "log")
    assert not kills.kill_during_save(pid, tmp_path / "run", skip=5, delay=0.0)
    pid = kills.fork(lambda: None, tmp_path / "log")
    assert not kills.kill_after(pid, 0.2)


def test_a_training_that_fails_is_told(tmp_path: Path):
    def fail() -> None:
        raise ValueError("disk on fire")

    log = tmp_path / "log"
    with pytest.raises(RuntimeError, match=r"ended with 1:\n(.*\n)+ValueError: disk on fire"):
        kills.wait(kills.fork(fail, log), log)
