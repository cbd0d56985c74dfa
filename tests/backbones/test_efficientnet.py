"""EfficientNet against torchvision's, and the compound rule of the paper and the lecture."""

import pytest
import torch
import torchvision
from torch import nn

from striate.backbones.efficientnet import ALPHA, BETA, EFFICIENTNETS, GAMMA, MODELS, compound
from striate.errors import UsageError
from striate.layers.blocks import SqueezeExcitation
from striate.layers.mbconv import MBConv
from striate.network_summary import summarize

TORCHVISION = {  # ../shared/NUMBERS.md
    "efficientnet_b0": (5_288_548, 0.386),
    "efficientnet_b1": (7_794_184, 0.687),
    "efficientnet_b2": (9_109_994, 1.088),
    "efficientnet_b3": (12_233_232, 1.827),
    "efficientnet_b4": (19_341_616, 4.394),
    "efficientnet_b5": (30_389_784, 10.266),
    "efficientnet_b6": (43_040_704, 19.068),
    "efficientnet_b7": (66_347_960, 37.746),
}


def build(name: str = "efficientnet_b0", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def unsettle(model: nn.Module) -> None:
    """Batch norms as training leaves them: at birth they would hide a wrong eps or a mean that is never used."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def blocks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "stochastic_depth")]


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = build(name), torchvision.models.get_model(name)
        summary = summarize(ours, (3, *MODELS[name].canonical.size))
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    parameters, giga = TORCHVISION[name]
    assert summary.parameters == parameters
    assert summary.multiply_adds / 1e9 == pytest.approx(giga, rel=0.002)

    norms = [[m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] for model in (ours, theirs)]
    assert [(norm.eps, norm.momentum) for norm in norms[0]] == [(norm.eps, norm.momentum) for norm in norms[1]]
    assert ours.get_submodule("classifier.0").p == theirs.classifier[0].p
    chances = [
        [m.p for m in model.modules() if type(m).__name__ == "StochasticDepth" and m.p > 0] for model in (ours, theirs)
    ]
    assert chances[0] == chances[1]
    assert len(blocks(ours)) == len(blocks(theirs)) == len(chances[0]) + 1  # all but the first


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b5"])
def test_outputs_are_torchvisions(name):
    theirs = torchvision.models.get_model(name, num_classes=9).eval()
    unsettle(theirs)
    ours = build(name, num_classes=9).eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 71)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_initialisation_and_training_are_torchvisions():
    torch.manual_seed(3)
    ours = build(num_classes=7, dropout=0.0, stochastic_depth=0)
    torch.manual_seed(3)
    theirs = torchvision.models.efficientnet_b0(num_classes=7, dropout=0.0, stochastic_depth_prob=0.0)
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
        for maps, end in zip(found.values(), (1, 2, 3, 5, 7), strict=True):
            torch.testing.assert_close(maps, ours.get_submodule("features")[: end + 1](images))
        widened = ours.get_submodule("features.8")(found["c5"])
        torch.testing.assert_close(ours(images), widened.mean((2, 3)), rtol=1e-5, atol=1e-5)
    assert [tuple(stage) for stage in ours.pyramid.values()] == [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)]
    for maps, (channels, reduction) in zip(found.values(), ours.pyramid.values(), strict=True):
        assert maps.shape == (1, channels, 64 // reduction, 96 // reduction)
    assert ours.num_features == 1280


@pytest.mark.parametrize("output_stride", [2, 4, 8, 16])
def test_dilated_features_hold_the_strided_ones(output_stride):
    """With the gates of squeeze-and-excitation held: they look at the mean of a map, which has now more pixels."""
    strided = build(num_classes=0).eval()
    unsettle(strided)
    for module in strided.modules():
        if isinstance(module, SqueezeExcitation):
            nn.init.zeros_(module.fc2.weight)
            nn.init.normal_(module.fc2.bias)
    dilated = build(num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 64)
        coarse, fine = strided.feature_maps(images)["c5"], dilated.feature_maps(images)
    factor = 32 // output_stride
    torch.testing.assert_close(fine["c5"][..., ::factor, ::factor], coarse, rtol=1e-4, atol=1e-4)
    for level, stage in dilated.pyramid.items():
        assert fine[level].shape[1:] == (stage.channels, 96 // stage.reduction, 64 // stage.reduction)
    assert dilated.pyramid["c5"].reduction == output_stride


def test_stochastic_depth_skips_blocks_of_some_pictures_while_training():
    block = MBConv(
        4,
        8,
        4,
        3,
        stride=1,
        dilation=1,
        shortcut=True,
        squeeze=None,
        norm=nn.BatchNorm2d,
        activation=nn.SiLU,
        drop=0.25,
    )
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # so that a picture's result is its own
    images = torch.randn(2000, 4, 3, 3)
    torch.manual_seed(0)
    with torch.no_grad():
        change, residual = block(images) - images, block.block(images)
        skipped = (change == 0).flatten(1).all(1)
        assert skipped.float().mean().item() == pytest.approx(0.25, abs=0.04)  # four standard errors
        torch.testing.assert_close(change[~skipped], residual[~skipped] / 0.75, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(block.eval()(images), images + residual)


def test_the_compound_rule_is_the_lectures():
    depth, width, side = compound(1)
    assert depth * width**2 * (side / 224) ** 2 == pytest.approx(2, abs=0.1)
    assert (ALPHA, BETA, GAMMA) == (1.2, 1.1, 1.15)
    assert compound(0) == (1, 1, 224)
    # B2 to B7 are near whole or half phi; the authors' depths fall behind the rule as networks grow
    official = {"b2": (1, 260), "b3": (2, 300), "b4": (3.5, 380), "b5": (5, 456), "b6": (6, 528), "b7": (7, 600)}
    for name, (phi, size) in official.items():
        depth, width, side = compound(phi)
        assert side == pytest.approx(size, rel=0.04)
        assert width == pytest.approx(EFFICIENTNETS[f"efficientnet_{name}"].width, rel=0.03)
        assert depth == pytest.approx(EFFICIENTNETS[f"efficientnet_{name}"].depth, rel=0.16)


def test_each_step_of_phi_doubles_the_multiply_adds():
    costs = []
    with torch.device("meta"):
        for phi in (0, 3):
            side = compound(phi)[2]
            costs.append(summarize(build("efficientnet", phi=phi), (3, side, side)).multiply_adds)
    assert costs[0] / 1e9 == pytest.approx(0.386, rel=0.005)
    assert (costs[1] / costs[0]) ** (1 / 3) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(("phi", "name"), [(0, "efficientnet_b0"), (1.0, "efficientnet_b2")])
def test_some_phi_have_names(phi, name):
    with torch.device("meta"):
        scaled, named = build("efficientnet", phi=phi).state_dict(), build(name).state_dict()
    assert {key: value.shape for key, value in scaled.items()} == {key: value.shape for key, value in named.items()}


def test_any_phi_is_a_network():
    model = build("efficientnet", phi=-1.5, num_classes=3, in_chans=1, dropout=0.1, stochastic_depth=0.4).eval()
    assert model(torch.zeros(1, 1, 40, 40)).shape == (1, 3)
    assert model.get_submodule("classifier.0").p == 0.1
    with torch.device("meta"):
        small, large = build("efficientnet", phi=2.5), build("efficientnet", phi=7)
    assert small.get_submodule("classifier.0").p == pytest.approx(0.2 + 0.3 * 2.5 / 7)
    assert large.get_submodule("classifier.0").p == 0.5
    assert len(blocks(small)) == sum(-(-n * 1.2**2.5 // 1) for n in (1, 2, 2, 3, 3, 4, 1))
    assert large.num_features == 4 * 624  # 320 · 1.1^7 = 623.6


@pytest.mark.parametrize("phi", ["2", None, float("nan"), float("inf"), 16, -11])
def test_a_phi_that_cannot_be_is_refused(phi):
    with pytest.raises(UsageError, match="phi must be a number from -10 to 15"):
        build("efficientnet", phi=phi)


def test_it_is_one_graph_in_any_memory_format():
    model = build("efficientnet", phi=-9, num_classes=3).eval()
    unsettle(model)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images)
        traced = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(traced(images), expected, rtol=1e-5, atol=1e-5)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="output_stride must be one of 2, 4, 8, 16, 32, not 12"):
        build(output_stride=12)
    for value in (-0.1, 1, "high"):
        with pytest.raises(UsageError, match="stochastic_depth must be a number from 0"):
            build(stochastic_depth=value)
