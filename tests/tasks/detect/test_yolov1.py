"""YOLO against the paper's worked example and equation 3 written out as loops in Python's floats."""

from math import sqrt

import pytest
import torch
from torch import Tensor

from striate.data.targets import CROWD, DIFFICULT, Objects
from striate.errors import UsageError
from striate.tasks.detect.outputs import collate_objects
from striate.tasks.detect.yolov1 import YOLOv1, YOLOv1Coder, decode, encode

SMALL = "mobilenet_v1_025"
CLASSES = 3
SIZE = (64, 96)  # height, width
CODER = YOLOv1Coder(overlap=0.5)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def outputs_of(grid: int = 4, boxes: int = 2, pictures: int = 2) -> dict[str, Tensor]:
    """A random answer: boxes of all sizes, confidences and classes also below 0 and above 1."""
    predictions = torch.rand(pictures, grid, grid, boxes, 5) * 1.4 - 0.2
    classes = torch.rand(pictures, grid, grid, CLASSES) * 1.4 - 0.2
    cells = {"predictions": predictions.requires_grad_(), "classes": classes.requires_grad_()}
    return cells | {"image_size": torch.tensor(SIZE)}


def some_objects(count: int) -> Objects:
    height, width = SIZE
    centres = torch.rand(count, 2) * torch.tensor([width, height])
    sizes = 2 + torch.rand(count, 2) ** 2 * torch.tensor([width, height])
    kinds = [0] * count
    kinds[1:3] = [CROWD, DIFFICULT]
    boxes = torch.cat((centres - sizes / 2, centres + sizes / 2), 1)
    return Objects.of(boxes, torch.randint(CLASSES, (count,)), kinds=kinds)


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("head", ["conv", "fc"])
def test_pascal_voc_is_7_by_7_by_30(head):
    """Section 2: "S = 7, B = 2 … 20 labelled classes so C = 20. Our final prediction is a 7 × 7 × 30 tensor"."""
    network = YOLOv1(SMALL, num_classes=20, head=head)
    layers = [layer for layer in network.head if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert layers[-1].weight.shape[0] == (30 if head == "conv" else 1470)
    outputs = network(torch.randn(1, 3, 64, 64))
    assert outputs["predictions"][0].numel() + outputs["classes"][0].numel() == 7 * 7 * 30
    assert outputs["predictions"].shape == (1, 7, 7, 2, 5)
    assert outputs["classes"].shape == (1, 7, 7, 20)
    assert CODER.boxes(outputs).shape == (1, 7, 7, 2, 4)  # 98 boxes a picture (section 2.3)


def test_the_cell_of_an_object_by_hand():
    """A box of 448 pixels' picture, 64 a cell: its centre (200, 300) is in column 3, row 4."""
    box = torch.tensor([[100.0, 225, 300, 375]]) / 448
    cells, numbers = encode(box, 7, 7)
    assert cells.tolist() == [[3, 4]]
    expected = [200 / 64 - 3, 300 / 64 - 4, sqrt(200 / 448), sqrt(150 / 448)]
    assert numbers[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_decoding_undoes_encoding():
    boxes = some_objects(200).boxes / torch.tensor([96.0, 64, 96, 64])
    cells, numbers = encode(boxes, 5, 3)
    assert ((cells >= 0) & (cells < torch.tensor([3, 5]))).all()
    torch.testing.assert_close(decode(numbers, cells, 5, 3), boxes)


def test_equation_3_by_loops():
    outputs = outputs_of()
    targets = collate_objects([some_objects(9), some_objects(4)])
    height, width = SIZE
    expected = dict.fromkeys(("box", "object", "no_object", "classes"), 0.0)
    for picture in range(2):
        objects: dict[tuple[int, int], list[float]] = {}
        for row in targets[picture].tolist():
            if row[4] >= 0 and row[5] == 0:
                cell = int((row[1] + row[3]) / 2 / height * 4), int((row[0] + row[2]) / 2 / width * 4)
                objects.setdefault(cell, row)
        for row in range(4):
            for column in range(4):
                found = outputs["predictions"][picture, row, column].tolist()
                if (row, column) not in objects:
                    expected["no_object"] += sum(0.5 * numbers[4] ** 2 for numbers in found)
                    continue
                x1, y1, x2, y2, label, *_ = objects[row, column]
                truth = [x1 / width, y1 / height, x2 / width, y2 / height]
                boxes = []
                for x, y, root_w, root_h, _ in found:
                    x, y, w, h = (column + x) / 4, (row + y) / 4, root_w**2, root_h**2
                    boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                overlaps = [overlap(box, truth) for box in boxes]
                far = [sum((a - b) ** 2 for a, b in zip(box, truth, strict=True)) for box in boxes]
                best = overlaps.index(max(overlaps)) if max(overlaps) > 0 else far.index(min(far))
                for number, (x, y, root_w, root_h, confidence) in enumerate(found):
                    if number != best:
                        expected["no_object"] += 0.5 * confidence**2
                        continue
                    expected["box"] += 5 * (x - ((truth[0] + truth[2]) / 2 * 4 - column)) ** 2
                    expected["box"] += 5 * (y - ((truth[1] + truth[3]) / 2 * 4 - row)) ** 2
                    expected["box"] += 5 * (root_w - sqrt(truth[2] - truth[0])) ** 2
                    expected["box"] += 5 * (root_h - sqrt(truth[3] - truth[1])) ** 2
                    expected["object"] += (confidence - overlaps[best]) ** 2
                chances = outputs["classes"][picture, row, column].tolist()
                expected["classes"] += sum((chance - (number == label)) ** 2 for number, chance in enumerate(chances))
    losses = CODER.losses(outputs, targets)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value / 2, rel=1e-4), name  # a mean over two pictures
    assert losses["loss"].item() == pytest.approx(sum(expected.values()) / 2, rel=1e-4)


@pytest.mark.parametrize(
    "objects",
    [
        [None, None],
        [Objects.of([[5, 5, 5, 9], [-50, -50, -40, -40], [200, 10, 230, 60]], [0, 1, 2]), None],
        [Objects.of([[10, 10, 30, 30]] * 2, [0, 1]), Objects.of([[0, 0, 1, 1]], [0])],
    ],
)
def test_gradients_are_numbers_whatever_is_on_the_pictures(objects):
    outputs = outputs_of()
    losses = CODER.losses(outputs, collate_objects(objects))
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    gradients: list[Tensor | None] = [outputs["predictions"].grad]
    if objects == [None, None]:
        expected = 0.5 * outputs["predictions"][..., 4].detach().square().sum() / 2
        assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    else:
        gradients.append(outputs["classes"].grad)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_detections_are_confidence_times_class():
    outputs = outputs_of(pictures=2)
    predictions = torch.zeros_like(outputs["predictions"])
    classes = torch.zeros_like(outputs["classes"])
    predictions[0, 1, 2, 0] = torch.tensor([0.5, 0.25, 0.5, 0.6, 0.9])
    predictions[0, 1, 2, 1] = torch.tensor([0.5, 0.25, 0.51, 0.61, 0.8])  # nearly the same: suppressed
    predictions[0, 3, 0, 1] = torch.tensor([0.0, 1.0, 0.8, 0.4, 1.2])  # reaches over the border, too sure
    classes[0, 1, 2] = torch.tensor([0.7, 0.2, -0.1])
    classes[0, 3, 0] = torch.tensor([0.0, 0.5, 0.0])
    found = CODER.detections(outputs | {"predictions": predictions, "classes": classes}, limit=5)
    x, y, w, h = 2.5 / 4 * 96, 1.25 / 4 * 64, 0.25 * 96, 0.36 * 64
    box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    expected = [[*box, 0.63, 0], [0, 64 - 0.08 * 64, 0.32 * 96, 64, 0.5, 1], [*box, 0.18, 1]]
    torch.testing.assert_close(found[0, :3], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert (found[0, 3:] == torch.tensor([0, 0, 0, 0, 0, -1.0])).all()
    assert (found[1] == torch.tensor([0, 0, 0, 0, 0, -1.0])).all()


def test_any_size_any_backbone():
    """Pooled to the grid; or the map's own size; a fully connected head has one for each of its weights."""
    for backbone, arguments, cells in [
        (SMALL, {}, (7, 7)),
        (SMALL, {"grid": 3, "head": "fc", "boxes": 3}, (3, 3)),
        (SMALL, {"grid": None}, (2, 3)),
        ("squeezenet1_1", {"grid": 5}, (5, 5)),  # it ends at reduction 16
    ]:
        network = YOLOv1(backbone, CLASSES, in_chans=1, **arguments)
        outputs = network(torch.randn(2, 1, *SIZE))
        assert outputs["classes"].shape == (2, *cells, CLASSES)
        network.coder.losses(outputs, collate_objects([Objects.of([[3, 4, 40, 60]], [1]), None]))["loss"].backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert network.coder.detections(outputs, 7).shape == (2, 7, 6)
        assert network(torch.randn(2, 1, 96, 96))["classes"].shape[1:3] == (cells if network.grid else (3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "dense"}, "head must be one of conv, fc"),
        ({"head": "fc", "grid": None}, "give a grid"),
        ({"grid": 0}, "whole numbers from 1"),
        ({"boxes": 0}, "whole numbers from 1"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(UsageError, match=message):
        YOLOv1(SMALL, 2, **arguments)


def test_it_learns_one_picture_by_heart():
    boxes, labels = [[8.0, 6, 40, 50], [50, 20, 90, 60], [60, 2, 76, 14]], [0, 2, 1]
    picture = torch.rand(1, 3, *SIZE) * 0.2
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        picture[0, label, int(y1) : int(y2), int(x1) : int(x2)] = 1
    targets = collate_objects([Objects.of(boxes, labels)] * 2)
    network = YOLOv1(SMALL, CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        outputs = network(picture.expand(2, -1, -1, -1))
        network.coder.losses(outputs, targets)["loss"].backward()
        optimizer.step()
    found = network.coder.detections(outputs, 10)[0].tolist()
    for box, label in zip(boxes, labels, strict=True):
        best = next(row for row in found if row[5] == label)
        assert overlap(best[:4], box) > 0.7
        assert best[4] > 0.4
