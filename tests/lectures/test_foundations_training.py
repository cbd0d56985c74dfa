"""Part A where something learns: optimisers against formulas, penalties against scikit-learn, targets, mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.lectures.foundations import optimizers, regularization, regularization_runs, shrinkage
from striate.lectures.foundations.equivariance import change, commutes, savings
from striate.lectures.foundations.kernels import photograph

# A7


def test_a_convolution_commutes_with_translation_exactly():
    layer = torch.nn.Conv2d(1, 6, 5, padding=2)
    assert commutes(layer, photograph()[None, None].float(), 11) == 0
    not_equivariant = torch.nn.Sequential(layer, torch.nn.AdaptiveMaxPool2d(3), torch.nn.Upsample(256))
    assert commutes(not_equivariant, photograph()[None, None].float(), 11) > 0.01


def test_change_is_relative():
    here = {"map": torch.tensor([[3.0, 4.0], [0.0, 2.0]])}
    there = {"map": torch.tensor([[3.0, 4.0], [0.0, 3.0]])}
    assert change(here, there) == {"map": pytest.approx((0 + 0.5) / 2)}


def test_savings_counted():
    _, looks, pixels, learnt, dense, times = savings()[0]
    assert (looks, pixels, learnt, dense) == (3 * 3 * 16, 16 * 64, 9 * 16 * 16, (16 * 64) ** 2)
    assert times == dense // learnt


# A9


@pytest.mark.parametrize("name", optimizers.NAMES)
@pytest.mark.parametrize("surface", ["curved", "gentle"])
def test_optimisers_follow_their_formulas(name: str, surface: str):
    place = optimizers.SURFACES[surface]
    off = optimizers.race(place, name, 0.03, steps=60) - optimizers.by_hand(place, name, 0.03, 60)
    assert off.abs().max() < 1e-11


def test_descent_on_a_quadratic_has_a_closed_form():
    bowl = optimizers.SURFACES["noisy"]._replace(noise=0.0)
    path = optimizers.race(bowl, "sgd", 0.2, steps=30)[:, 0]
    steps = torch.arange(31, dtype=torch.float64)
    assert torch.allclose(path[:, 0], -8 * (1 - 0.2 * 0.2) ** steps)
    assert torch.allclose(path[:, 1], 2 * (1 - 0.2 * 1.0) ** steps)


def test_the_same_seed_gives_the_same_noise():
    noisy = optimizers.SURFACES["noisy"]
    first, again, other = (optimizers.race(noisy, "adam", 0.1, 20, runs=3, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])


def test_every_check_of_the_optimisers_agrees():
    assert [check.what for check in optimizers.checks() if not check.agrees] == []


# A10


def from_pixels() -> tuple[np.ndarray, np.ndarray]:
    """The same 120 threes and eights, from scikit-learn and by NumPy."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    chosen = (labels == 3) | (labels == 8)
    order = torch.randperm(int(chosen.sum()), generator=torch.Generator().manual_seed(0)).numpy()
    x, y = values[chosen][order][:120], (labels[chosen] == 3)[order][:120] * 2.0 - 1
    std = x.std(0)
    return (x - x.mean(0)) / np.where(std > 0, std, 1), y


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.01])
def test_l1_is_the_lasso(alpha: float):
    from sklearn.linear_model import Lasso

    x, y = from_pixels()
    expected = Lasso(alpha, fit_intercept=False, tol=1e-10, max_iter=200_000).fit(x, y).coef_
    ours = shrinkage.l1(shrinkage.threes_and_eights(), alpha).numpy()
    assert np.allclose(ours, expected, atol=1e-6)
    assert ((ours == 0) == (np.abs(expected) < 1e-9)).all()


@pytest.mark.parametrize("alpha", [1.0, 0.01])
def test_l2_is_ridge_regression(alpha: float):
    from sklearn.linear_model import Ridge

    x, y = from_pixels()
    expected = Ridge(alpha * len(y), fit_intercept=False).fit(x, y).coef_
    problem = shrinkage.threes_and_eights()
    assert np.allclose(shrinkage.l2(problem, alpha), expected, atol=1e-10)
    assert np.allclose(shrinkage.l2_by_directions(problem, alpha), expected, atol=1e-10)


def test_l1_on_a_diagonal_is_soft_thresholding():
    """Goodfellow et al. 2016, equation 7.23: sign(w*) max(|w*| − α/H, 0)."""
    curvature, best = torch.tensor([0.5, 2.0, 1.0]).double(), torch.tensor([1.0, -0.2, 0.05]).double()
    problem = shrinkage.Quadratic(curvature.diag(), curvature * best, torch.eye(3).double(), best)
    assert torch.allclose(shrinkage.l1(problem, 0.1), torch.tensor([0.8, -0.15, 0.0]).double(), atol=1e-9)


@pytest.mark.parametrize("steps", [1, 7, 300])
def test_early_stopping_has_a_closed_form(steps: int):
    problem = shrinkage.threes_and_eights()
    walked = shrinkage.descent(problem, problem.rate(), steps)[-1]
    assert torch.allclose(walked, shrinkage.descent_by_directions(problem, problem.rate(), steps), atol=1e-10)


def test_stopping_equals_l2_where_the_book_says_so():
    """(1 − ελ)^τ = α/(λ+α): with that α, both keep the same share of w* (equation 7.41)."""
    curvature, rate, steps = 0.7, 0.1, 12
    left = (1 - rate * curvature) ** steps
    alpha = curvature * left / (1 - left)
    best = torch.tensor([1.3]).double()
    problem = shrinkage.Quadratic(torch.tensor([[curvature]]).double(), curvature * best, torch.eye(1).double(), best)
    assert torch.allclose(shrinkage.descent(problem, rate, steps)[-1], shrinkage.l2(problem, alpha), atol=1e-14)


def test_label_smoothing_aims_at_091_and_001():
    target = regularization.smoothed_target()
    assert target[3] == 0.91
    assert target[:3] + target[4:] == [0.01] * 9


def test_mixup_mixes_pictures_and_labels_alike():
    share, off = regularization.mixed_by_formula()
    assert 0 < share < 1
    assert off < 1e-12


def test_every_check_of_regularisation_agrees():
    checks = regularization.checks(shrinkage.threes_and_eights())
    assert [check.what for check in checks if not check.agrees] == []


def test_a_difference_within_noise_is_said_to_be():
    base = {key: [0.90, 0.91, 0.92, 0.90, 0.91, 0.92] for key in ("accuracy", "nll", "confidence")}
    better = {**base, "accuracy": [value + 0.02 + 0.001 * (index % 2) for index, value in enumerate(base["accuracy"])]}
    noisy = {**base, "accuracy": [0.93, 0.89, 0.94, 0.88, 0.93, 0.90]}
    _, rows, sentences = regularization_runs.verdicts({"nothing": base, "mixup": better, "label smoothing": noisy})
    assert [row[3] for row in rows] == ["", "better", "within noise"]
    assert "within noise" in sentences[1]


def test_interval_is_students():
    from scipy import stats

    ours, base = [0.95, 0.93, 0.97, 0.94, 0.96, 0.95], [0.93, 0.93, 0.94, 0.95, 0.92, 0.94]
    mean, half = regularization_runs.difference(ours, base)
    low, high = stats.ttest_rel(ours, base).confidence_interval(0.95)
    assert (mean - half, mean + half) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))
