"""EfficientNet: the compound rule of the paper and the lecture, and stochastic depth."""

import pytest
import torch
from torch import nn

from striate.backbones.efficientnet import ALPHA, BETA, EFFICIENTNETS, GAMMA, MODELS, compound
from striate.errors import UsageError
from striate.layers.mbconv import MBConv
from striate.network_summary import summarize


def build(name: str = "efficientnet_b0", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def blocks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "stochastic_depth")]


def test_stochastic_depth_skips_blocks_of_some_pictures_while_training():
    own = {"squeeze": None, "norm": nn.BatchNorm2d, "activation": nn.SiLU, "drop": 0.25}
    block = MBConv(4, 8, 4, 3, stride=1, dilation=1, shortcut=True, **own)
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


def test_wrong_arguments_are_refused():
    for value in (-0.1, 1, "high"):
        with pytest.raises(UsageError, match="stochastic_depth must be a number from 0"):
            build(stochastic_depth=value)
