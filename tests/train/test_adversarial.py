"""Adversarial training: what a batch becomes, that it leaves no trace, that it helps, that resume stays exact."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.train.signals import signal_at
from torch import nn
from torch.nn import functional as F

import striate
from striate.config import Recipe
from striate.data.seeds import seed_of
from striate.errors import UsageError
from striate.explain.attacks.gradient import in_pixels, pgd
from striate.train import adversarial, start
from striate.train.adversarial import RAMP, attacked, under_attack
from striate.train.prepare import prepare
from striate.train.stopping import Interrupted

QUICK = {"data": "digits", "model": "conv8-bn-relu-pool-conv16-bn-relu-gap", "epochs": 3, "limit": 256, "batch": 32}


def quick(out: Path, **options) -> Recipe:
    return Recipe(**{**QUICK, "out": str(out), "name": "run", "threads": 1, "adversarial": 0.1, **options})


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("steps", [1, 4])
def test_a_batch_is_made_harder_within_the_ball(tmp_path: Path, steps: int):
    job = prepare(quick(tmp_path, adversarial_steps=steps, precision="fp32"), write=False)
    assert any(note.startswith(f"adversarial: {steps + 1} passes a step") for note in job.run.notes)
    trainer = job.trainer
    trainer.state.step = trainer.schedule.steps  # at full strength
    batch = next(job.train_split.batches(job.train_split.shuffled(64)))
    images = trainer.to_device(batch.images)
    trainer.model.train()
    list(trainer.model.modules())[2].eval()  # a layer that is kept still stays still
    before, modes = deepcopy(trainer.model.state_dict()), [layer.training for layer in trainer.model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found = attacked(trainer, images, batch.targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.training for layer in trainer.model.modules()] == modes
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norms saw nothing
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (job.preprocess.mean, job.preprocess.std))
    pixels = found * std + mean
    assert not found.requires_grad
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    assert (pixels - batch.images / 255).abs().max() == pytest.approx(0.1, abs=1e-5)
    judge = deepcopy(trainer.model).train()
    with torch.no_grad():
        clean, hard = (F.cross_entropy(judge(each), batch.targets) for each in (images, found))
    assert hard > clean
    assert torch.equal(attacked(trainer, images, batch.targets), found)
    trainer.state.batch = 1
    assert not torch.equal(attacked(trainer, images, batch.targets), found)


def test_the_attacked_network_is_the_one_that_learns(tmp_path: Path):
    """Batch norms by the batch's own statistics, as in the step that follows; dropout aside."""
    job = prepare(quick(tmp_path, dropout=0.5, precision="fp32"), write=False)
    trainer = job.trainer
    trainer.state.step = trainer.schedule.steps
    batch = next(job.train_split.batches(job.train_split.shuffled(64)))
    images = trainer.to_device(batch.images)
    trainer.model.train()
    twin = deepcopy(trainer.model)
    for layer in twin.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (job.preprocess.mean, job.preprocess.std))
    generator = torch.Generator().manual_seed(seed_of(0, "adversarial", 0, 0, 0))
    expected = pgd(
        in_pixels(twin, job.preprocess), images * std + mean, batch.targets, 0.1, steps=3, generator=generator
    )
    found = attacked(trainer, images, batch.targets) * std + mean
    far = (found - expected).abs() > 1e-5  # rounding may turn the sign of a gradient near 0
    assert far.float().mean() < 0.002


def test_the_strength_grows_at_the_start(tmp_path: Path):
    job = prepare(quick(tmp_path, precision="fp32"), write=False)
    trainer, steps = job.trainer, job.trainer.schedule.steps
    images = trainer.to_device(next(job.train_split.batches(job.train_split.shuffled(64))).images)
    targets = next(job.train_split.batches(job.train_split.shuffled(64))).targets
    std = torch.tensor(job.preprocess.std).view(-1, 1, 1)

    def change(step: int) -> float:
        trainer.state.step = step
        return float(((attacked(trainer, images, targets) - images) * std).abs().max())

    assert change(0) == pytest.approx(0.1 / (RAMP * steps), abs=1e-4)
    assert change(round(RAMP * steps)) == pytest.approx(0.1, abs=1e-4)
    assert change(steps - 1) == pytest.approx(0.1, abs=1e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    options = {"ema": 0.99, "dropout": 0.1, "mixup": 0.2, "precision": "bf16"}
    return start(quick(tmp_path_factory.mktemp("runs"), **options), quiet=True)


def test_validation_is_attacked_and_decides(finished: Path):
    history = rows(finished)
    for row in history:
        assert row["val_adversarial_accuracy"] <= row["val_accuracy"]
    report = json.loads((finished / "report.json").read_text())
    assert "adversarial" in json.dumps(report)
    card = striate.load(finished, device="cpu").card
    assert card.metrics["adversarial_accuracy"] <= card.metrics["accuracy"]
    assert card.recipe["adversarial"] == 0.1


@pytest.mark.parametrize("step", [3, 13])
def test_resume_is_exact(finished: Path, tmp_path: Path, monkeypatch, step: int):
    signal_at(monkeypatch, step)
    with pytest.raises(Interrupted):
        start(quick(tmp_path, ema=0.99, dropout=0.1, mixup=0.2, precision="bf16"), quiet=True)
    run = tmp_path / "classify" / "run"
    start(Recipe(), resume=run, quiet=True)
    one, other = load_file(finished / "model.safetensors"), load_file(run / "model.safetensors")
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    timed = ("seconds", "images_per_second")
    kept = [[{k: v for k, v in row.items() if k not in timed} for row in rows(each)] for each in (finished, run)]
    assert kept[0] == kept[1]


def test_it_helps_against_attacks(tmp_path: Path):
    """The same network, pictures and epochs: under PGD of ε = 0.15 many more answers stand."""
    common = {"epochs": 12, "limit": None, "model": "conv16-bn-relu-pool-conv32-bn-relu-gap", "batch": 64}
    hard = start(quick(tmp_path / "a", adversarial=0.15, **common), quiet=True)
    plain = start(quick(tmp_path / "b", adversarial=0.0, **common), quiet=True)
    values = [
        striate.load(run, device="cpu").explain("digits:test", "robust_accuracy", epsilon=0.15).values
        for run in (hard, plain)
    ]
    assert values[0]["pgd"][-1] > values[1]["pgd"][-1] + 0.2
    assert "val_adversarial_accuracy" not in rows(plain)[0]


def test_a_thousand_held_out_pictures_are_attacked(tmp_path: Path, monkeypatch):
    job = prepare(quick(tmp_path), write=False)
    seen: list[int] = []
    original = adversarial.attack

    def counting(trainer, model, images, *arguments):
        seen.append(len(images))
        return original(trainer, model, images, *arguments)

    monkeypatch.setattr(adversarial, "attack", counting)
    monkeypatch.setattr(adversarial, "JUDGED", 30)
    found = under_attack(job.trainer, job.trainer.model, job.val, 16)
    assert 0 < sum(seen) <= 30
    assert list(found) == ["adversarial_accuracy"]
    assert under_attack(job.trainer, job.trainer.model, job.val, 16) == found


def test_scores_can_be_attacked_too(tmp_path: Path):
    """Whatever task has a loss outside training: here the expectation over grades."""
    run = start(quick(tmp_path, task="score", adversarial=0.05), quiet=True)
    assert all(any(key.startswith("val_adversarial_") for key in row) for row in rows(run))


def test_what_cannot_be_attacked_is_refused(tmp_path: Path):
    class TwoStage(nn.Module):
        takes_targets = True

    with pytest.raises(UsageError, match="adversarial: fasterrcnn has no loss outside training"):
        adversarial.refuse_adversarial(Recipe(adversarial=0.1, model="fasterrcnn"), TwoStage())
    adversarial.refuse_adversarial(Recipe(model="fasterrcnn"), TwoStage())
    with pytest.raises(UsageError, match="use --transfer finetune"):
        adversarial.refuse_adversarial(Recipe(adversarial=0.1, transfer="features"), nn.Identity())
    with pytest.raises(UsageError, match="adversarial"):
        start(
            Recipe(data="shapes", task="detect", model="faster_rcnn", size=64, adversarial=0.1, out=str(tmp_path)),
            quiet=True,
        )
    assert not list(tmp_path.rglob("recipe.yaml"))
