"""MobileNet V3 against torchvision's, dilated as its segmenters are too."""

import pytest
import torch
import torchvision
from torch import nn

from striate.backbones.mobilenet_v3 import MODELS
from striate.errors import UsageError
from striate.layers.blocks import SqueezeExcitation
from striate.network_summary import summarize

TORCHVISION = {
    "mobilenet_v3_small": (2_542_856, 0.057),
    "mobilenet_v3_large": (5_483_032, 0.217),
}  # ../shared/NUMBERS.md


def build(name: str, **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def unsettle(model: nn.Module) -> None:
    """Batch norms as training leaves them: at birth they would hide a wrong eps or a mean that is never used."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_shapes_and_counts_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = build(name), torchvision.models.get_model(name)
        summary = summarize(ours, (3, 224, 224))
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    parameters, giga = TORCHVISION[name]
    assert summary.parameters == parameters
    assert summary.multiply_adds / 1e9 == pytest.approx(giga, abs=0.0005)  # all the digits there are


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_torchvisions(name):
    theirs = torchvision.models.get_model(name, num_classes=9).eval()
    unsettle(theirs)
    ours = build(name, num_classes=9).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        images = torch.randn(2, 3, 96, 71)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_initialisation_and_training_are_torchvisions(name):
    torch.manual_seed(3)
    ours = build(name, num_classes=7, dropout=0.0)
    torch.manual_seed(3)
    theirs = torchvision.models.get_model(name, num_classes=7, dropout=0.0)
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


@pytest.mark.parametrize(
    ("name", "ends", "stages"),
    [
        ("mobilenet_v3_large", (1, 3, 6, 12, 16), [(16, 2), (24, 4), (40, 8), (112, 16), (960, 32)]),
        ("mobilenet_v3_small", (0, 1, 3, 8, 12), [(16, 2), (16, 4), (24, 8), (48, 16), (576, 32)]),
    ],
)
def test_stages_are_the_last_maps_of_each_size(name, ends, stages):
    ours = build(name, num_classes=0).eval()
    unsettle(ours)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = ours.feature_maps(images)
        for maps, end in zip(found.values(), ends, strict=True):
            torch.testing.assert_close(maps, ours.get_submodule("features")[: end + 1](images))
        classifier = ours.get_submodule("classifier")
        torch.testing.assert_close(ours(images), classifier(found["c5"].mean((2, 3))), rtol=1e-5, atol=1e-5)
    assert [tuple(stage) for stage in ours.pyramid.values()] == stages
    for maps, (channels, reduction) in zip(found.values(), stages, strict=True):
        assert maps.shape == (1, channels, 64 // reduction, 96 // reduction)


@pytest.mark.parametrize(("name", "features"), [("mobilenet_v3_large", 1280), ("mobilenet_v3_small", 1024)])
def test_features_are_what_the_last_layer_reads(name, features):
    theirs = torchvision.models.get_model(name).eval()
    ours = build(name, num_classes=0).eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if "classifier.3" not in key})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert ours(images).shape == (1, ours.num_features) == (1, features)
        torch.testing.assert_close(theirs.classifier[3](ours(images)), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_dilation_of_all_is_torchvisions(name):
    theirs = torchvision.models.get_model(name, dilated=True, num_classes=5).eval()
    unsettle(theirs)
    ours = build(name, output_stride=16, dilate_first=True, num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.feature_maps(images)["c5"], theirs.features(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output_stride", [2, 4, 8, 16])
@pytest.mark.parametrize("name", MODELS)
def test_dilated_features_hold_the_strided_ones(name, output_stride):
    """With the gates of squeeze-and-excitation held: they look at the mean of a map, which has now more pixels."""
    strided = build(name, num_classes=0).eval()
    unsettle(strided)
    for module in strided.modules():
        if isinstance(module, SqueezeExcitation):
            nn.init.zeros_(module.fc2.weight)
            nn.init.normal_(module.fc2.bias)
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


def test_it_is_one_graph_in_any_memory_format():
    model = build("mobilenet_v3_small", num_classes=3).eval()
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
    model = build("mobilenet_v3_small", num_classes=4, in_chans=1, dropout=0.3).eval()
    assert model.get_submodule("classifier.2").p == 0.3
    assert build("mobilenet_v3_small").get_submodule("classifier.2").p == 0.2
    assert model(torch.zeros(1, 1, 1, 1)).shape == (1, 4)  # any size
    with pytest.raises(UsageError, match="output_stride must be one of 2, 4, 8, 16, 32, not 12"):
        build("mobilenet_v3_small", output_stride=12)
    with pytest.raises(UsageError, match="dilate_first must be one of False, True"):
        build("mobilenet_v3_small", dilate_first="yes")
