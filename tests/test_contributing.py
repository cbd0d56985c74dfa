"""The family and the task that CONTRIBUTING shows work: they go through what every one goes through."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.signals import signal_at

import striate
from striate import backbones
from striate.config import Recipe
from striate.tasks import TASKS
from striate.train import start
from striate.train.stopping import Interrupted


def executed(name: str, number: int) -> dict[str, Any]:
    """What the block of that number defines, as a module of that name."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    block = re.findall(r"```python\n(.*?)```", text, re.S)[number]
    assert len(block.splitlines()) < 120
    module = ModuleType(name)
    sys.modules[name] = module  # dataclasses look there
    exec(compile(block, "CONTRIBUTING.md", "exec"), module.__dict__)
    return vars(module)


def test_the_toy_family_works(monkeypatch) -> None:
    made = executed("toy", 0)
    for name, entry in made["MODELS"].items():
        monkeypatch.setitem(backbones.MODELS, name, entry)
    images = torch.rand(2, 4, 33, 19)
    model = backbones.create_model("toy_small", num_classes=5, in_chans=4)
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    dense = backbones.create_model("toy_small", in_chans=4, features_only=True, output_stride=2)
    assert [maps.shape for maps in dense(images)] == [(2, 16, 17, 10), (2, 32, 17, 10)]
    assert dense.channels() == [16, 32]  # type: ignore[operator]
    assert backbones.create_model("toy_large", num_classes=0)(torch.rand(1, 3, 8, 8)).shape == (1, 128)


def test_the_count_task_works(monkeypatch, tmp_path: Path) -> None:
    """Trains, resumes bit for bit, reports, evaluates, predicts, explains; with one line in the table."""
    monkeypatch.setitem(TASKS, "count", executed("count", 1)["Count"])
    recipe = {"data": "shapes", "task": "count", "model": "conv8s2-relu-conv16s2-relu-gap", "size": 48, "limit": 96}
    recipe |= {"epochs": 3, "batch": 16, "lr": 3e-3, "threads": 1}
    whole = start(Recipe(**recipe, out=str(tmp_path / "whole"), name="run"), quiet=True)
    with monkeypatch.context() as patch:
        signal_at(patch, 7)
        with pytest.raises(Interrupted):
            start(Recipe(**recipe, out=str(tmp_path / "cut"), name="run"), quiet=True)
    cut = start(Recipe(), resume=tmp_path / "cut" / "count" / "run", quiet=True)
    one, other = (load_file(run / "model.safetensors") for run in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert "objects counted too many or too few" in (whole / "report.html").read_text()

    model = striate.load(whole)
    assert model.evaluate("shapes")["mae"] == pytest.approx(model.card.metrics["mae"])
    picture = striate.open_dataset("shapes").splits["val"][0].image
    said = model.predict(picture)
    assert said.describe().endswith("objects")
    assert 0.5 < said.count < 20
    said.save(tmp_path / "counted.json")
    page = model.explain(picture, how="gradcam").save(tmp_path / "why.html")
    assert page.stat().st_size > 1000
