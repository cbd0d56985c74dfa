"""Training on scores, from a CSV to predictions in a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from striate import load
from striate.cli import run as command
from striate.config import Recipe
from striate.train.fit import fit


@pytest.fixture(scope="module")
def grey_pictures(tmp_path_factory) -> Path:
    """160 noisy greys; the brighter, the higher people grade them, from 1 to 5."""
    root = tmp_path_factory.mktemp("greys")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(160):
        brightness = float(torch.rand((), generator=generator))
        noise = 20 * torch.randn(16, 16, generator=generator)
        pixels = (40 + 170 * brightness + noise).clamp(0, 255).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(root / f"{number:03}.png")
        rows.append((f"{number:03}.png", f"{1 + 4 * brightness:.3f}", "val" if number % 4 == 0 else "train"))
    with open(root / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "score", "split"), *rows])
    return root


def test_a_network_learns_to_score(grey_pictures: Path, tmp_path: Path, capsys):
    recipe = Recipe(
        data=str(grey_pictures),
        model="conv8-bn-relu-pool-conv16-bn-relu-gap",
        epochs=15,
        augment="none",
        mixup=0.2,
        label_smoothing=0.02,
        sampling="balanced",
        out=str(tmp_path),
        threads=1,
    )
    run = fit(recipe, quiet=True)
    assert run == tmp_path / "score" / grey_pictures.name
    model = load(run)
    assert model.card.classes == ["1", "2", "3", "4", "5"]
    assert model.card.metrics["spearman"] > 0.9
    assert model.evaluate(str(grey_pictures))["mae"] < 0.5
    report = json.loads((run / "report.json").read_text())
    assert report["metrics"]["best"] == "spearman"
    assert "Said against voted" in (run / "report.html").read_text()

    dark, bright = (Image.new("L", (16, 16), level) for level in (50, 200))
    assert model.predict(dark).score + 1.5 < model.predict(bright).score

    table = tmp_path / "scores.csv"
    command(["predict", str(run), f"{grey_pictures}:val", "--out", str(table), "--draw", str(tmp_path / "drawn.png")])
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert list(rows[0]) == ["source", "score", "spread", "target", "error", "shares"]
    assert len(rows) == 40
    assert all(1 <= float(row["score"]) <= 5 for row in rows)
    assert sum(json.loads(rows[0]["shares"]).values()) == pytest.approx(1, abs=1e-3)
    assert "of 1 to 5  (people: " in capsys.readouterr().out
    command(["predict", str(run), f"{grey_pictures}:val", "--out", str(tmp_path / "scores.parquet")])
    assert (tmp_path / "scores.parquet").stat().st_size > 100
