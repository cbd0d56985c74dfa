"""MobileNet V2: the paper's bottlenecks."""

import torch
from referee import trained
from torch import nn

from striate.backbones.mobilenet_v2 import MODELS


def build(name: str = "mobilenet_v2", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def test_bottlenecks_are_thin_and_linear():
    model = trained("mobilenet_v2", num_classes=0)
    inside: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda module, inputs, output: inside.append(output))
    with torch.no_grad():
        ends = model.feature_maps(torch.randn(1, 3, 64, 64))
    assert all((maps < 0).any() for maps in ends.values())
    assert all(maps.min() >= 0 and maps.max() <= 6 for maps in inside)
    blocks = [layer for layer in model.get_submodule("features") if hasattr(layer, "shortcut")]
    assert sum(block.shortcut for block in blocks) == 10  # table 2: every repeat but the first of its row
    for block in blocks[1:]:
        thin, wide = block.conv[0][0].in_channels, block.conv[0][0].out_channels
        assert wide == 6 * thin


def test_the_last_layer_only_grows():
    with torch.device("meta"):
        assert [build(name).num_features for name in MODELS] == [1280, 1280, 1280, 1792]


def test_weights_take_as_little_room_as_the_lecture_says():
    with torch.device("meta"):
        megabytes = [
            4 * sum(parameter.numel() for parameter in build(name).parameters()) / 1e6
            for name in ("mobilenet_v2_050", "mobilenet_v2_075", "mobilenet_v2")
        ]
    assert all(5 < size < 16 for size in megabytes)
