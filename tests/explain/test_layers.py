from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.backbones import create_model
from striate.errors import UsageError
from striate.explain.layers import (
    check_units,
    find_layer,
    layers_of,
    place_of,
    read_maps,
    readable_copy,
    spread,
    stage_layers,
)


def test_maps_before_an_activation_that_works_in_place():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    images = torch.randn(2, 1, 8, 8)
    read = readable_copy(network)
    assert torch.equal(read_maps(read, "0", images), network[0](images))
    assert float(read_maps(read, "0", images).min()) < 0
    assert float(read_maps(read, "1", images).min()) == 0


def test_the_network_itself_stays_as_it_is():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)).train()
    read = readable_copy(network)
    read_maps(read, "1", torch.randn(1, 1, 8, 8))
    assert network.training
    assert network[1].inplace
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in [*network.modules(), *read.modules()])


def test_a_vector_is_a_map_of_one_place():
    network = readable_copy(create_model("lenet5", num_classes=7, in_chans=1))
    images = torch.randn(3, 1, 32, 32)
    assert read_maps(network, network.last_layer, images).shape == (3, 7, 1, 1)
    assert place_of(network, network.last_layer, images) is None


def test_stages_of_a_backbone_and_of_what_holds_one():
    network = create_model("squeezenet1_0", num_classes=4)
    assert stage_layers(network) == ["features.1", "features.5", "features.10", "features.12"]
    assert stage_layers(nn.ModuleDict({"body": network}))[0] == "body.features.1"
    assert stage_layers(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())) == ["0"]
    with pytest.raises(UsageError, match="no layer with maps"):
        stage_layers(nn.Linear(2, 2))


def test_layers_are_called_as_papers_call_them():
    network = create_model("squeezenet1_0", num_classes=4)
    assert list(layers_of(network)) == ["conv1", *(f"fire{number}" for number in range(2, 10))]
    holder = nn.ModuleDict({"body": network})
    assert find_layer(holder, "fire5") is network.features[7]
    assert find_layer(holder, "body.features.7") is network.features[7]
    assert find_layer(create_model("vgg16", num_classes=2), "conv4_2") is not None
    with pytest.raises(UsageError, match=r'no layer "fire1"; there are conv1, fire2, fire3, .*Did you mean "fire'):
        find_layer(network, "fire1")


def test_spread():
    assert spread("abcdefg", 4) == ["a", "c", "e", "g"]
    assert spread("ab", 4) == ["a", "b"]


class TwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pair(self.used(x))[0]


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layer", "message"),
    [("usde", 'Did you mean "used"'), ("unused", "does not run"), ("pair", "gives tuple, not maps"), ("", "no layer")],
)
def test_layers_that_cannot_be_read(layer: str, message: str):
    network = readable_copy(TwoWays())
    with pytest.raises(UsageError, match=message):
        read_maps(network, layer, torch.zeros(1, 1, 4, 4))
    assert not any(module._forward_hooks for module in network.modules())


def test_units_that_are_not_there():
    assert check_units((3, 1), 4, "conv1") == [3, 1]
    with pytest.raises(UsageError, match="conv1 has units 0 to 3, not 4"):
        check_units((0, 4), 4, "conv1")
