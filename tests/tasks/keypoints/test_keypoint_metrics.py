"""Errors of points against NumPy and the curve that the area is under."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from striate.data.sample import Sample
from striate.errors import DataError, StriateError, UsageError
from striate.tasks.keypoints.metrics import KeypointMetrics
from striate.tasks.keypoints.task import Keypoints

FIVE = ("a", "b", "c", "d", "e")


def judged(count: int = 30, points: int = 68, spread: float = 4.0, seed: int = 0) -> KeypointMetrics:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(count, points, 3, generator=generator) * 200
    truth[..., 2] = (torch.rand(count, points, generator=generator) < 0.9).float()
    truth[:, [0, points // 2, points - 1], 2] = 1
    truth[:, 36 % points, 2] = truth[:, 45 % points, 2] = 1
    said = truth + torch.randn(count, points, 3, generator=generator) * spread
    said[..., 2] = 1
    metrics = Keypoints(tuple(map(str, range(points)))).metrics()
    metrics.update(said[:7], truth[:7])
    metrics.update(said[7:], truth[7:])
    return metrics


@pytest.mark.parametrize("points", [68, 5])
def test_scalars_are_numpys(points: int):
    metrics = judged(points=points)
    values = metrics.compute()
    said, truth = (part.double().numpy() for part in metrics.gathered())
    errors, pixels = [], []
    within: dict[float, list[float]] = {0.05: [], 0.1: []}
    for one, true in zip(said, truth, strict=True):
        known = true[:, 2] > 0
        if points == 68:
            unit = np.linalg.norm(true[36, :2] - true[45, :2])
        else:
            box = true[known, :2]
            unit = np.linalg.norm(box.max(0) - box.min(0))
        distance = np.linalg.norm(one[known, :2] - true[known, :2], axis=1)
        errors.append((distance / unit).mean())
        pixels.append(distance.mean())
        for bar, found in within.items():
            found.append((distance / unit <= bar).mean())
    assert values["nme"] == pytest.approx(np.mean(errors))
    assert values["pixels"] == pytest.approx(np.mean(pixels))
    assert values["pck_05"] == pytest.approx(np.mean(within[0.05]))
    assert values["pck_10"] == pytest.approx(np.mean(within[0.1]))
    assert values["failures"] == pytest.approx((np.array(errors) > 0.1).mean())
    bars = np.linspace(0, 0.1, 200_001)
    curve = (np.array(errors)[None] <= bars[:, None, ]).mean(1) if points == 5 else None  # fmt: skip
    if curve is not None:
        assert values["auc"] == pytest.approx(np.trapezoid(curve, bars) / 0.1, abs=1e-4)


def test_perfect_points_are_perfect():
    values = judged(spread=0.0).compute()
    assert values["nme"] == 0
    assert values["auc"] == values["pck_05"] == 1
    assert values["failures"] == 0


def test_pictures_without_a_unit_are_left_out_and_counted():
    metrics = Keypoints(FIVE).metrics()
    truth = torch.zeros(4, 5, 3)
    truth[0] = torch.tensor([[0.0, 0, 1], [30, 40, 1], [10, 10, 1], [0, 0, 0], [0, 0, 0]])
    truth[1, 0] = torch.tensor([5.0, 5, 1])  # one point alone has no extent
    truth[2, :, 2] = 1  # all on one place
    said = truth.clone()
    said[0, 1, 0] += 5  # a tenth of the diagonal, at one of three known points
    metrics.update(said, truth)
    full = metrics.full()
    assert (full["samples"], full["judged"]) == (4, 1)
    assert full["scalars"]["nme"]["value"] == pytest.approx(0.1 / 3)
    assert full["points"]["d"] is None
    json.dumps(full, allow_nan=False)


def test_one_point_alone_is_measured_by_100_pixels():
    metrics = Keypoints(("pupil",)).metrics()
    metrics.update(torch.tensor([[[13.0, 24, 1]]]), torch.tensor([[[10.0, 20, 1]]]))
    assert metrics.compute()["nme"] == pytest.approx(0.05)


def test_the_full_account_holds_its_values():
    full = judged().full()
    assert json.loads(json.dumps(full, allow_nan=False))["samples"] == 30
    for one in full["scalars"].values():
        assert one["low"] <= one["value"] <= one["high"]
    assert "points 36 and 45" in full["sentence"]


def test_hostile_outputs_are_told():
    metrics = Keypoints(FIVE).metrics()
    with pytest.raises(DataError, match="no pictures"):
        metrics.compute()
    with pytest.raises(UsageError, match="expected"):
        metrics.update(torch.zeros(2, 4, 3), torch.zeros(2, 4, 3))
    metrics.update(torch.zeros(1, 5, 3), torch.zeros(1, 5, 3))
    with pytest.raises(DataError, match="none is known"):
        metrics.compute()
    metrics.update(torch.full((1, 5, 3), float("nan")), torch.ones(1, 5, 3))
    with pytest.raises(StriateError, match="picture 1 of 2"):
        metrics.compute()


def test_sections_show_the_worst_first_and_survive_a_lost_picture():
    metrics = judged()
    samples = [Sample(torch.full((3, 200, 200), i, dtype=torch.uint8), None, f"{i}.png") for i in range(30)]
    task = Keypoints(metrics.classes)
    errors = metrics.errors().nanmean(1)
    worst = int(errors.argmax())

    def read(sample: Sample) -> torch.Tensor:
        if sample.name == f"{worst}.png":
            raise DataError("gone")
        return sample.image  # type: ignore[return-value]

    made = task.sections(metrics, samples, read)
    assert [section.title for section in made] == ["The numbers", "How far off", "Furthest off", "Nearest"]
    assert len(made[1].figures) == 2
    first = made[2].pictures[0]
    assert f"{worst}.png" in first.caption
    assert first.picture is None
    assert isinstance(made[3].pictures[0].picture, bytes)
    assert f"{int(errors.argmin())}.png" in made[3].pictures[0].caption
    with pytest.raises(StriateError, match="30 outputs"):
        task.sections(metrics, samples[:-1], read)
