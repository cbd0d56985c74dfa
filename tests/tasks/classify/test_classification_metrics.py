"""Every number against scikit-learn, or against a literal loop where it has none."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from striate.errors import StriateError
from striate.tasks.classify.metrics import ClassificationMetrics

CLASSES = tuple("abcdefgh")


def logits_and_targets(count: int = 300, classes: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), targets] += 1.0
    return logits, targets


def judged(logits: torch.Tensor, targets: torch.Tensor, **options) -> ClassificationMetrics:
    metrics = ClassificationMetrics(CLASSES[: logits.shape[1]], **options)
    metrics.update(logits, targets)
    return metrics


def test_single_label_scalars_are_scikit_learns():
    logits, targets = logits_and_targets()
    values = judged(logits, targets).compute()
    said, probabilities = logits.argmax(1).numpy(), logits.softmax(1).numpy()
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(targets, said))
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, said))
    assert values["macro_f1"] == pytest.approx(sk.f1_score(targets, said, average="macro"))
    assert values["nll"] == pytest.approx(sk.log_loss(targets, probabilities), rel=1e-5)
    by_loop = np.mean(
        [target in np.argsort(-row)[:5] for row, target in zip(logits.numpy(), targets.numpy(), strict=True)]
    )
    assert values["top5"] == pytest.approx(by_loop)


def test_multi_label_scalars_are_scikit_learns():
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(200, 5, generator=generator) < 0.3).float()
    logits = torch.randn(200, 5, generator=generator) + 2 * targets - 1
    values = judged(logits, targets, multi_label=True).compute()
    said, truth = (logits.sigmoid() >= 0.5).numpy(), targets.numpy().astype(bool)
    assert values["map"] == pytest.approx(sk.average_precision_score(truth, logits.numpy(), average="macro"), rel=1e-5)
    assert values["macro_f1"] == pytest.approx(sk.f1_score(truth, said, average="macro"))
    assert values["micro_f1"] == pytest.approx(sk.f1_score(truth, said, average="micro"))
    assert values["exact_match"] == pytest.approx(sk.accuracy_score(truth, said))


def test_full_account_agrees_and_is_json():
    logits, targets = logits_and_targets()
    full = judged(logits, targets).full()
    said = logits.argmax(1).numpy()
    assert (np.array(full["confusion"]) == sk.confusion_matrix(targets, said)).all()
    precision, recall, f1, support = sk.precision_recall_fscore_support(targets, said, zero_division=0)
    for index, row in enumerate(full["per_class"]):
        found = (row["precision"], row["recall"], row["f1"], row["support"])
        assert found == pytest.approx((precision[index], recall[index], f1[index], support[index]))
    assert json.loads(json.dumps(full, allow_nan=False))["best"] == "accuracy"


def test_intervals_are_those_of_the_normal_approximation():
    logits, targets = logits_and_targets(2000)
    accuracy = judged(logits, targets).full()["scalars"]["accuracy"]
    half = 1.96 * math.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 2000)
    assert accuracy["low"] == pytest.approx(accuracy["value"] - half, abs=0.004)
    assert accuracy["high"] == pytest.approx(accuracy["value"] + half, abs=0.004)


def test_intervals_are_seeded():
    logits, targets = logits_and_targets()
    one, same, other = (judged(logits, targets).full(seed)["scalars"]["accuracy"] for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_a_class_that_does_not_occur_is_left_out_of_the_means():
    logits = torch.tensor([[2.0, 0, -1], [2.0, 0, -1], [0.0, 2, -1]])
    metrics = judged(logits, torch.tensor([0, 0, 1]))
    assert metrics.compute()["balanced_accuracy"] == 1.0
    assert metrics.full()["per_class"][2]["recall"] is None


def test_nan_logits_are_refused():
    with pytest.raises(StriateError, match=r"(?i)nan|finite"):
        judged(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0])).compute()


def test_nothing_judged_is_an_error():
    with pytest.raises(StriateError):
        ClassificationMetrics(CLASSES).compute()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_batches_do_not_matter(seed: int, sizes: list[int]):
    logits, targets = logits_and_targets(sum(sizes), seed=seed)
    whole = judged(logits, targets).compute()
    parts = ClassificationMetrics(CLASSES)
    for rows, truth in zip(logits.split(sizes), targets.split(sizes), strict=True):
        parts.update(rows, truth)
    assert parts.compute() == pytest.approx(whole, rel=1e-6)
