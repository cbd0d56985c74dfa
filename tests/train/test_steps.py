"""Steps with several networks: what holds for one holds for two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.signals import signal_at
from torch import nn

from bench.two_networks import ClassifyAgainstCritic, CriticStep
from striate.config import Recipe
from striate.errors import UsageError
from striate.tasks import TASKS, create_task
from striate.tasks.step import SupervisedStep, frozen
from striate.train import start
from striate.train.checkpoints import load_checkpoint
from striate.train.prepare import prepare
from striate.train.recipes import refuse_unsupported
from striate.train.stopping import Interrupted

QUICK = {"data": "digits", "model": "conv8-bn-relu-pool-gap", "epochs": 2, "limit": 256, "batch": 32, "threads": 1}


@pytest.fixture
def against_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "classify", ClassifyAgainstCritic)


def quick(out: Path, **options) -> Recipe:
    return Recipe(**{**QUICK, "out": str(out), "name": "run", **options})


def tensors(state, where: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a nested state, by their place."""
    if isinstance(state, torch.Tensor):
        return {where: state}
    pairs = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {name: found for key, value in pairs for name, found in tensors(value, f"{where}/{key}").items()}


def test_a_network_beside_the_model_is_in_checkpoints_and_not_in_the_file(against_critic, tmp_path: Path) -> None:
    run = start(quick(tmp_path, ema=0.9), quiet=True)
    state = load_checkpoint(run)["trainer"]
    assert set(state["networks"]) == set(state["optimizers"]) == {"model", "critic"}
    file = load_file(run / "model.safetensors")
    assert set(file) == set(state["networks"]["model"])
    assert not any("critic" in name for name in file)
    fresh = prepare(quick(tmp_path / "again"), write=False).trainer.step.networks["critic"].state_dict()
    learnt = state["networks"]["critic"]
    assert any(not torch.equal(fresh[name], learnt[name]) for name in fresh)  # it learns too


@pytest.mark.parametrize(
    "options", [{}, {"accumulate": 2, "clip": 1.0, "ema": 0.9, "mixup": 0.0}, {"precision": "bf16"}], ids=str
)
def test_two_optimisers_resume_bit_for_bit(against_critic, tmp_path: Path, monkeypatch, options) -> None:
    whole = start(quick(tmp_path / "whole", **options), quiet=True)
    with monkeypatch.context() as patch:
        signal_at(patch, 6)
        with pytest.raises(Interrupted):
            start(quick(tmp_path / "cut", **options), quiet=True)
    run = tmp_path / "cut" / "classify" / "run"
    assert load_checkpoint(run)["trainer"]["state"]["epoch"] == 0  # in the middle of it
    start(Recipe(), resume=run, quiet=True)
    one, other = (tensors(load_checkpoint(folder)["trainer"]) for folder in (whole, run))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_networks_in_two_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "bench.two_networks", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert set(load_checkpoint(tmp_path / "classify" / "run")["trainer"]["networks"]) == {"model", "critic"}


def test_accumulated_gradients_of_each_network_are_those_of_a_larger_batch(against_critic, tmp_path: Path) -> None:
    """One update a network and batch; what the classifier's loss would leave in the critic is kept out."""
    job = prepare(quick(tmp_path), write=False)
    step = job.trainer.step
    assert isinstance(step, CriticStep)
    batch = next(job.train_split.batches(job.sampler))
    images, targets = job.trainer.to_device(batch.images), batch.targets
    named: list[tuple[str, ...]] = []

    class Watching:
        nets = job.trainer.nets

        def update(self, loss: torch.Tensor, *names: str) -> None:
            loss.backward()
            others = [network for name, network in step.networks.items() if name not in names]
            assert all(parameter.grad is None for one in others for parameter in one.parameters())
            for parameter in step.networks[names[0]].parameters():
                parameter.grad = None
            named.append(names)

    step(images, targets, Watching())
    assert named == [("critic",), ("model",)]


def test_frozen_networks_pass_gradients_on() -> None:
    critic, generator = nn.Linear(3, 1), nn.Linear(2, 3)
    critic.bias.requires_grad_(False)
    with frozen(critic):
        critic(generator(torch.ones(1, 2))).sum().backward()
    assert generator.weight.grad is not None
    assert critic.weight.grad is None
    assert critic.weight.requires_grad
    assert not critic.bias.requires_grad  # as it was before


def test_the_usual_step_is_supervised() -> None:
    task = create_task("classify", classes=("a", "b"))
    assert isinstance(task.step(nn.Identity(), Recipe()), SupervisedStep)


@pytest.mark.parametrize(
    ("task", "classes", "options", "told"),
    [
        ("keypoints", ("nose",), {"label_smoothing": 0.1}, "keypoints does not support label smoothing"),
        ("keypoints", ("nose",), {"sampling": "balanced"}, "does not support sampling"),
        ("keypoints", ("nose",), {"transfer": "features"}, "use --transfer finetune"),
        ("detect", ("a",), {"class_weights": "balanced"}, "--sampling balanced"),
        ("detect", ("a",), {"cutmix": 1.0}, "mosaic"),
        ("localize", ("a",), {"mixup": 0.2}, "it does support: label smoothing"),
        ("localize", ("a",), {"head": "neighbours"}, "leave --head linear"),
        ("classify", ("a", "b"), {"augment": {"mosaic": 0.5}}, "does not support augment.mosaic"),
        ("detect", ("a",), {"augment": {"erase": 0.5}}, "does not support augment.erase"),
    ],
)
def test_what_a_task_does_not_support_is_refused(task: str, classes, options, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        refuse_unsupported(Recipe(**options), create_task(task, classes=classes))


def test_nothing_is_written_where_an_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="label smoothing"):
        start(Recipe(data="shapes", label_smoothing=0.1, out=str(tmp_path), limit=8), quiet=True)
    assert not list(tmp_path.rglob("*"))


def test_tasks_without_their_methods_cannot_be_made() -> None:
    from striate.tasks import Task

    class Half(Task):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
