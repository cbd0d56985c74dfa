"""The report is one offline file, whatever the classes are called."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from striate.data.sample import Sample
from striate.report import write_report
from striate.report.figures import curves
from striate.tasks.classify.task import Classify

NASTY = ("<script>alert(1)</script>", "a & b", 'quo"te')


@pytest.fixture
def written(tmp_path: Path) -> tuple[str, dict]:
    task = Classify(NASTY)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (60,), generator=generator)
    logits = torch.randn(60, 3, generator=generator)
    metrics = task.metrics()
    metrics.update(logits, targets)
    picture = torch.randint(0, 256, (3, 12, 12), dtype=torch.uint8, generator=generator)
    samples = [Sample(picture, int(target), f"<b>{index}</b>.png") for index, target in enumerate(targets)]
    history = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": float("nan"),
            "val_accuracy": 0.5,
            "lr": 0.1,
            "seconds": 1.0,
        }
        for epoch in (1.0, 2.0)
    ]
    page, account = write_report(
        tmp_path,
        title="<i>run</i>",
        facts={"Data": "<u>x</u>"},
        sections=task.sections(metrics, samples, lambda sample: sample.image),
        history=history,
        full=metrics.full(),
        recipe_yaml="epochs: 2\n",
        commands=["striate train x"],
        notes=["a <note>"],
    )
    return page.read_text(), json.loads(account.read_text())


def test_nothing_is_fetched(written):
    page, _ = written
    fetched = re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:|#)([^"'\s>]+)""", page)
    assert fetched == []
    assert not re.search(r"url\(\s*['\"]?(?!data:|#)", page)
    assert "@import" not in page


def test_names_are_escaped(written):
    page, _ = written
    for raw in ("<script>alert(1)", "<b>0</b>", "<i>run</i>", "<u>x</u>", "a <note>"):
        assert raw not in page
    assert "&lt;script&gt;alert(1)" in page


def test_every_picture_has_a_text(written):
    page, _ = written
    images = re.findall(r"<img\b[^>]*>", page)
    assert images
    assert all(re.search(r'\balt="[^"]', image) for image in images)


def test_json_is_strict(written):
    _, account = written
    assert account["history"][0]["val_loss"] is None
    assert account["metrics"]["scalars"].keys() >= {"accuracy", "macro_f1"}


@pytest.mark.parametrize(("mode", "told"), [("max", "best 3.0000 after epoch 3"), ("min", "best 1.0000 after epoch 2")])
def test_the_best_epoch_is_where_more_or_less_is_best(mode: str, told: str) -> None:
    history = [{"epoch": 1, "val_nme": 2.0}, {"epoch": 2, "val_nme": 1.0}, {"epoch": 3, "val_nme": 3.0}]
    (figure,) = curves(history, "nme", mode)
    assert told in figure.caption
    assert len(curves([{"epoch": n, "val_loss": 1.0} for n in (1, 2)], "loss", "min")) == 1  # drawn once
