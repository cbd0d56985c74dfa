"""Darknet's files: written by a small darknet of our own from the layers of its cfg files, read back by the reader."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from striate.errors import DataError, UsageError
from striate.tasks.detect.darknet_weights import load_darknet_weights
from striate.tasks.detect.yolov3 import YOLOv3

# layers of the cfg files, one word each: c(filters)k(size)[s(stride)], linear answers, shortcuts, routes …
TINY = (
    "c16k3 max2 c32k3 max2 c64k3 max2 c128k3 max2 c256k3 max2 c512k3 max1 c1024k3 "
    "c256k1 c512k3 yolo route-4 c128k1 up route-1,8 c256k3 yolo"
)
BODY = "c32k3 " + " ".join(
    f"c{width}k3s2 " + f"c{width // 2}k1 c{width}k3 add " * depth
    for width, depth in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
)
FULL = (
    BODY
    + "c512k1 c1024k3 c512k1 c1024k3 c512k1 c1024k3 yolo route-4 c256k1 up route-1,61 "
    + "c256k1 c512k3 c256k1 c512k3 c256k1 c512k3 yolo route-4 c128k1 up route-1,36 "
    + "c128k1 c256k3 c128k1 c256k3 c128k1 c256k3 yolo"
)


class Darknet:
    """Random weights for a row of such words, and what darknet computes with them."""

    def __init__(self, words: str, classes: int) -> None:
        self.words = " ".join(words.split()).replace("yolo", "answer yolo").split()
        self.answers = 3 * (5 + classes)
        self.channels = 3
        self.random = np.random.default_rng(5)

    def write(self, path: Path, header: bytes) -> list[Tensor]:
        """Runs a picture through, writing each layer's weights when it comes to it; the maps before `yolo`."""
        picture = torch.from_numpy(self.random.standard_normal((1, self.channels, 64, 64), np.float32))
        self.picture = picture
        outputs: list[Tensor] = []
        answers: list[Tensor] = []
        values = picture
        with path.open("wb") as file:
            file.write(header)
            for word in self.words:
                if word[0] == "c":
                    filters, _, rest = word[1:].partition("k")
                    size, _, stride = rest.partition("s")
                    values = self.convolve(file, values, int(filters), int(size), int(stride or 1))
                elif word == "answer":
                    values = self.convolve(file, values, self.answers, 1, 1, leaky=False)
                elif word == "yolo":
                    answers.append(values)
                elif word == "add":
                    values = values + outputs[-3]
                elif word == "up":
                    values = values.repeat_interleave(2, 2).repeat_interleave(2, 3)
                elif word == "max2":
                    values = F.max_pool2d(values, 2, 2)
                elif word == "max1":  # darknet pads right and below by what is less than all
                    values = F.max_pool2d(F.pad(values, (0, 1, 0, 1), value=-3e38), 2, 1)
                else:
                    values = torch.cat([outputs[int(at)] for at in word.removeprefix("route").split(",")], 1)
                outputs.append(values)
        return answers

    def convolve(self, file, values: Tensor, filters: int, size: int, stride: int, leaky: bool = True) -> Tensor:
        def numbers(*shape: int, low: float = -0.5, high: float = 0.5) -> Tensor:
            return torch.from_numpy(self.random.uniform(low, high, shape).astype(np.float32))

        bias = numbers(filters)
        kernel = numbers(filters, values.shape[1], size, size) * (12 / (values.shape[1] * size**2)) ** 0.5
        if not leaky:
            file.write(bias.numpy().astype("<f4").tobytes() + kernel.numpy().astype("<f4").tobytes())
            return F.conv2d(values, kernel, bias)
        scale, mean, variance = numbers(filters, low=0.5, high=1.5), numbers(filters), numbers(filters, low=0.5, high=2)
        for part in (bias, scale, mean, variance, kernel):
            file.write(part.numpy().astype("<f4").tobytes())
        values = F.conv2d(values, kernel, stride=stride, padding=size // 2)
        values = (values - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        values = values * scale[:, None, None] + bias[:, None, None]
        return torch.where(values > 0, values, 0.1 * values)


WIDE = struct.pack("<iiiq", 0, 2, 0, 32_013_312)  # version 0.2, as yolov3.weights has
NARROW = struct.pack("<iiii", 0, 1, 0, 77)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory) -> tuple[Path, Darknet, list[Tensor]]:
    path = tmp_path_factory.mktemp("darknet") / "tiny.weights"
    darknet = Darknet(TINY, classes=2)
    return path, darknet, darknet.write(path, WIDE)


def answers_agree(network: YOLOv3, darknet: Darknet, expected: list[Tensor]) -> None:
    with torch.no_grad():
        outputs = network.eval()(darknet.picture)
    for maps, grid in zip(expected, network.coder.grids(outputs), strict=True):
        wanted = maps[0].unflatten(0, (3, -1)).permute(0, 2, 3, 1).flatten(0, 2)  # by anchor, row, column
        found = outputs["logits"][0, grid.start : grid.start + len(wanted)]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * wanted.std().item())
        assert wanted.std() > 0.05


def test_tiny_answers_as_the_network_that_was_written(tiny_file):
    path, darknet, expected = tiny_file
    network = YOLOv3("darknet_tiny", 2, loss="paper")
    assert load_darknet_weights(network, path) == 32_013_312
    answers_agree(network, darknet, expected)


def test_boxes_are_those_that_darknet_decodes(tiny_file):
    """get_yolo_box of src/yolo_layer.c, by hand for one prediction of each level."""
    path, darknet, expected = tiny_file
    network = YOLOv3("darknet_tiny", 2, loss="paper", anchor_size=None).eval()
    load_darknet_weights(network, path)
    with torch.no_grad():
        boxes = network.coder.boxes(network(darknet.picture))[0]
    for maps, anchors, start in zip(expected, [((81, 82), 0), ((10, 14), 0)], [0, 3 * 2 * 2], strict=True):
        (width, height), anchor = anchors
        cells = maps.shape[-1]
        row, column = 1, 0
        tx, ty, tw, th = maps[0, 7 * anchor : 7 * anchor + 4, row, column].double().tolist()
        x = (column + 1 / (1 + np.exp(-tx))) / cells * 64
        y = (row + 1 / (1 + np.exp(-ty))) / cells * 64
        w, h = width * np.exp(tw), height * np.exp(th)
        found = boxes[start + row * cells + column].tolist()
        assert found == pytest.approx([x - w / 2, y - h / 2, x + w / 2, y + h / 2], rel=1e-3, abs=1e-2)


@pytest.mark.slow
def test_darknet53_answers_as_the_network_that_was_written(tmp_path):
    """All 75 convolutions, at full width: 237 MB are written and read."""
    path = tmp_path / "full.weights"
    darknet = Darknet(FULL, classes=1)
    expected = darknet.write(path, NARROW)
    network = YOLOv3("darknet53", 1, loss="paper")
    assert load_darknet_weights(network, path) == 77
    answers_agree(network, darknet, expected)


@pytest.mark.parametrize(("words", "backbone"), [(FULL, "darknet53"), (TINY, "darknet_tiny")])
def test_convolutions_stand_in_the_order_of_the_cfg(words, backbone):
    """The number of filters and their size, word by word."""
    with torch.device("meta"):
        network = YOLOv3(backbone, 80)
    found = [module.weight.shape for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    sizes = [re.match(r"c(\d+)k(\d)|yolo", word) for word in words.split()]
    expected = [(int(size[1]), int(size[2])) if size[1] else (255, 1) for size in sizes if size]
    assert [(shape[0], shape[2]) for shape in found] == expected


@pytest.mark.parametrize(
    ("backbone", "bytes_published"),
    [("darknet53", 248_007_048), ("darknet_tiny", 35_434_956)],  # pjreddie.com's yolov3.weights, yolov3-tiny.weights
)
def test_networks_take_exactly_the_published_files(backbone, bytes_published):
    with torch.device("meta"):
        state = YOLOv3(backbone, 80).state_dict()
    numbers = sum(tensor.numel() for key, tensor in state.items() if not key.endswith("num_batches_tracked"))
    assert 20 + 4 * numbers == bytes_published


def test_the_body_alone(tmp_path):
    """darknet53.conv.74 holds the convolutions before the neck; so may a file of the tiny body."""
    path = tmp_path / "body.conv"
    darknet = Darknet(TINY.partition(" c256k1")[0], classes=0)
    darknet.write(path, WIDE)
    load_darknet_weights(YOLOv3("darknet_tiny", 4).backbone, path)


def test_files_that_do_not_fit_are_told_and_change_nothing(tiny_file, tmp_path):
    whole = tiny_file[0].read_bytes()
    network = YOLOv3("darknet_tiny", 2, loss="paper")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    broken = tmp_path / "broken.weights"
    nan = struct.pack("<f", float("nan"))
    for content, message in [
        (whole[:-4], r"ends in convolution 13 of 13 \(levels\.1\.answer\): its [\d,]+ numbers are 1 too few"),
        (whole[:20], r"ends in convolution 1 of 13 \(backbone.*features\.0\.conv\)"),
        (whole + bytes(8), r"2 of its [\d,]+ numbers are left over after the 13 convolutions"),
        (whole[:-3], "no whole number of float32"),
        (whole[:400] + nan + whole[404:], "number 95 is nan"),
        (b"", "does not begin with their version"),
        (b"\x89PNG\r\n\x1a\n" + bytes(3), "does not begin with their version"),
    ]:
        broken.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            load_darknet_weights(network, broken)
        assert str(caught.value).startswith(f"{broken}: ")
    with pytest.raises(DataError, match="cannot be read"):
        load_darknet_weights(network, tmp_path / "nowhere.weights")
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_other_boxes_are_refused(tiny_file):
    with pytest.raises(UsageError, match='loss="paper"'):
        load_darknet_weights(YOLOv3("darknet_tiny", 2), tiny_file[0])
