"""MobileNet V2 against torchvision's, TensorFlow's table of widths, and the paper's bottlenecks."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from striate.backbones.mobilenet_v2 import MODELS, WIDTH_MULTIPLIERS
from striate.errors import UsageError
from striate.network_summary import summarize

# millions of multiply-adds at 224x224 and of parameters, as TensorFlow's model card for the paper's weights counts:
# github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet
TENSORFLOW = {
    "mobilenet_v2": (300, 3.47),
    "mobilenet_v2_075": (209, 2.61),
    "mobilenet_v2_050": (97, 1.95),
    "mobilenet_v2_140": (582, 6.06),
}


def build(name: str = "mobilenet_v2", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def unsettle(model: nn.Module) -> None:
    """Batch norms as training leaves them: at birth they would hide a wrong eps or a mean that is never used."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_counts_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = build(name), mobilenet_v2(width_mult=WIDTH_MULTIPLIERS[name])
        summary = summarize(ours, (3, 224, 224))
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    multiply_adds, parameters = TENSORFLOW[name]
    assert summary.parameters / 1e6 == pytest.approx(parameters, rel=0.02)  # theirs leaves some biases out
    assert summary.multiply_adds / 1e6 == pytest.approx(multiply_adds, rel=0.005)


def test_counts_at_full_width():
    with torch.device("meta"):
        summary = summarize(build(), (3, 224, 224))
    assert summary.parameters == 3_504_872  # ../shared/NUMBERS.md
    assert summary.multiply_adds / 1e9 == pytest.approx(0.301, rel=0.005)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v2_050"])
def test_outputs_are_torchvisions(name):
    theirs = mobilenet_v2(width_mult=WIDTH_MULTIPLIERS[name], num_classes=9).eval()
    unsettle(theirs)
    ours = build(name, num_classes=9).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        images = torch.randn(2, 3, 96, 71)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_initialisation_and_training_are_torchvisions():
    torch.manual_seed(3)
    ours = build(num_classes=7, dropout=0.0)
    torch.manual_seed(3)
    theirs = mobilenet_v2(num_classes=7, dropout=0.0)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)

    images, targets = torch.randn(4, 3, 64, 53), torch.tensor([0, 3, 6, 3])
    for model in (ours, theirs):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
    for (key, mine), yours in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=key)


def test_stages_are_the_last_maps_of_each_size():
    ours = build(num_classes=0).eval()
    unsettle(ours)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = ours.feature_maps(images)
        for name, end in {"c1": 1, "c2": 3, "c3": 6, "c4": 13, "c5": 17}.items():  # table 2, rows before a stride
            torch.testing.assert_close(found[name], ours.get_submodule("features")[: end + 1](images))
        widened = ours.get_submodule("features.18")(found["c5"])
        torch.testing.assert_close(ours(images), widened.mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert [tuple(stage) for stage in ours.pyramid.values()] == [(16, 2), (24, 4), (32, 8), (96, 16), (320, 32)]
    assert [tuple(maps.shape[1:]) for maps in found.values()] == [
        (16, 32, 48),
        (24, 16, 24),
        (32, 8, 12),
        (96, 4, 6),
        (320, 2, 3),
    ]
    assert ours.num_features == 1280


@pytest.mark.parametrize("output_stride", [2, 4, 8, 16])
@pytest.mark.parametrize("name", ["mobilenet_v2_050", "mobilenet_v2_075"])
def test_dilated_features_hold_the_strided_ones(name, output_stride):
    """At 0.75 the 24 channels before c3 become 24 behind it: there is no shortcut, with a stride or without."""
    strided = build(name, num_classes=0).eval()
    unsettle(strided)
    dilated = build(name, num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 64)
        coarse, fine = strided.feature_maps(images)["c5"], dilated.feature_maps(images)
    factor = 32 // output_stride
    torch.testing.assert_close(fine["c5"][..., ::factor, ::factor], coarse, rtol=1e-4, atol=1e-4)
    for level, stage in dilated.pyramid.items():
        assert fine[level].shape[1:] == (stage.channels, 96 // stage.reduction, 64 // stage.reduction)
    assert dilated.pyramid["c5"].reduction == output_stride


def test_bottlenecks_are_thin_and_linear():
    model = build(num_classes=0).eval()
    unsettle(model)
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


def test_it_is_one_graph_in_any_memory_format():
    model = build("mobilenet_v2_050", num_classes=3).eval()
    unsettle(model)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        traced = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(traced(images), expected, rtol=1e-5, atol=1e-5)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_arguments():
    model = build("mobilenet_v2_050", num_classes=4, in_chans=1, dropout=0.3).eval()
    assert model.get_submodule("classifier.0").p == 0.3
    assert build("mobilenet_v2_050").get_submodule("classifier.0").p == 0.2
    assert model(torch.zeros(1, 1, 1, 1)).shape == (1, 4)  # any size
    with pytest.raises(UsageError, match="output_stride must be one of 2, 4, 8, 16, 32, not 12"):
        build(output_stride=12)
