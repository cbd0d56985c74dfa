"""The task keypoints: what is taught, what is kept, what is decoded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import jensenshannon

from striate.config import Preprocess, Recipe
from striate.data.geometry import preprocess_affine
from striate.data.targets import Points
from striate.errors import DataError, UsageError
from striate.inference.sources import Source
from striate.results import Keypoints as Result
from striate.tasks.keypoints.networks import gaussians
from striate.tasks.keypoints.task import HEADS, HEAT_SIGMA, Keypoints, jensen_shannon
from striate.train.recipes import refuse_unsupported

NAMES = ("left_eye", "right_eye", "nose")


def test_targets_are_stacked_and_unknown_ones_are_zero():
    task = Keypoints(NAMES)
    values = torch.tensor([[1.0, 2, 1], [float("nan"), 7, 0], [5, 6, 1]])
    points = [Points(values), None]
    targets = task.collate(points)
    assert targets.tolist() == [[[1, 2, 1], [0, 0, 0], [5, 6, 1]], [[0, 0, 0]] * 3]
    assert task.class_counts(points).tolist() == [1, 0, 1]
    assert task.sample_weights(points).tolist() == [1, 1]
    with pytest.raises(UsageError, match="mixup"):
        refuse_unsupported(Recipe(mixup=0.2), task)


def test_regression_learns_l1_of_known_points_over_all_stages():
    task = Keypoints(NAMES)
    points = torch.rand(2, 2, 3, 2, requires_grad=True)
    targets = torch.rand(2, 3, 3) * 50
    targets[..., 2] = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    loss = task.loss({"points": points, "image_size": torch.tensor([40, 80])}, targets)["loss"]
    total = 0.0
    for b, k in ((0, 0), (0, 2), (1, 0), (1, 1)):
        for stage in range(2):
            x, y = points[b, stage, k].tolist()
            total += abs(x - float(targets[b, k, 0]) / 80) + abs(y - float(targets[b, k, 1]) / 40)
    assert float(loss.detach()) == pytest.approx(total / 4, rel=1e-5)
    loss.backward()
    assert points.grad is not None
    assert (points.grad[0, :, 1] == 0).all()
    assert (points.grad[1, :, 2] == 0).all()


def test_heat_is_learnt_by_squared_error_and_points_outside_are_left_out():
    task = Keypoints(NAMES)
    maps = torch.randn(1, 3, 8, 8, requires_grad=True)
    targets = torch.tensor([[[16.0, 8, 1], [-5, 3, 1], [20, 20, 0]]])
    loss = task.loss({"maps": maps, "image_size": torch.tensor([32, 32])}, targets)["loss"]
    heat = gaussians(torch.tensor([[[0.5, 0.25]]]), 8, 8, HEAT_SIGMA)[0, 0]
    assert float(loss.detach()) == pytest.approx(float((maps[0, 0] - heat).square().sum().detach()), rel=1e-5)
    loss.backward()
    assert maps.grad is not None
    assert (maps.grad[0, 1:] == 0).all()


def test_the_divergence_is_scipys():
    maps = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    heat = gaussians(torch.rand(2, 3, 2), 6, 5, 1.0)
    found = jensen_shannon(maps, heat)
    for b in range(2):
        for k in range(3):
            said = maps[b, k].flatten().double().softmax(0).numpy()
            taught = heat[b, k].flatten().double().numpy()
            assert float(found[b, k]) == pytest.approx(jensenshannon(said, taught / taught.sum()) ** 2, abs=1e-5)


def test_a_perfect_soft_map_costs_nearly_nothing_and_nothing_known_costs_nothing():
    task = Keypoints(NAMES)
    truth = torch.tensor([[[10.0, 20, 1], [30, 12, 1], [22, 22, 1]]])
    maps = (gaussians(truth[..., :2] / 40, 10, 10, 1.0) + 1e-9).log()
    from striate.tasks.keypoints.networks import centres

    outputs = {"points": centres(maps)[:, None], "maps": maps, "image_size": torch.tensor([40, 40])}
    perfect = task.loss(outputs, truth)
    assert float(perfect["loss"]) < 1e-2
    nothing = task.loss(outputs, torch.zeros(1, 3, 3))
    assert float(nothing["loss"]) == 0


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("head", ["soft", "heatmap", "regression"])
def test_settled_points_lie_where_the_pictures_had_them(head: str, fit: str):
    """Points are moved into the network's picture as the data layer does it, said perfectly, and settled."""
    task, preprocess = Keypoints(NAMES), Preprocess(size=(64, 96), fit=fit, crop_ratio=1.0)  # type: ignore[arg-type]
    sizes = torch.tensor([[100, 200], [131, 77]])
    whole = torch.tensor([[[90.0, 40], [110, 60], [100, 50]], [[30, 60], [45, 62], [38.5, 71]]])
    targets = [Points(torch.cat((points, torch.ones(3, 1)), 1)) for points in whole]
    seen = task.collate(
        [
            target.warp(preprocess_affine((int(h), int(w)), preprocess), preprocess.size)  # type: ignore[misc]
            for target, (h, w) in zip(targets, sizes.tolist(), strict=True)
        ]
    )
    places = seen[..., :2] / torch.tensor([96.0, 64.0])
    maps = gaussians(places, 16, 24, 1.5)
    outputs = {
        "soft": {"points": places[:, None], "maps": (maps + 1e-9).log()},
        "heatmap": {"maps": maps},
        "regression": {"points": places[:, None]},
    }[head] | {"image_size": torch.tensor([64, 96])}
    settled = torch.stack(task.postprocess(outputs, sizes, preprocess))
    assert settled.dtype == torch.float32
    assert torch.allclose(settled[..., :2], whole, atol=0.1)
    assert ((settled[..., 2] > 0.5) & (settled[..., 2] <= 1)).all()


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_one_picture(head: str):
    torch.manual_seed(0)
    task = Keypoints(NAMES)
    network = task.build(f"{head}/conv16-relu-pool-conv32-relu-pool-conv32-relu", 1)
    images = torch.zeros(4, 1, 32, 32)
    targets = torch.zeros(4, 3, 3)
    for i in range(4):
        for k in range(3):
            x, y = 6 + 5 * i + 2 * k, 8 + 6 * k
            images[i, 0, y - 2 : y + 2, x - 2 : x + 2] = 1 + k
            targets[i, k] = torch.tensor([float(x), float(y), 1])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3 if head in ("regression", "cascade") else 3e-3)
    first = last = 0.0
    for step in range(50 if head in ("regression", "cascade") else 25):
        loss = task.loss(network(images), targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (float(loss.detach()), last) if step == 0 else (first, float(loss.detach()))
    assert last < 0.5 * first


def test_arguments_build_the_task_again_and_wrong_ones_are_told():
    task = Keypoints(("a", "b"), symmetry=[1, 0])
    again = Keypoints(task.classes, **json.loads(json.dumps(task.arguments)))
    assert again.arguments == task.arguments
    assert again.pairs == (1, 0)
    with pytest.raises(UsageError, match='Did you mean "heatmap"'):
        task.build("heatmaps/resnet20_cifar", 3)
    with pytest.raises(UsageError, match="regression/resnet18"):
        task.build("regression", 3)
    assert task.backbone_of("cascade/resnet34") == "resnet34"
    assert task.backbone_of("timm/resnet26") == "timm/resnet26"
    with pytest.raises(DataError, match="at least one"):
        Keypoints(())
    with pytest.raises(UsageError, match="threshold"):
        task.to_result(torch.zeros(2, 3), None, threshold=0.5)


# --- results ---------------------------------------------------------------------------------------------------------


def result() -> Result:
    pixels = torch.full((3, 60, 80), 128, dtype=torch.uint8)
    points = torch.tensor([[20.0, 20, 0.9], [60, 20, 0.8], [40, 45, 0.05]])
    return Keypoints(NAMES).to_result(points, Source("me.jpg", pixels))


def test_points_print_and_become_json():
    assert str(result()) == "me.jpg: 3 points from (20, 20) to (60, 45), 58 % sure"
    found = json.loads(json.dumps(result().to_dict(), allow_nan=False))
    assert found["points"]["nose"] == [40, 45, 0.05]
    assert list(result().to_dict(1)["points"]) == ["left_eye"]
    assert result()["right_eye"] == (60, 20)
    with pytest.raises(KeyError):
        result()["ear"]
    odd = Result(Source("x", None), ("a",), torch.full((1, 3), float("nan")))
    assert odd.to_dict()["points"]["a"] == [None, None, None]


def test_points_are_drawn_where_they_are(tmp_path):
    drawn = np.asarray(result().draw()).astype(int)
    factor = drawn.shape[1] // 80
    ink = (np.abs(drawn - (249, 115, 22)).sum(2) < 30).nonzero()
    rows, columns = ink[0] / factor, ink[1] / factor
    assert {(round(c / 20), round(r / 20)) for r, c in zip(rows, columns, strict=True)} == {(1, 1), (3, 1), (2, 2)}
    assert tuple(drawn[45 * factor, 40 * factor]) == (128, 128, 128)  # unsure: hollow
    with Image.open(result().save(tmp_path / "me.png")) as saved:
        assert saved.size == (80 * factor, 60 * factor)
    with pytest.raises(UsageError, match="overwrite"):
        result().save(tmp_path / "me.png")
    Result(Source("x", None), ("a",), torch.full((1, 3), float("nan"))).draw(torch.zeros(3, 9, 9, dtype=torch.uint8))
