"""What layers answer, against plain torch code; and that the network itself is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.create.networks import LINE, PREPROCESS, photo, small_backbone, without_classifier
from torch import nn
from torch.nn import functional as F
from torchvision.models import squeezenet1_0
from torchvision.models.vgg import cfgs, make_layers

from striate.backbones import create_model
from striate.backbones.layer_names import layer_names
from striate.config import Preprocess
from striate.errors import UsageError
from striate.tasks.stylize.perception import BORDER, Perception, default_layers

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))


def prepared(images: torch.Tensor) -> torch.Tensor:
    return F.pad((images - MEAN) / STD, (BORDER,) * 4, mode="reflect")


def answers_of_torchvision(network: nn.Module, images: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    """By hooks on torchvision's network, whose rectifiers must not overwrite what is read."""
    found = {}
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name, out))
    with torch.no_grad():
        network.eval()(prepared(images))
    return found


def test_vgg19_by_the_papers_names_is_torchvisions() -> None:
    ours = without_classifier("vgg19")
    theirs = nn.ModuleDict({"features": make_layers(cfgs["E"])})
    theirs.load_state_dict(ours.state_dict())
    images = photo(0, 40, 33)[None].float() / 255
    # torchvision's features: conv1_1 is 0, its ReLU 1; conv4_2 is 21, its ReLU 22; conv5_1 is 28, its ReLU 29
    known = {"conv1_1": "1", "conv4_2": "22", "conv5_1": "29"}
    expected = answers_of_torchvision(theirs["features"], images, list(known.values()))
    found = Perception(ours, PREPROCESS, known, pooling="max")(images)
    for name, module in known.items():
        torch.testing.assert_close(found[name], expected[module], atol=1e-4, rtol=1e-3)  # sums of 16 layers


def test_squeezenet_is_torchvisions_also_before_a_rectifier() -> None:
    torch.manual_seed(0)
    ours, theirs = create_model("squeezenet1_0", num_classes=10), squeezenet1_0(num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    images = photo(1, 64, 50)[None].float() / 255
    known = {"fire2": "features.3", "fire7": "features.9", "features.0": "features.0"}
    expected = answers_of_torchvision(theirs, images, list(known.values()))
    found = Perception(ours, PREPROCESS, known)(images)  # type: ignore[arg-type]
    for name, module in known.items():
        torch.testing.assert_close(found[name], expected[module], atol=1e-5, rtol=1e-4)
    assert float(found["features.0"].min()) < 0


def test_average_pooling_takes_the_place_of_largest() -> None:
    backbone = small_backbone("conv4-relu-pool-conv4-relu")
    images = photo()[None].float() / 255
    found = Perception(backbone, PREPROCESS, ["pool1"], "average")(images)["pool1"]
    with torch.no_grad():
        maps = F.relu(backbone.get_submodule("conv1")(prepared(images)))
    torch.testing.assert_close(found, F.avg_pool2d(maps, 2))


def test_the_network_is_left_as_it_was() -> None:
    backbone = without_classifier("squeezenet1_1")
    before = copy.deepcopy(backbone.state_dict())
    Perception(backbone, PREPROCESS, ["conv1", "fire3"], "average")(photo()[None].float() / 255)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(layer.inplace for layer in backbone.modules() if isinstance(layer, nn.ReLU))
    assert any(isinstance(layer, nn.MaxPool2d) for layer in backbone.modules())
    assert not any(layer._forward_hooks for layer in backbone.modules())


def test_pictures_smaller_than_the_border() -> None:
    found = Perception(small_backbone(), PREPROCESS, ["stage3"])(torch.rand(2, 3, 9, 8))
    assert found["stage3"].shape[:2] == (2, 16)


def test_defaults_are_there_for_every_kind_of_network() -> None:
    for name in ("vgg11", "vgg16_bn", "squeezenet1_1", "resnet18", "mobilenet_v2"):
        backbone = without_classifier(name)
        layers = default_layers(backbone)
        assert sum(layers.style.values()) == pytest.approx(1)
        answers = Perception(backbone, PREPROCESS, (*layers.style, *layers.content))(torch.rand(1, 3, 64, 64))
        assert set(answers) == {*layers.style, *layers.content}


def test_names_of_vgg19_are_its_sixteen_convolutions() -> None:
    names = layer_names(without_classifier("vgg19"))
    counts = [sum(name.startswith(f"conv{block}_") for name in names) for block in range(1, 6)]
    assert counts == [2, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("layers", "line", "preprocess", "told"),
    [
        (["stage9"], LINE, PREPROCESS, '"stage9" is no layer'),
        (["fc"], LINE, PREPROCESS, "is no layer"),
        (["conv1"], LINE, Preprocess(channels=1, mean=(0.5,), std=(0.5,)), "grey"),
        (["conv1"], "conv4-relu-fc8", PREPROCESS, "bound to one size"),
    ],
)
def test_what_cannot_be_read_is_refused(layers: list[str], line: str, preprocess: Preprocess, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Perception(small_backbone(line), preprocess, layers)
