"""YOLOv3 against loops written from the paper, one prediction and one object at a time, in Python's floats."""

from math import atan, exp, floor, log, pi
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from striate.data.targets import CROWD, DIFFICULT, Objects
from striate.errors import UsageError
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.yolov3 import ANCHORS, TINY_ANCHORS, YOLOv3
from striate.tasks.detect.yolov3_loss import (
    WEIGHTS,
    Grid,
    Places,
    YOLOv3Coder,
    assign_one,
    assign_several,
    decode,
    encode,
    places_of,
)

SMALL = "mobilenet_v1_025"
CLASSES = 3
SIZE = (64, 96)  # height, width


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Answers(NamedTuple):
    coder: YOLOv3Coder
    tensors: dict[str, Tensor]

    @property
    def logits(self) -> Tensor:
        return self.tensors["logits"]

    @property
    def grids(self) -> tuple[Grid, ...]:
        return self.coder.grids(self.tensors)


def outputs_of(loss: str = "improved", neck: str = "full", pictures: int = 2, spread: float = 1.0) -> Answers:
    """A network's outputs with logits that mean something in the place of its own, and what they mean."""
    network = YOLOv3(SMALL, CLASSES, neck=neck, loss=loss).eval()
    with torch.no_grad():
        outputs = network(torch.randn(pictures, 3, *SIZE))
    logits = (torch.randn(outputs["logits"].shape) * spread).requires_grad_()
    return Answers(network.coder, outputs | {"logits": logits})


def some_boxes(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Boxes of all sizes and shapes, some reaching over the border."""
    height, width = size
    centres = torch.rand(count, 2) * torch.tensor([width, height])
    sizes = 2 + torch.rand(count, 2) ** 3 * torch.tensor([width, height])
    return torch.cat((centres - sizes / 2, centres + sizes / 2), 1)


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def entropy(logit: float, truth: float) -> float:
    chance = sigmoid(logit)
    return -truth * log(chance) - (1 - truth) * log(1 - chance)


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def complete_overlap(one: list[float], other: list[float]) -> float:
    """CIoU: Zheng et al. 2020, equations 10 and 11"""
    iou = overlap(one, other)
    width, height = max(one[2], other[2]) - min(one[0], other[0]), max(one[3], other[3]) - min(one[1], other[1])
    across, down = (one[0] + one[2] - other[0] - other[2]) / 2, (one[1] + one[3] - other[1] - other[3]) / 2
    ratios = [atan((box[2] - box[0]) / (box[3] - box[1])) for box in (one, other)]
    v = 4 / pi**2 * (ratios[0] - ratios[1]) ** 2
    return iou - (across**2 + down**2) / (width**2 + height**2) - v * v / (1 - iou + v + 1e-12)


def every_place(outputs: Answers) -> list[tuple[int, int, float, float, float, float, int]]:
    """Column, row, stride (x, y), anchor (w, h) and level of each prediction: by level, anchor, row, column."""
    height, width = outputs.tensors["image_size"].tolist()
    scale = (height * width) ** 0.5 / 416
    anchors = ANCHORS if len(outputs.grids) == 3 else TINY_ANCHORS
    found = []
    for level in range(len(outputs.grids)):
        reduction = 32 >> level
        first = len(anchors) - 3 * (level + 1)
        found += [
            (column, row, reduction, reduction, w * scale, h * scale, level)
            for w, h in anchors[first : first + 3]
            for row in range(height // reduction)
            for column in range(width // reduction)
        ]
    return found


def decoded(logits: list[float], place: tuple, loss: str) -> list[float]:
    column, row, sx, sy, w, h, _ = place
    if loss == "paper":
        x, y = (sigmoid(logits[0]) + column) * sx, (sigmoid(logits[1]) + row) * sy
        w, h = w * exp(logits[2]), h * exp(logits[3])
    else:
        x, y = (2 * sigmoid(logits[0]) - 0.5 + column) * sx, (2 * sigmoid(logits[1]) - 0.5 + row) * sy
        w, h = w * (2 * sigmoid(logits[2])) ** 2, h * (2 * sigmoid(logits[3])) ** 2
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize("neck", ["full", "tiny"])
@pytest.mark.parametrize("loss", ["paper", "improved"])
def test_every_prediction_decodes_as_the_formula_says(loss, neck):
    outputs = outputs_of(loss, neck, pictures=1)
    expected = [
        decoded(logits, place, loss)
        for logits, place in zip(outputs.logits[0].tolist(), every_place(outputs), strict=True)
    ]
    torch.testing.assert_close(
        outputs.coder.boxes(outputs.tensors)[0].detach(), torch.tensor(expected), rtol=1e-4, atol=1e-3
    )


def test_decoding_undoes_encoding():
    outputs, boxes = outputs_of("paper"), some_boxes(200)
    places = Places(*(values[assign_one(boxes, outputs.grids)] for values in places_of(outputs.grids)))
    offsets = encode(boxes, places)
    assert ((offsets[:, :2] >= 0) & (offsets[:, :2] <= 1)).all()  # the cell is that of the centre
    logits = torch.cat((offsets[:, :2].clamp(1e-6, 1 - 1e-6).logit(), offsets[:, 2:]), 1)
    torch.testing.assert_close(decode(logits, places, "paper"), boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("neck", ["full", "tiny"])
def test_one_prediction_learns_an_object_as_in_the_paper(neck):
    outputs, boxes = outputs_of(neck=neck), some_boxes(300)
    places = every_place(outputs)
    found = assign_one(boxes, outputs.grids).tolist()
    for (x1, y1, x2, y2), index in zip(boxes.tolist(), found, strict=True):
        column, row, sx, sy, *anchor, _ = places[index]
        assert (column, row) == (floor((x1 + x2) / 2 / sx), floor((y1 + y2) / 2 / sy))
        shapes = {overlap([0, 0, x2 - x1, y2 - y1], [0, 0, w, h]) for *_, w, h, _ in places}
        assert overlap([0, 0, x2 - x1, y2 - y1], [0, 0, *anchor]) == pytest.approx(max(shapes), rel=1e-4)


@pytest.mark.parametrize("neck", ["full", "tiny"])
def test_several_predictions_learn_an_object_by_default(neck):
    """In words: sides within four times; the cell of the centre, or in its row or column and less than a cell away."""
    outputs, boxes = outputs_of(neck=neck), some_boxes(60)
    alone = assign_one(boxes, outputs.grids).tolist()
    expected = set()
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        expected.add((number, alone[number]))
        for index, (column, row, sx, sy, w, h, _) in enumerate(every_place(outputs)):
            quotients = [(x2 - x1) / w, (y2 - y1) / h]
            if max(*quotients, *(1 / quotient for quotient in quotients)) >= 4:
                continue
            x, y = (x1 + x2) / 2 / sx, (y1 + y2) / 2 / sy
            same = floor(x) == column, floor(y) == row
            near = abs(x - column - 0.5) < 1, abs(y - row - 0.5) < 1
            if (same[0] and near[1]) or (same[1] and near[0]):
                expected.add((number, index))
    found = list(zip(*(values.tolist() for values in assign_several(boxes, outputs.grids)), strict=True))
    assert len(found) == len({*found})
    assert {*found} == expected


def targets_of(outputs: Answers) -> Tensor:
    """Objects of one picture more than of the other; crowds and difficult ones among them are nothing to learn."""
    found = []
    for count in (7, 3):
        kinds = [0] * count
        kinds[1:3] = [CROWD, DIFFICULT]
        found.append(Objects.of(some_boxes(count), torch.randint(CLASSES, (count,)), kinds=kinds))
    return collate_objects(found)


def test_the_papers_loss_by_loops():
    outputs = outputs_of("paper")
    targets = targets_of(outputs)
    places = every_place(outputs)
    expected = dict.fromkeys(("box", "objectness", "classes"), 0.0)
    for picture, logits in enumerate(outputs.logits.tolist()):
        rows = [row for row in targets[picture].tolist() if row[4] >= 0 and row[5] == 0]
        chosen = set()
        for x1, y1, x2, y2, label, *_ in rows:
            index = int(assign_one(torch.tensor([[x1, y1, x2, y2]]), outputs.grids))  # judged above
            chosen.add(index)
            column, row, sx, sy, w, h, _ = places[index]
            tx, ty, tw, th, _, *scores = logits[index]
            expected["box"] += (sigmoid(tx) - ((x1 + x2) / 2 / sx - column)) ** 2 / 2
            expected["box"] += (sigmoid(ty) - ((y1 + y2) / 2 / sy - row)) ** 2 / 2
            expected["box"] += (tw - log((x2 - x1) / w)) ** 2 / 2 + (th - log((y2 - y1) / h)) ** 2 / 2
            expected["classes"] += sum(entropy(score, number == label) for number, score in enumerate(scores))
        for index, numbers in enumerate(logits):
            box = decoded(numbers, places[index], "paper")
            if index in chosen:
                expected["objectness"] += entropy(numbers[4], 1)
            elif all(overlap(box, row[:4]) <= 0.5 for row in rows):
                expected["objectness"] += entropy(numbers[4], 0)
    found = outputs.coder.losses(outputs.tensors, targets)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value / 2, rel=1e-4), name  # a mean over two pictures
    assert found["loss"].item() == pytest.approx(sum(expected.values()) / 2, rel=1e-4)


def test_the_default_loss_by_loops():
    outputs = outputs_of("improved")
    targets = targets_of(outputs)
    places = every_place(outputs)
    expected = dict.fromkeys(("box", "objectness", "classes"), 0.0)
    count = 0
    for picture, logits in enumerate(outputs.logits.tolist()):
        rows = [row for row in targets[picture].tolist() if row[4] >= 0 and row[5] == 0]
        objects, chosen = assign_several(torch.tensor([row[:4] for row in rows]), outputs.grids)  # judged above
        quality = [0.0] * len(logits)
        for number, index in zip(objects.tolist(), chosen.tolist(), strict=True):
            fit = complete_overlap(decoded(logits[index], places[index], "improved"), rows[number][:4])
            quality[index] = max(quality[index], fit)
            expected["box"] += 1 - fit
            of_classes = enumerate(logits[index][5:])
            expected["classes"] += sum(entropy(score, label == rows[number][4]) for label, score in of_classes)
            count += 1
        expected["objectness"] += sum(entropy(row[4], truth) for row, truth in zip(logits, quality, strict=True))
    found = outputs.coder.losses(outputs.tensors, targets)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value / count, rel=1e-3), name
    whole = sum(WEIGHTS[name] * value / count for name, value in expected.items())
    assert found["loss"].item() == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("loss", ["paper", "improved"])
def test_gradients_are_numbers_whatever_is_on_the_pictures(loss):
    """Nothing at all; boxes without an area, outside, twice the same; logits far off."""
    cases = [
        [None, None],
        [Objects.of([[5, 5, 5, 9], [-50, -50, -40, -40], [200, 10, 230, 60]], [0, 1, 2]), None],
        [Objects.of([[10, 10, 30, 30]] * 2 + [[0, 0, 96, 64]], [0, 1, 2]), Objects.of([[0, 0, 1, 1]], [0])],
    ]
    for objects in cases:
        for spread in (1.0, 40.0):
            outputs = outputs_of(loss, spread=spread)
            losses = outputs.coder.losses(outputs.tensors, collate_objects(objects))
            losses["loss"].backward()
            gradient = outputs.logits.grad
            assert gradient is not None
            assert gradient.isfinite().all()
            assert all(value.isfinite() for value in losses.values())
            if objects == [None, None]:
                assert losses["box"] == losses["classes"] == 0 < losses["objectness"]
                assert not gradient[..., :4].any()


def test_detections_are_the_best_boxes_of_each_class():
    outputs = outputs_of("paper", pictures=2)
    logits = torch.full_like(outputs.logits, -20.0)
    places = every_place(outputs)
    left, right = (next(i for i, place in enumerate(places) if place[:2] == (x, 1) and place[6] == 0) for x in (0, 1))
    small = next(i for i, place in enumerate(places) if place[:2] == (5, 3) and place[6] == 2)
    logits[0, right] = torch.tensor([-9, 0, 0, 0, 2, 3, -20, 1])  # of two classes, at its cell's left border
    logits[0, left] = torch.tensor([9, 0, 0, 0, 1.5, 3, -20, -20])  # the same box, from the other side: suppressed
    logits[0, small] = torch.tensor([0, 0, 0, 0, 1, -20, 1, -20])
    found = outputs.coder.detections(outputs.tensors | {"logits": logits}, limit=5)
    assert found.shape == (2, 5, 6)
    rows = [(right, 0, 2, 3), (right, 2, 2, 1), (small, 1, 1, 1)]
    for row, (index, label, objectness, score) in zip(found[0], rows, strict=False):
        box = decoded([-9.0 if index == right else 0.0, 0, 0, 0], places[index], "paper")
        clipped = [min(max(value, 0), SIZE[1 - side % 2]) for side, value in enumerate(box)]
        assert row.tolist() == pytest.approx([*clipped, sigmoid(objectness) * sigmoid(score), label], rel=1e-4)
    assert (found[0, 3:] == torch.tensor([0, 0, 0, 0, 0, -1.0])).all()
    assert (found[1] == torch.tensor([0, 0, 0, 0, 0, -1.0])).all()


@pytest.mark.parametrize(
    ("backbone", "neck", "reductions"),
    [
        ("resnet18", None, [8, 16, 32]),
        ("squeezenet1_1", None, [8, 16]),  # it ends at 16, and its maps are a little smaller
        ("mobilenet_v3_small", "tiny", [16, 32]),
        ("darknet_tiny", None, [16, 32]),
    ],
)
def test_any_backbone_and_number_of_channels(backbone, neck, reductions):
    network = YOLOv3(backbone, 2, in_chans=4, neck=neck)
    assert network.backbone.reductions() == reductions
    outputs = network(torch.randn(2, 4, *SIZE))
    network.coder.losses(outputs, collate_objects([Objects.of([[3, 4, 40, 60]], [1]), None]))["loss"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.coder.detections(outputs, 7).shape == (2, 7, 6)


def test_anchors_go_from_small_to_large_and_grow_with_the_picture():
    anchors = [(40, 50), (3, 4), (8, 9), (80, 60), (20, 10), (1, 2)]
    with torch.device("meta"):
        assert torch.tensor(YOLOv3(SMALL, 2, neck="tiny").coder.anchors).shape == (2, 3, 2)
    network = YOLOv3(SMALL, 2, neck="tiny", anchors=anchors, anchor_size=64)
    assert torch.tensor(network.coder.anchors).tolist() == [[[20, 10], [40, 50], [80, 60]], [[1, 2], [3, 4], [8, 9]]]
    outputs = network(torch.zeros(1, 3, 128, 128))
    doubled = network.coder.grids(outputs)[0].anchors
    assert doubled.tolist() == [[40, 20], [80, 100], [160, 120]]
    network.coder.anchor_size = None
    assert network.coder.grids(outputs)[0].anchors.tolist() == [
        [20, 10],
        [40, 50],
        [80, 60],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchors": [(1, 2)] * 4}, "4 cannot be shared out to 3 levels"),
        ({"anchors": [(1, 2), (3, -4), (5, 6)]}, "pairs of width and height"),
        ({"anchors": []}, "pairs of width and height"),
        ({"anchors": [(1, 2, 3)] * 3}, "pairs of width and height"),
        ({"neck": "long"}, "neck must be one of full, tiny"),
        ({"loss": "best"}, "loss must be one of improved, paper"),
        ({"backbone": "resnet20_cifar"}, "maps of reduction 1, 1, 2, 4, and none of 8, 16, 32"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(UsageError, match=message):
        YOLOv3(**({"backbone": SMALL, "num_classes": 2} | arguments))


@pytest.mark.parametrize("loss", ["improved", "paper"])
def test_it_learns_one_picture_by_heart(loss):
    boxes, labels = [[8.0, 6, 40, 50], [50, 20, 90, 60], [60, 2, 76, 14]], [0, 2, 1]
    picture = torch.rand(1, 3, *SIZE) * 0.2
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        picture[0, label, int(y1) : int(y2), int(x1) : int(x2)] = 1
    targets = collate_objects([Objects.of(boxes, labels)] * 2)
    network = YOLOv3(SMALL, CLASSES, neck="tiny", loss=loss)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        outputs = network(picture.expand(2, -1, -1, -1))
        network.coder.losses(outputs, targets)["loss"].backward()
        optimizer.step()
    found = network.coder.detections(outputs, 10)[0].tolist()
    for box, label in zip(boxes, labels, strict=True):
        best = next(row for row in found if row[5] == label)
        assert overlap(best[:4], box) > 0.8
        assert best[4] > 0.4
