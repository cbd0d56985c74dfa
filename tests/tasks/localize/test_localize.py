"""One object a picture: the lecture's masked loss, boxes that come back, measures against torchvision and by hand."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from striate.config import Preprocess, Recipe
from striate.data.geometry import preprocess_affine
from striate.data.sample import Sample
from striate.data.targets import CROWD, DIFFICULT, Objects
from striate.errors import DataError, StriateError, UsageError
from striate.inference.sources import Source
from striate.results import Detections
from striate.tasks.localize.metrics import LocalizeMetrics, overlaps
from striate.tasks.localize.task import LOSSES, Localize
from striate.train.recipes import refuse_unsupported

NAMES = ("car", "cat", "dog")


def some_targets() -> torch.Tensor:
    """Two pictures with an object, one without."""
    return Localize(NAMES).collate(
        [Objects.of([[10, 20, 50, 60]], [2]), None, Objects.of([[0, 0, 80, 40], [1, 1, 2, 2]], [0, 1])]
    )


def test_the_largest_plain_object_is_the_target():
    task = Localize(NAMES)
    boxes = [[0, 0, 90, 90], [0, 0, 80, 80], [5, 5, 25, 25], [1, 1, 21, 21]]
    objects = [
        Objects.of(boxes, [0, 1, 2, 0], kinds=[CROWD, DIFFICULT, 0, 0]),
        Objects.of(boxes[:1], [0], kinds=[CROWD]),
        Objects.of([], []),
        None,
    ]
    targets = task.collate(objects)
    assert targets.shape == (4, 1, 7)
    assert targets[0, 0].tolist() == [5, 5, 25, 25, 2, 0, 400]
    assert targets[1:, 0, 4].tolist() == [-1, -1, -1]
    assert task.class_counts(objects).tolist() == [0, 0, 1]
    assert task.sample_weights(objects).tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])


def outputs_of(values: Tensor, height: int, width: int) -> dict[str, Tensor]:
    return {"values": values, "image_size": torch.tensor([height, width])}


def test_the_squared_loss_is_the_lectures():
    values = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    losses = Localize(NAMES, loss="squared").loss(outputs_of(values, 100, 200), some_targets())
    y = [[1, 0.15, 0.4, 0.2, 0.4, 0, 0, 1], [0] * 8, [1, 0.2, 0.2, 0.4, 0.4, 1, 0, 0]]
    expected = 0.0
    for said, true in zip(values.tolist(), y, strict=True):
        if true[0]:
            expected += sum((a - b) ** 2 for a, b in zip(said, true, strict=True))
        else:
            expected += said[0] ** 2  # the others are "don't care"
    assert float(losses["loss"].detach()) == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_box_and_class_are_not_taught_where_no_object_is(kind: str):
    values = torch.randn(3, 8, requires_grad=True)
    losses = Localize(NAMES, loss=kind).loss(outputs_of(values, 100, 200), some_targets(), 0.1)
    losses["loss"].backward()
    assert values.grad is not None
    assert (values.grad[1, 1:] == 0).all()
    assert (values.grad[:, 0] != 0).all()
    assert (values.grad[[0, 2]] != 0).all()
    total = losses["presence"] + losses["box"] + losses["class"]
    assert float(losses["loss"].detach()) == pytest.approx(float(total.detach()))


@pytest.mark.parametrize("kind", LOSSES)
def test_a_batch_without_any_object_has_a_finite_loss_and_slope(kind: str):
    values = torch.randn(2, 8, requires_grad=True)
    task = Localize(NAMES, loss=kind)
    loss = task.loss(outputs_of(values, 32, 32), task.collate([None, None]))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert values.grad is not None
    assert values.grad.isfinite().all()


def test_the_usual_loss_adds_known_parts_and_auxiliary_classifiers():
    task = Localize(NAMES)
    values = torch.zeros(1, 8)  # p a half, box the middle half of the picture, classes alike
    target = task.collate([Objects.of([[25, 25, 75, 75]], [1])])
    losses = task.loss(outputs_of(values, 100, 100), target)
    assert float(losses["presence"]) == pytest.approx(torch.tensor(2.0).log().item())
    assert float(losses["class"]) == pytest.approx(torch.tensor(3.0).log().item())
    assert float(losses["box"]) == pytest.approx(0, abs=1e-6)
    beside = {"aux1": values, "aux_weight": torch.tensor(0.3, dtype=torch.float64)}
    both = task.loss(outputs_of(values, 100, 100) | beside, target)
    assert float(both["loss"]) == pytest.approx(1.3 * float(losses["loss"]))


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("kind", LOSSES)
def test_what_is_said_perfectly_comes_back_to_the_picture(kind: str, fit: str):
    task, preprocess = Localize(NAMES, loss=kind), Preprocess(size=(64, 96), fit=fit, crop_ratio=1.0)  # type: ignore[arg-type]
    sizes = torch.tensor([[120, 200], [131, 77]])
    objects = [Objects.of([[60, 40, 120, 90]], [2]), Objects.of([[20, 50, 55, 80]], [0])]
    values = torch.full((2, 8), -9.0 if kind == "likely" else 0.0)
    for row, one, size in zip(values, objects, sizes.tolist(), strict=True):
        seen = one.warp(preprocess_affine((size[0], size[1]), preprocess), preprocess.size)
        x1, y1, x2, y2 = (seen.boxes[0] / torch.tensor([96.0, 64, 96, 64])).tolist()  # type: ignore[union-attr]
        place = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
        row[0] = row[5 + int(one.labels[0])] = 9.0 if kind == "likely" else 1.0
        row[1:5] = place.logit() if kind == "likely" else place
    settled = torch.stack(task.postprocess(outputs_of(values, 64, 96), sizes, preprocess))
    for row, one in zip(settled, objects, strict=True):
        assert row[:4].tolist() == pytest.approx(one.boxes[0].tolist(), abs=0.05)
    found = [task.to_result(row, Source(name, None)) for row, name in zip(settled, "ab", strict=True)]
    assert [list(one.counts()) for one in found if isinstance(one, Detections)] == [["dog"], ["car"]]
    metrics = task.metrics()
    metrics.update(settled, task.collate(objects))
    assert metrics.compute() == pytest.approx(
        {"localized": 1, "presence": 1, "accuracy": 1, "boxed": 1, "iou": 1}, abs=2e-3
    )


def test_a_result_has_one_box_or_none():
    settled = torch.tensor([[1.0, 2, 30, 40, 0.8, 0.1, 0.6, 0.3], [1, 2, 30, 40, 0.4, 0.1, 0.6, 0.3]])
    task = Localize(NAMES)
    sources = [Source("a", None), Source("b", None)]
    one, none = (task.to_result(*pair) for pair in zip(settled, sources, strict=True))
    assert isinstance(one, Detections)
    assert list(one) == [("cat", pytest.approx(0.48), (1, 2, 30, 40))]
    assert str(none) == "b: nothing found"
    assert [len(task.to_result(*pair, threshold=0.3)) for pair in zip(settled, sources, strict=True)] == [1, 1]
    with pytest.raises(UsageError, match=r"0\.\.1"):
        task.to_result(settled[0], sources[0], threshold=1.5)


def test_overlaps_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, 2, generator=generator).sort(2).values.flatten(2)
    assert torch.allclose(overlaps(corners[0], corners[1]), box_iou(corners[0], corners[1]).diagonal())
    assert overlaps(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0]


def judged(count: int = 40) -> LocalizeMetrics:
    generator = torch.Generator().manual_seed(3)
    truth = torch.zeros(count, 1, 7)
    truth[:, 0, :2] = torch.rand(count, 2, generator=generator) * 50
    truth[:, 0, 2:4] = truth[:, 0, :2] + 40
    truth[:, 0, 4] = torch.randint(-1, 3, (count,), generator=generator)
    said = torch.rand(count, 8, generator=generator)
    said[:, :4] = truth[:, 0, :4] + torch.randn(count, 4, generator=generator) * 6
    said[torch.arange(count), 5 + truth[:, 0, 4].long().clamp(min=0)] += 0.5
    metrics = Localize(NAMES).metrics()
    metrics.update(said[:9], truth[:9])
    metrics.update(said[9:], truth[9:])
    return metrics


def test_scalars_by_hand():
    metrics = judged()
    said, truth = metrics.gathered()
    right = presence = named = boxed = objects = 0
    total = 0.0
    for one, true in zip(said, truth, strict=True):
        seen, there = float(one[4]) >= 0.5, float(true[4]) >= 0
        iou = float(box_iou(one[None, :4], true[None, :4]))
        is_named = int(one[5:].argmax()) == int(true[4])
        presence += seen == there
        right += (seen and is_named and iou >= 0.5) if there else not seen
        if there:
            objects, named, boxed, total = objects + 1, named + is_named, boxed + (iou >= 0.5), total + iou
    expected = {"localized": right / 40, "presence": presence / 40}
    expected |= {"accuracy": named / objects, "boxed": boxed / objects, "iou": total / objects}
    assert metrics.compute() == pytest.approx(expected, abs=1e-6)
    rows = metrics.of_classes()
    assert sum(row["pictures"] for row in rows) == objects
    assert sum(row["accuracy"] * row["pictures"] for row in rows) == pytest.approx(named)
    full = metrics.full()
    json.dumps(full, allow_nan=False)
    assert f"{100 * right / 40:.1f} %" in full["sentence"]


def metrics_of(task: Localize, said: torch.Tensor, objects: list[Objects | None]) -> LocalizeMetrics:
    metrics = task.metrics()
    metrics.update(said, task.collate(objects))
    return metrics


def test_calibration_finds_the_bar_between_there_and_not_there():
    task = Localize(NAMES)
    said = torch.zeros(20, 8)
    said[:, :4] = torch.tensor([0.0, 0, 10, 10])
    said[:, 4] = torch.linspace(0.02, 0.4, 20)
    said[:, 5] = 1
    there = [Objects.of([[0, 0, 10, 10]], [0])]
    task.calibrate(metrics_of(task, said, [None] * 10 + there * 10))
    assert task.threshold == pytest.approx(0.2)
    again = Localize(NAMES, **task.arguments)
    assert again.threshold == task.threshold
    task.calibrate(metrics_of(task, said, there * 20))  # nothing to tell apart: it stays
    assert task.threshold == again.threshold


def test_auxiliary_classifiers_come_along_in_training():
    task = Localize(NAMES)
    network = task.build("googlenet", 3, aux_logits=True)
    outputs = network(torch.randn(2, 3, 96, 64))
    assert [outputs[name].shape for name in ("values", "aux1", "aux2")] == [(2, 8)] * 3
    losses = [
        task.loss(outputs_of(outputs[name], 96, 64), some_targets()[:2])["loss"] for name in ("values", "aux1", "aux2")
    ]
    assert task.loss(outputs, some_targets()[:2])["loss"] == losses[0] + 0.3 * losses[1] + 0.3 * losses[2]
    assert set(network.eval()(torch.randn(1, 3, 96, 64))) == {"values", "image_size"}


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet20_cifar", "googlenet"])
def test_any_network_of_the_zoo_localizes(architecture: str):
    task = Localize(NAMES)
    network = task.build(architecture, 3)
    outputs = network(torch.randn(2, 3, 96, 64))
    assert outputs["image_size"].tolist() == [96, 64]
    loss = task.loss(outputs, some_targets()[:2])["loss"]
    loss.backward()
    with torch.no_grad():
        outputs = network.eval()(torch.randn(2, 3, 96, 64))
        settled = torch.stack(task.postprocess(outputs, torch.tensor([[96, 64]] * 2), Preprocess(size=(96, 64))))
    assert settled.shape == (2, 8)
    assert ((settled[:, 4:] >= 0) & (settled[:, 4:] <= 1)).all()


def test_hostile_outputs_and_arguments_are_told():
    metrics = Localize(NAMES).metrics()
    with pytest.raises(DataError, match="no pictures"):
        metrics.compute()
    with pytest.raises(UsageError, match="expected"):
        metrics.update(torch.zeros(2, 7), torch.zeros(2, 1, 7))
    metrics.update(torch.full((1, 8), float("nan")), torch.zeros(1, 1, 7))
    with pytest.raises(StriateError, match="picture 0 of 1"):
        metrics.compute()
    with pytest.raises(UsageError, match="squared"):
        Localize(NAMES, loss="square")
    with pytest.raises(DataError, match="at least one"):
        Localize(())
    with pytest.raises(UsageError, match="mixup"):
        refuse_unsupported(Recipe(mixup=0.2), Localize(NAMES))


def test_sections_show_every_kind_of_mistake():
    metrics = judged()
    samples = [Sample(torch.zeros(3, 100, 120, dtype=torch.uint8), None, f"{i}.png") for i in range(40)]
    task = Localize(NAMES)

    def read(sample: Sample) -> torch.Tensor:
        if sample.name == "3.png":
            raise DataError("gone")
        return sample.image  # type: ignore[return-value]

    made = task.sections(metrics, samples, read)
    assert [section.title for section in made] == [
        "The numbers",
        "By class, and how boxes fit",
        "Misnamed, missed or misplaced",
        "Seen where nothing is",
        "Right",
    ]
    assert all(card.tone == "good" for card in made[4].pictures)
    of = metrics.of_pictures()
    best = int(torch.where(of["right"] & of["there"], of["iou"], -1).argmax())
    assert f"{best}.png" in made[4].pictures[0].caption
    with pytest.raises(StriateError, match="40 outputs"):
        task.sections(metrics, samples[:-1], read)
