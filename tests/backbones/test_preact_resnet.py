"""Pre-activation ResNets: what the paper says of sums that nothing stands in the way of."""

from __future__ import annotations

import pytest
import torch
from referee import as_trained, is_one_graph, trained
from torch import nn

from striate.backbones.backbone import FeatureList
from striate.backbones.preact_resnet import MODELS, PreActBasic, PreActBottleneck, PreActResNet, Variant
from striate.errors import UsageError


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50", "preact_resnet20_cifar", "preact_resnet164_cifar"])
def test_without_residuals_every_unit_is_the_identity_forwards_and_backwards(name):
    """Equations 4 and 5. After the sum of a ResNet of 2015 a ReLU would stop what is negative."""
    model = MODELS[name].build(num_classes=0, zero_init_residual=True)
    units = model.get_submodule("stages.0.blocks")[1:]
    values = torch.randn(2, units[0].conv1.in_channels, 8, 8, requires_grad=True)
    assert (values < 0).any()
    assert torch.equal(units(values), values)
    direction = torch.randn_like(values)
    (gradient,) = torch.autograd.grad(units(values), values, direction)
    assert torch.equal(gradient, direction)


def test_a_stage_is_its_input_and_the_sum_of_its_residuals():
    """Equation 4, with residuals as trained networks have them."""
    units = as_trained(MODELS["resnetv2_50"].build(num_classes=0)).eval().get_submodule("stages.1.blocks")[1:]
    residuals = []
    for unit in units:
        unit.conv3.register_forward_hook(lambda module, inputs, output: residuals.append(output))
    values = torch.randn(1, 512, 6, 6)
    with torch.no_grad():
        sums = units(values)
    assert len(residuals) == 3
    torch.testing.assert_close(sums, values + torch.stack(residuals).sum(0), rtol=1e-4, atol=1e-4)


def test_the_first_unit_of_the_paper_splits_after_its_activation():
    """Section 4.1, end; where shapes change the padded shortcut reads the activated input too."""
    model = trained("preact_resnet20_cifar", num_classes=10)
    first, second = (model.get_submodule(f"stages.{index}.blocks.0") for index in (0, 1))
    nn.init.zeros_(first.conv2.weight), nn.init.zeros_(second.conv2.weight)
    values = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.equal(first(values), first.norm1(values).relu())
        halved = second(values)
        assert torch.equal(halved[:, 8:24], second.norm1(values).relu()[..., ::2, ::2])
    assert not halved[:, :8].any()
    assert not halved[:, 24:].any()


def test_the_stem_for_small_pictures():
    model = MODELS["resnetv2_18"].build(stem="cifar", num_classes=10)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    maps = FeatureList(model)
    assert maps.reductions() == [1, 1, 2, 4, 8]
    assert maps(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 512, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": "vit"}, "stem must be one of imagenet, cifar"),
        ({"zero_init_residual": "yes"}, "zero_init_residual must be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        MODELS["resnetv2_18"].build(**arguments)


@pytest.mark.parametrize(
    "variant",
    [Variant(PreActBottleneck, (1, 2), (8, 16)), Variant(PreActBasic, (2, 1), (8, 16), "cifar", "pad")],
)
def test_forward_is_one_graph_in_any_memory_format(variant):
    model = as_trained(PreActResNet(variant, num_classes=3, in_chans=2, dropout=0.3)).eval()
    assert model.dropout.p == 0.3
    is_one_graph(model, torch.randn(2, 2, 40, 33), compiled=True)
