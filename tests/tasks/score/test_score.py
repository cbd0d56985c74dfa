"""Scores: NIMA's loss and measures against scipy and brute force; results that print, draw and become JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from striate.backbones.backbone import WithAuxiliary
from striate.data.sample import Sample
from striate.data.targets import Votes
from striate.errors import DataError, StriateError, UsageError
from striate.inference.sources import Source
from striate.results import Rating
from striate.tasks import create_task
from striate.tasks.score.metrics import ScoreMetrics, correlation, mean_and_spread, ranks
from striate.tasks.score.task import earth_movers_distance

GRADES = tuple(str(grade) for grade in range(1, 11))


def some(count: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 10, generator=generator)
    shares = torch.randn(count, 10, generator=generator).softmax(1)
    return logits, shares


def judged(logits: torch.Tensor, shares: torch.Tensor) -> ScoreMetrics:
    metrics = create_task("score", classes=GRADES).metrics()
    metrics.update(logits[:7], shares[:7])
    metrics.update(logits[7:], shares[7:])
    return metrics


def test_the_loss_is_nimas_equation_1():
    logits, shares = some(5)
    expected = []
    for row, truth in zip(logits.double().softmax(1), shares.double(), strict=True):
        total = 0.0
        for k in range(10):
            total += (float(row[: k + 1].sum()) - float(truth[: k + 1].sum())) ** 2
        expected.append((total / 10) ** 0.5)
    assert torch.allclose(earth_movers_distance(logits, shares), torch.tensor(expected), atol=1e-6)
    task = create_task("score", classes=GRADES)
    assert float(task.loss(logits, shares)["loss"]) == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_loss_has_a_slope_that_is_finite_where_it_is_zero():
    shares = torch.full((1, 4), 0.25)
    logits = torch.zeros(1, 4, requires_grad=True)
    create_task("score", classes=("1", "2", "3", "4")).loss(logits, shares)["loss"].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_loss_grows_with_the_distance_the_votes_move_unlike_cross_entropy():
    task = create_task("score", classes=("1", "2", "3", "4", "5"))
    truth = torch.eye(5)[:1]
    said = 20 * torch.eye(5)
    losses = [float(task.loss(said[i : i + 1], truth)["loss"]) for i in range(5)]
    assert losses == sorted(losses)
    assert losses[4] == pytest.approx((4 / 5) ** 0.5, abs=1e-4)


def test_smoothing_weights_and_auxiliary_classifiers():
    task = create_task("score", classes=GRADES)
    logits, shares = some(6)
    smooth = 0.8 * shares + 0.02
    assert torch.allclose(task.loss(logits, shares, 0.2)["loss"], earth_movers_distance(logits, smooth).mean())
    weights = torch.arange(1.0, 11.0)
    of_picture = shares @ weights
    expected = (earth_movers_distance(logits, shares) * of_picture).sum() / of_picture.sum()
    assert torch.allclose(task.loss(logits, shares, class_weights=weights)["loss"], expected)
    both = task.loss(WithAuxiliary(logits, (logits, logits), 0.3), shares)["loss"]
    assert torch.allclose(both, 1.6 * task.loss(logits, shares)["loss"])


def test_scalars_are_scipys():
    logits, shares = some()
    values = judged(logits, shares).compute()
    grades = np.arange(1, 11)
    said = logits.double().softmax(1).numpy()
    voted = shares.double().numpy()
    mean_said, mean_voted = said @ grades, voted @ grades
    assert values["spearman"] == pytest.approx(stats.spearmanr(mean_said, mean_voted).statistic, abs=1e-9)
    assert values["pearson"] == pytest.approx(stats.pearsonr(mean_said, mean_voted).statistic, abs=1e-9)
    assert values["mae"] == pytest.approx(np.abs(mean_said - mean_voted).mean(), abs=1e-9)
    moved = [stats.wasserstein_distance(grades, grades, p, q) for p, q in zip(said, voted, strict=True)]
    assert values["emd"] == pytest.approx(np.mean(moved), abs=1e-6)
    assert values["side"] == pytest.approx(((mean_said > 5.5) == (mean_voted > 5.5)).mean())
    spread_said = np.sqrt((said * (grades - mean_said[:, None]) ** 2).sum(1))
    spread_voted = np.sqrt((voted * (grades - mean_voted[:, None]) ** 2).sum(1))
    assert values["spread_spearman"] == pytest.approx(stats.spearmanr(spread_said, spread_voted).statistic, abs=1e-9)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
@settings(deadline=None)
def test_ranks_are_scipys_with_ties(values: list[int]):
    assert ranks(torch.tensor(values)).tolist() == stats.rankdata(values).tolist()


def test_correlation_of_what_does_not_vary_is_zero_and_weights_repeat_pairs():
    x, y = torch.tensor([1.0, 2.0, 4.0, 4.0]), torch.tensor([2.0, 1.0, 5.0, 3.0])
    assert float(correlation(x, torch.ones(4))) == 0
    weights = torch.tensor([[2.0, 0.0, 1.0, 3.0]], dtype=torch.float64)
    index = [0, 0, 2, 3, 3, 3]
    assert float(correlation(x, y, weights)[0]) == pytest.approx(np.corrcoef(x[index], y[index])[0, 1])


def test_a_single_number_a_picture_has_no_spread_to_judge():
    logits, _ = some(10)
    shares = torch.zeros(10, 10)
    shares[:, 3], shares[:, 4] = 0.25, 0.75
    assert "spread_spearman" not in judged(logits, shares).compute()


def test_the_full_account_holds_its_values_and_is_json():
    full = judged(*some(60)).full()
    assert json.loads(json.dumps(full))["samples"] == 60
    for one in full["scalars"].values():
        assert one["low"] <= one["value"] <= one["high"]
    assert f"{full['scalars']['spearman']['value']:.3f}" in full["sentence"]


def test_hostile_outputs_are_told():
    metrics = create_task("score", classes=GRADES).metrics()
    with pytest.raises(DataError, match="no pictures"):
        metrics.compute()
    with pytest.raises(UsageError, match="expected"):
        metrics.update(torch.zeros(2, 9), torch.zeros(2, 9))
    metrics.update(torch.tensor([[float("nan")] * 10]), torch.full((1, 10), 0.1))
    with pytest.raises(StriateError, match="picture 0 of 1"):
        metrics.compute()
    with pytest.raises(DataError, match="needs numbers"):
        create_task("score", classes=("good", "bad"))
    with pytest.raises(UsageError, match="threshold"):
        create_task("score", classes=GRADES).to_result(torch.zeros(10), None, threshold=0.5)


def test_votes_become_shares_and_pictures_count_for_the_grade_nearest_their_mean():
    task = create_task("score", classes=("1", "2", "3"))
    votes = [Votes((1.0, 1.0, 2.0)), Votes((0.0, 5.0, 0.0)), Votes((9.0, 1.0, 0.0))]
    targets = task.collate(votes)
    assert torch.allclose(targets, torch.tensor([[0.25, 0.25, 0.5], [0, 1, 0], [0.9, 0.1, 0]]))
    assert task.class_counts(votes).tolist() == [1, 2, 0]
    assert task.sample_weights(votes).tolist() == [0.5, 0.5, 1.0]
    assert task.soft_targets(targets) is targets


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(deadline=None)
def test_mean_and_spread_are_numpys(counts: list[float]):
    shares = torch.tensor([counts]) / sum(counts)
    mean, spread = mean_and_spread(shares, torch.tensor([1.0, 2.0, 3.0]))
    expected = np.average([1, 2, 3], weights=counts)
    assert float(mean[0]) == pytest.approx(expected, rel=1e-5)
    assert float(spread[0]) == pytest.approx(
        np.average((np.array([1, 2, 3]) - expected) ** 2, weights=counts) ** 0.5, abs=1e-3
    )


# --- results ---------------------------------------------------------------------------------------------------------


def rating(target: float | None = None) -> Rating:
    pixels = torch.full((3, 20, 30), 128, dtype=torch.uint8)
    return Rating(Source("dune.jpg", pixels, target), (1.0, 2.0, 3.0), torch.tensor([0.2, 0.3, 0.5]))


def test_a_rating_prints_and_becomes_json():
    assert str(rating()) == "dune.jpg: 2.30 ± 0.78 of 1 to 3"
    assert str(rating(2.0)) == "dune.jpg: 2.30 ± 0.78 of 1 to 3  (people: 2.00)"
    assert rating(2.0).caption() == "2.3 ± 0.8 (2.0)"
    found = json.loads(json.dumps(rating(2.0).to_dict(), allow_nan=False))
    assert found["score"] == pytest.approx(2.3)
    assert found["spread"] == pytest.approx(0.6100**0.5)
    assert found["shares"] == {"1": 0.2, "2": 0.3, "3": 0.5}
    assert found["target"] == 2.0


def test_a_rating_is_drawn_with_its_histogram(tmp_path):
    drawn = rating().draw()
    pixels = np.asarray(drawn)
    assert drawn.width >= 256
    below = pixels[20 * (256 // 30) + 30 :]
    assert (below == (96, 165, 250)).all(-1).any(), "no bars"
    with Image.open(rating().save(tmp_path / "dune.png")) as saved:
        assert saved.size == drawn.size
    assert json.loads(rating().save(tmp_path / "dune.json").read_text())["source"] == "dune.jpg"
    with pytest.raises(UsageError, match="overwrite"):
        rating().save(tmp_path / "dune.png")


def test_sections_show_every_kind_of_part(tmp_path):
    logits, shares = some(30)
    metrics = judged(logits, shares)
    samples = [Sample(torch.zeros(3, 8, 8, dtype=torch.uint8), None, f"{i}.png") for i in range(30)]
    task = create_task("score", classes=GRADES)

    def read(sample: Sample) -> torch.Tensor:
        if sample.name == "3.png":
            raise DataError("3.png: gone")
        return sample.image  # type: ignore[return-value]

    made = task.sections(metrics, samples, read)
    assert [section.title for section in made] == [
        "The numbers",
        "Said against voted",
        "Worst misjudged",
        "Liked most",
        "Liked least",
    ]
    assert len(made[1].figures) == 3
    liked = [card.caption.split("\n")[-1] for card in made[3].pictures]
    mean = metrics.summaries()["said_mean"]
    assert liked[0] == f"{int(mean.argmax())}.png"
    with pytest.raises(StriateError, match="30 outputs"):
        task.sections(metrics, samples[:-1], read)
