"""`striate convert`: anybody's checkpoint becomes a model file that answers as the original did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from tests.tasks.detect.test_darknet_weights import TINY, WIDE, Darknet
from torchvision.transforms.v2 import functional as F

from striate import load
from striate.cli import run
from striate.cli.convert import names_of
from striate.errors import DataError, UsageError
from striate.tasks.detect.darknet_weights import load_darknet_weights
from striate.tasks.detect.yolov3 import YOLOv3

MEAN, STD = ["0.485", "0.456", "0.406"], ["0.229", "0.224", "0.225"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, torch.nn.Module]:
    """A checkpoint as the Places365 authors write it (module. before every name), its list of classes, the network."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).eval()
    checkpoint = tmp_path / "resnet18_places365.pth.tar"
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"arch": "resnet18", "epoch": 3, "state_dict": state}, checkpoint)
    listed = tmp_path / "categories.txt"
    listed.write_text("/a/airfield 0\n/a/arena/hockey 2\n/b/attic 1\n/b/barn 3\n/z/zen_garden 4\n")
    return checkpoint, listed, network


def test_a_foreign_checkpoint_answers_as_it_did(places, tmp_path: Path):
    checkpoint, listed, network = places
    out = tmp_path / "places.safetensors"
    options = ["--model", "resnet18", "--classes", str(listed), "--mean", *MEAN, "--std", *STD]
    run(["convert", str(checkpoint), "--out", str(out), *options, "--size", "64", "--license", "CC BY"])
    model = load(out)
    assert model.classes == ("airfield", "attic", "arena/hockey", "barn", "zen_garden")
    assert model.card.license == "CC BY"
    pixels = torch.randint(256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(F.normalize(pixels[None] / 255, list(map(float, MEAN)), list(map(float, STD)))).softmax(1)[0]
    said = model.predict(Image.fromarray(pixels.permute(1, 2, 0).numpy())).probabilities
    assert torch.allclose(said, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.pth"], "ends in .safetensors"),
        (["--out", "x.safetensors"], "which network it is for; name it: --model NAME"),
        (["--out", "x.safetensors", "--model", "resnet18"], "what its classes are; name them"),
        (["--out", "x.safetensors", "--model", "resnet18", "--classes", "a,b,c,d,e"], "how pictures were prepared"),
        (
            ["--out", "x.safetensors", "--model", "resnet18", "--classes", "a,b,c,d,e", "--mean", "0.5"],
            "--mean and --std go together",
        ),
    ],
)
def test_what_is_missing_is_asked_for(places, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        run(["convert", str(places[0]), *options])
    assert not (tmp_path / "x.safetensors").exists()


def test_names_come_from_lists_and_files(tmp_path: Path):
    assert names_of("cat, dog,,bird") == ["cat", "dog", "bird"]
    file = tmp_path / "names.txt"
    file.write_text("tench\n\ngreat white shark\n")
    assert names_of(str(file)) == ["tench", "great white shark"]
    file.write_text("/a/b 0\n/a/c 2\n")  # a number is missing: names are what the lines say
    assert names_of(str(file)) == ["/a/b 0", "/a/c 2"]


@pytest.fixture(scope="module")
def darknet(tmp_path_factory) -> Path:
    """yolov3-tiny for two classes, with random weights."""
    path = tmp_path_factory.mktemp("darknet") / "tiny.weights"
    Darknet(TINY, classes=2).write(path, WIDE)
    return path


def test_darknets_weights_become_a_detector(darknet: Path, tmp_path: Path):
    out = tmp_path / "tiny.safetensors"
    options = ["--model", "yolov3_tiny", "--classes", "cat,dog", "--size", "64", "--out", str(out)]
    run(["convert", str(darknet), *options])
    model = load(out, device="cpu")
    assert (model.card.task, model.classes, model.card.preprocess.size) == ("detect", ("cat", "dog"), (64, 64))
    network = YOLOv3("darknet_tiny", 2, loss="paper", anchor_size=None).eval()
    load_darknet_weights(network, darknet)
    pixels = torch.randint(256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (expected,) = network.coder.detections(network(pixels[None] / 255))
    expected = expected[expected[:, 5] >= 0]
    found = model.predict(pixels, threshold=0.0)
    assert len(expected) > 0
    torch.testing.assert_close(found.scores, expected[:, 4], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.boxes, expected[:, :4].clamp(0, 64), rtol=1e-3, atol=1e-2)
    assert found.labels.tolist() == expected[:, 5].long().tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--model", "yolov3_tiny"], UsageError, "what its classes are; name them"),
        (["--model", "resnet18", "--classes", "a,b"], UsageError, "are for yolov3 or yolov3_tiny, not resnet18"),
        (["--model", "yolov3_tiny", "--classes", "a,b", "--size", "100"], UsageError, "multiple of 32"),
        (["--model", "yolov3_tiny", "--classes", "a,b", "--resize", "64"], UsageError, "pixels as they are"),
        (["--model", "yolov3_tiny", "--classes", "a"], DataError, "or to one for more classes"),
        (["--model", "yolov3_tiny/resnet18", "--classes", "a,b"], DataError, "it belongs to another|is cut off"),
    ],
)
def test_darknets_weights_ask_for_what_they_need(darknet: Path, tmp_path: Path, options, error, message):
    with pytest.raises(error, match=message):
        run(["convert", str(darknet), "--out", str(tmp_path / "x.safetensors"), *options])
    assert not (tmp_path / "x.safetensors").exists()
