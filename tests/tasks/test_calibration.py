"""Calibration against literal loops and known answers (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from striate.tasks.calibration import expected_calibration_error, fit_temperature, tune_thresholds


def calibrated(count: int = 4000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the truth's own distribution."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 5, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_scaling(factor: float):
    logits, targets = calibrated()
    assert fit_temperature(logits * factor, targets) == pytest.approx(factor, rel=0.06)


def test_temperature_is_where_the_loss_is_lowest():
    logits, targets = calibrated(500, seed=3)
    best = fit_temperature(logits, targets)
    losses = {
        t: torch.nn.functional.cross_entropy(logits / t, targets).item() for t in (best, best * 0.97, best * 1.03)
    }
    assert min(losses, key=losses.__getitem__) == best


def test_temperature_does_not_run_away_when_all_is_right():
    logits = torch.eye(4).repeat(10, 1) * 8
    assert 0.05 < fit_temperature(logits, torch.arange(4).repeat(10)) < 20


def test_ece_is_the_papers_sum():
    logits, targets = calibrated(700, seed=1)
    probabilities = (logits * 2).softmax(1)
    confidence, said = probabilities.double().max(1)
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i in range(700) if low < confidence[i] <= high]
        if inside:
            right = np.mean([float(said[i] == targets[i]) for i in inside])
            sure = np.mean([float(confidence[i]) for i in inside])
            total += len(inside) / 700 * abs(right - sure)
    assert expected_calibration_error(probabilities, targets) == pytest.approx(total, abs=1e-6)


def test_calibrated_probabilities_have_little_error():
    logits, targets = calibrated(20_000)
    assert expected_calibration_error(logits.softmax(1), targets) < 0.02
    assert expected_calibration_error((4 * logits).softmax(1), targets) > 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_no_threshold_has_a_higher_f1(seed: int):
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(30, 2, generator=generator) < 0.4).float()
    logits = torch.randn(30, 2, generator=generator) + targets
    thresholds = tune_thresholds(logits, targets)
    scores = logits.sigmoid().numpy()
    for column in range(2):
        truth = targets[:, column].numpy()
        if not truth.any():
            assert thresholds[column] == 0.5
            continue
        ours = f1_score(truth, scores[:, column] >= thresholds[column], zero_division=0)
        best = max(f1_score(truth, scores[:, column] >= t, zero_division=0) for t in scores[:, column])
        assert ours == pytest.approx(best)
