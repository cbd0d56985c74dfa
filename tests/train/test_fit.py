"""A run from end to end on the built-in digits; what a kill, a signal, a NaN and a full disk do to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.signals import signal_at

import striate
from striate.config import Recipe
from striate.errors import DataError, StriateError, UsageError
from striate.train import checkpoints, fit, job, prepare, start
from striate.train import run as run_room
from striate.train.run import Run
from striate.train.stopping import Interrupted

QUICK = {"data": "digits", "model": "conv8-bn-relu-pool-conv16-bn-relu-gap", "epochs": 3, "limit": 256, "batch": 32}


def quick(out: Path, **options) -> Recipe:
    return Recipe(**{**QUICK, "out": str(out), "name": "run", **options})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    rows = [
        [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_second")} for line in text]
        for text in ((run / "metrics.jsonl").read_text().splitlines() for run in (one, other))
    ]
    assert rows[0] == rows[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return start(quick(tmp_path_factory.mktemp("runs"), ema=0.99, dropout=0.1, mixup=0.2), quiet=True)


def test_a_run_leaves_what_the_design_says(finished: Path):
    names = {path.name for path in finished.iterdir()}
    assert {"model.safetensors", "last", "recipe.yaml", "metrics.jsonl", "report.html", "report.json"} <= names
    assert len((finished / "metrics.jsonl").read_text().splitlines()) == 3
    report = json.loads((finished / "report.json").read_text())
    assert report["metrics"]["split"] == "test"
    assert not list(finished.rglob("*.part"))


def test_same_recipe_same_weights(finished: Path, tmp_path: Path):
    again = start(quick(tmp_path, ema=0.99, dropout=0.1, mixup=0.2), quiet=True)
    assert_same_weights(finished, again)


@pytest.mark.parametrize("step", [1, 7, 8, 13, 20])
def test_sigterm_saves_and_resume_is_exact(finished: Path, tmp_path: Path, monkeypatch, step: int):
    """8 steps an epoch: within the first, at its end, in the middle of the second and third."""
    signal_at(monkeypatch, step)
    with pytest.raises(Interrupted) as stopped:
        start(quick(tmp_path, ema=0.99, dropout=0.1, mixup=0.2), quiet=True)
    assert stopped.value.exit_code == 130
    run = tmp_path / "classify" / "run"
    place = checkpoints.load_checkpoint(run)["trainer"]["state"]
    assert place["step"] == step  # saved where it stopped, not an epoch before
    start(Recipe(), resume=run, quiet=True)
    assert_same_weights(finished, run)


@pytest.mark.parametrize("death", ["before save", "after model file", "at the report"])
def test_death_at_awkward_moments(finished: Path, tmp_path: Path, monkeypatch, death: str):
    class Killed(BaseException):
        """Nothing in the library catches it: as good as SIGKILL at this point."""

    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        if death == "before save":
            original = run_room.save_checkpoint

            def save_or_die(*arguments):
                if next(calls) >= 1:
                    raise Killed
                original(*arguments)

            patch.setattr(run_room, "save_checkpoint", save_or_die)
        elif death == "after model file":
            original_write = job.write_model

            def write_then_die(*arguments):
                original_write(*arguments)
                if next(calls) == 1:
                    raise Killed

            patch.setattr(job, "write_model", write_then_die)
        else:
            patch.setattr(fit, "read_model", lambda path: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            start(quick(tmp_path, ema=0.99, dropout=0.1, mixup=0.2), quiet=True)
    run = tmp_path / "classify" / "run"
    start(Recipe(), resume=run, quiet=True)
    assert_same_weights(finished, run)


def test_resuming_a_finished_run_changes_nothing(finished: Path):
    before = weights(finished)
    start(Recipe(), resume=finished, quiet=True)
    for name, tensor in weights(finished).items():
        assert torch.equal(tensor, before[name])


def test_gradient_accumulation_is_one_large_batch(tmp_path: Path):
    """Without batch norm and augmentation, 4 × 16 is 64."""
    plain = {
        "model": "conv8-relu-pool-fc16-relu",
        "augment": "none",
        "optimizer": "sgd",
        "lr": 0.1,
        "schedule": "constant",
        "precision": "fp32",  # the sums of two ways agree to float32's rounding
    }
    whole = start(quick(tmp_path / "a", batch=64, epochs=2, **plain), quiet=True)
    parts = start(quick(tmp_path / "b", batch=16, accumulate=4, epochs=2, **plain), quiet=True)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor, rtol=1e-4, atol=1e-5)


def test_nan_loss_stops_with_what_and_when(tmp_path: Path):
    with pytest.raises(StriateError, match=r"loss became (nan|inf).* epoch \d+, batch \d+.*--lr"):
        start(quick(tmp_path, optimizer="sgd", lr=1e30, schedule="constant", model="conv8-relu-fc16"), quiet=True)
    state = checkpoints.load_checkpoint(tmp_path / "classify" / "run")
    assert all(torch.isfinite(tensor).all() for tensor in state["trainer"]["networks"]["model"].values())


def test_full_disk_is_told_and_training_goes_on(tmp_path: Path, monkeypatch, capsys):
    original, calls = run_room.save_checkpoint, iter(range(100))

    def full_once(*arguments):
        if next(calls) == 0:
            raise StriateError("last/checkpoint.pt: could not be written (No space left on device).")
        original(*arguments)

    monkeypatch.setattr(run_room, "save_checkpoint", full_once)
    start(quick(tmp_path), quiet=False)
    assert "No space left" in capsys.readouterr().err


def test_early_stopping_stops(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Run, "end_epoch", never_better(Run.end_epoch))
    run = start(quick(tmp_path, epochs=30, patience=2), quiet=True)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3  # the first, and two that were no better


def never_better(end_epoch):
    def ended(run, training, *arguments):
        first = training.state.epoch == 0
        end_epoch(run, training, *arguments)
        if first:
            training.state.best = 2.0  # no accuracy reaches it

    return ended


def test_changed_data_is_refused_on_resume(tmp_path: Path, monkeypatch):
    run = start(quick(tmp_path), quiet=True)
    monkeypatch.setattr(prepare, "fingerprint", lambda dataset: "another")
    with pytest.raises(DataError, match="data changed"):
        start(Recipe(), resume=run, quiet=True)


def test_a_named_run_is_not_overwritten_unasked(finished: Path):
    with pytest.raises(UsageError, match="--overwrite"):
        start(quick(finished.parents[1]), quiet=True)


def test_unnamed_runs_get_a_number(tmp_path: Path):
    first = start(quick(tmp_path, name=None, epochs=1, limit=64), quiet=True)
    second = start(quick(tmp_path, name=None, epochs=1, limit=64), quiet=True)
    assert (first.name, second.name) == ("digits", "digits-2")


def test_misspelt_options_are_refused_with_a_suggestion():
    with pytest.raises(UsageError, match=r'"epoch" is not known\. Did you mean "epochs"'):
        striate.train("digits", epoch=3)
    with pytest.raises(UsageError, match="lr"):
        striate.train("digits", lr=-1)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "step", "label_smoothing": 0.1},
        {"optimizer": "rmsprop", "schedule": "plateau", "class_weights": "balanced"},
        {"optimizer": "adagrad", "sampling": "balanced", "l1": 1e-4},
        {"optimizer": "nesterov", "clip": 1.0, "warmup": 1.0, "schedule": "cosine", "cutmix": 1.0},
        {"optimizer": "adam", "augment": "strong", "workers": 0},
        {"augment": "strong", "workers": 2},
    ],
    ids=str,
)
def test_every_option_trains(tmp_path: Path, options):
    run = start(quick(tmp_path, epochs=1, limit=128, **options), quiet=True)
    assert 0 <= json.loads((run / "report.json").read_text())["history"][0]["val_accuracy"] <= 1


def test_workers_do_not_change_the_result(tmp_path: Path):
    runs = [start(quick(tmp_path / str(w), epochs=1, augment="strong", workers=w), quiet=True) for w in (0, 2)]
    assert_same_weights(*runs)


def test_two_processes_give_the_curve_of_one(tmp_path: Path):
    """Gloo, same global batch; without batch norm, whose statistics are each process's own."""
    plain = {
        "model": "conv8-relu-pool-fc16-relu",
        "augment": "none",
        "epochs": 2,
        "deterministic": True,
        "device": "cpu",
        "precision": "fp32",
    }
    one = start(quick(tmp_path / "one", **plain), quiet=True)
    two = start(quick(tmp_path / "two", devices=2, **plain), quiet=True)
    for first, second in zip(*((run / "metrics.jsonl").read_text().splitlines() for run in (one, two)), strict=True):
        for key in ("train_loss", "val_loss"):
            assert json.loads(first)[key] == pytest.approx(json.loads(second)[key], abs=1e-4)


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_pictures_are_told_once(tmp_path: Path, capsys, cache: bool):
    from PIL import Image

    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (9, 9 + number)).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "ant" / "broken.png").write_bytes(b"not a picture")
    recipe = quick(tmp_path, data=str(tmp_path / "photos"), epochs=2, size=16, model="conv4-relu-gap", cache=cache)
    run = fit.fit(recipe.model_copy(update={"batch": 4, "workers": 0, "limit": None}))
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning: 1 picture could not be read and stay out") == 1
    assert "broken.png" in said
    assert len(json.loads((run / "report.json").read_text())["metrics"]["skipped"]) == 1
