"""Against torch's own schedulers and the formulas of the papers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.train.schedules import Schedule, cosine, onecycle


def torch_factors(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def test_cosine_matches_torch():
    ours = Schedule("cosine", steps=40, steps_per_epoch=10)
    theirs = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40), 40)
    assert [ours.factor(step) for step in range(40)] == pytest.approx(theirs)


def test_step_matches_torch():
    ours = Schedule("step", steps=90, steps_per_epoch=1, step_epochs=30, step_gamma=0.1)
    theirs = torch_factors(lambda o: torch.optim.lr_scheduler.StepLR(o, 30), 90)
    assert [ours.factor(step) for step in range(90)] == pytest.approx(theirs)


def test_warmup_rises_linearly_then_hands_over():
    schedule = Schedule("cosine", steps=100, steps_per_epoch=10, warmup=1)
    assert [schedule.factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert schedule.factor(10) == pytest.approx(1.0)
    assert schedule.factor(55) == pytest.approx(0.5)


def test_onecycle_peaks_once():
    values = [onecycle(step / 1000) for step in range(1001)]
    peak = values.index(max(values))
    assert values[0] == pytest.approx(0.04)
    assert peak == 250
    assert values[250] == pytest.approx(1.0)
    assert values[:251] == sorted(values[:251])
    assert values[250:] == sorted(values[250:], reverse=True)
    assert values[-1] <= 1e-4


def test_plateau_reduces_after_patience_and_only_then():
    schedule = Schedule("plateau", steps=100, steps_per_epoch=10, step_gamma=0.1, plateau_patience=3)
    for _ in range(3):
        schedule.epoch_ended(improved=False)
    assert schedule.factor(50) == 1.0
    schedule.epoch_ended(improved=False)
    assert schedule.factor(50) == pytest.approx(0.1)
    schedule.epoch_ended(improved=True)
    assert schedule.waited == 0


@given(st.floats(0, 1))
def test_cosine_is_the_papers(progress: float):
    assert cosine(progress) == pytest.approx((1 + math.cos(progress * math.pi)) / 2)


@given(
    st.sampled_from(["constant", "cosine", "onecycle", "step"]),
    st.integers(1, 500),
    st.integers(1, 50),
    st.floats(0, 3),
)
def test_factors_stay_in_range(name: str, steps: int, per_epoch: int, warmup: float):
    schedule = Schedule(name, steps, per_epoch, warmup)
    for step in range(0, steps, max(1, steps // 20)):
        assert 0 <= schedule.factor(step) <= 1
