"""A run whose classifier remembers the training pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from striate import load
from striate.config import Recipe
from striate.data import open_dataset
from striate.errors import UsageError
from striate.train.fit import fit


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))


def test_a_run_remembers_and_is_loaded_evaluated_and_resumed(tmp_path: Path):
    options = {"data": "digits", "out": str(tmp_path), "threads": 1, "limit": 300}
    line = "(conv16-bn-relu)x2-pool-conv32-bn-relu-gap"
    first = fit(Recipe(**options, name="first", epochs=4, model=line), quiet=True)
    run = fit(Recipe(**options, name="near", weights=str(first / "model.safetensors"), head="neighbours"), quiet=True)
    model = load(run)
    assert model.card.recipe["transfer"] == "features"
    assert model.card.arguments["neighbours"]["count"] == 300
    assert model.card.metrics["accuracy"] > load(first).card.metrics["accuracy"] - 0.05
    assert model.evaluate("digits")["accuracy"] == pytest.approx(model.card.metrics["accuracy"])
    # every picture that it remembers is nearest to itself
    sample = open_dataset("digits").splits["train"][0]
    said = model.predict(sample.image)
    assert said.label == str(sample.target)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    fit(Recipe(), resume=copy, quiet=True)
    again = load(copy).module.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.module.state_dict().items())


@pytest.mark.parametrize("changes", [{}, {"weights": "x.pth", "transfer": "finetune"}])
def test_neighbours_need_features_of_weights(tmp_path: Path, changes):
    with pytest.raises(UsageError, match="needs weights and transfer features"):
        fit(Recipe(data="digits", head="neighbours", out=str(tmp_path), **changes), quiet=True)
