"""Detection, localisation and landmarks from data to a model file, a report and results: small but real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import striate
from striate.config import Recipe
from striate.data import open_dataset
from striate.errors import UsageError
from striate.results import Detections
from striate.train.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    recipe = Recipe(
        data="shapes", limit=32, epochs=2, batch=8, size=96, workers=0, threads=1, out=str(out), device="cpu"
    )
    return fit(recipe, quiet=True)


def test_a_run_leaves_a_model_and_a_report(run: Path):
    model = striate.load(run)
    assert model.card.task == "detect"
    assert model.classes == ("circle", "square", "triangle", "star", "ring")
    assert model.card.preprocess.fit == "pad"
    assert set(model.card.metrics) >= {"ap", "ap50", "ap75", "ar100"}
    assert len(model.task.arguments["thresholds"]) == 5
    page = (run / "report.html").read_text()
    for title in ("Average precision", "background"):
        assert title in page
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_loss"] > 0


def test_it_predicts_in_pixels_of_the_file(run: Path, tmp_path: Path):
    model = striate.load(run)
    Image.new("RGB", (300, 120), (90, 20, 20)).save(tmp_path / "wide.png")
    found = model.predict(tmp_path / "wide.png", threshold=0.0)
    assert isinstance(found, Detections)
    assert len(found) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([300, 120, 300, 120])).all()
    assert found.draw().width >= 300
    assert model.predict(tmp_path / "wide.png", threshold=1.0).counts() == {}
    assert isinstance(model.predict(tmp_path / "wide.png", tile=96), Detections)


def test_a_picture_is_seen_alike_alone_and_among_others(run: Path):
    model = striate.load(run)
    assert model.card.preprocess.pad_multiple == 32
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 96, 60), (3, 40, 96), (3, 96, 60), (3, 96, 96)]
    pictures = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in shapes]
    together = model.predict(pictures, threshold=0.0, batch=4)
    for found, picture in zip(together, pictures, strict=True):
        alone = model.predict(picture, threshold=0.0)
        torch.testing.assert_close(found.scores[:5], alone.scores[:5], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.boxes[:5], alone.boxes[:5], atol=1e-2, rtol=1e-3)


def test_evaluation_is_that_of_the_report(run: Path):
    model = striate.load(run)
    judged = model.evaluate("shapes:val")
    assert judged.values["ap50"] == pytest.approx(model.card.metrics["ap50"], abs=1e-6)
    assert judged.to_dict()["count"] == 160


def test_resumed_is_the_same_run(run: Path, tmp_path: Path):
    recipe = Recipe(
        data="shapes", limit=16, epochs=2, batch=8, size=64, workers=0, threads=1, out=str(tmp_path), device="cpu"
    )
    whole = fit(recipe.model_copy(update={"name": "whole"}), quiet=True)
    again = fit(recipe.model_copy(update={"name": "again"}), quiet=True)
    one, other = striate.load(whole).module.state_dict(), striate.load(again).module.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_whole_pictures_can_and_boxes_cannot_is_refused(tmp_path: Path):
    recipe = Recipe(data="shapes", limit=8, epochs=1, mixup=0.2, size=64, threads=1, workers=0, out=str(tmp_path))
    with pytest.raises(UsageError, match="mosaic"):
        fit(recipe, quiet=True)


def test_localize_learns_the_largest_object(tmp_path: Path):
    recipe = Recipe(
        data="shapes",
        task="localize",
        model="resnet20_cifar",
        limit=16,
        epochs=1,
        batch=8,
        size=64,
        threads=1,
        workers=0,
    )
    model = striate.load(fit(recipe.model_copy(update={"out": str(tmp_path)}), quiet=True))
    assert model.card.task == "localize"
    sample = open_dataset("shapes").splits["val"][0]
    assert len(model.predict(sample)) <= 1


def test_keypoints_learn_from_a_csv(tmp_path: Path):
    rows = ["image,x0,y0,x1,y1"]
    for number in range(12):
        Image.new("RGB", (64, 64), (number * 20, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{10 + number},20,40,{30 + number}")
    (tmp_path / "keypoints.csv").write_text("\n".join(rows) + "\n")
    recipe = Recipe(
        data=str(tmp_path / "keypoints.csv"), model="resnet20_cifar", epochs=1, batch=4, size=64, threads=1, workers=0
    )
    model = striate.load(fit(recipe.model_copy(update={"out": str(tmp_path / "runs")}), quiet=True))
    assert model.card.task == "keypoints"
    found = model.predict(tmp_path / "0.png")
    assert found.points.shape[-2:] == (2, 2) or found.points.shape[0] == 2
