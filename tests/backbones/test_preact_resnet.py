"""Pre-activation ResNets against timm's, and what the paper says of sums that nothing stands in the way of."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from striate.backbones.backbone import FeatureList
from striate.backbones.preact_resnet import MODELS, PreActBasic, PreActBottleneck, PreActResNet, Variant
from striate.backbones.resnet import MODELS as POST_ACTIVATION
from striate.errors import UsageError
from striate.network_summary import summarize

TIMM = {  # parameters; resnetv2_50: ../shared/NUMBERS.md, the others as timm 1.0 counts them
    "resnetv2_18": 11_687_720,
    "resnetv2_34": 21_795_880,
    "resnetv2_50": 25_549_352,
    "resnetv2_101": 44_541_480,
    "resnetv2_152": 60_185_128,
}
MULTIPLY_ADDS = {"resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "resnet101": 7.801, "resnet152": 11.514}
CIFAR = {  # as many as their post-activation twins: every convolution still has one norm of its width beside it
    "preact_resnet20_cifar": 269_722,
    "preact_resnet56_cifar": 853_018,
    "preact_resnet110_cifar": 1_727_962,
    "preact_resnet164_cifar": 1_703_258,  # table 4: 1.7M
}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def randomise_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5), nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2), nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def test_every_network_is_counted_here():
    assert list(MODELS) == [*TIMM, *CIFAR]


@pytest.mark.parametrize("name", TIMM)
def test_names_shapes_and_counts_are_timms(name):
    with torch.device("meta"):
        ours, theirs = MODELS[name].build(), timm.create_model(name)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    assert count(ours) == TIMM[name]
    twin = name.replace("v2_", "")  # its convolutions on maps of the same sizes: ../shared/NUMBERS.md
    assert summarize(ours, (3, 224, 224)).multiply_adds == pytest.approx(MULTIPLY_ADDS[twin] * 1e9, rel=0.001)


@pytest.mark.parametrize("name", CIFAR)
def test_counts_of_the_cifar_networks(name):
    with torch.device("meta"):
        assert count(MODELS[name].build(num_classes=10)) == CIFAR[name]
        twin = name.removeprefix("preact_")
        if twin in POST_ACTIVATION:
            assert count(POST_ACTIVATION[twin].build(num_classes=10)) == CIFAR[name]


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50"])
def test_training_is_timms(name):
    torch.manual_seed(3)
    ours = MODELS[name].build(num_classes=7)
    torch.manual_seed(3)
    theirs = timm.create_model(name, num_classes=7)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)

    for model in (ours, theirs):
        torch.manual_seed(4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for _ in range(3):
            images, targets = torch.randn(4, 3, 48, 37), torch.randint(7, (4,))
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    for (key, mine), yours in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_outputs_are_timms(name, output_stride):
    ours = randomise_norms(MODELS[name].build(num_classes=7, output_stride=output_stride)).eval()
    theirs = timm.create_model(name, num_classes=7, output_stride=output_stride).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 51)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert FeatureList(ours).reductions() == [2, *(min(output_stride, level) for level in (4, 8, 16, 32))]


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50"])
def test_pooled_features_and_stages_are_timms(name):
    ours = randomise_norms(MODELS[name].build(num_classes=0)).eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 50)
    with torch.no_grad():
        assert ours(images).shape == (2, ours.num_features)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        stages = FeatureList(ours)
        for mine, yours in zip(stages(images), expected, strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5)
    assert stages.names == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert stages.channels() == [maps.shape[1] for maps in expected]


@pytest.mark.parametrize(("name", "output_stride"), [("resnetv2_18", 8), ("preact_resnet20_cifar", 1)])
def test_dilated_features_hold_the_strided_ones(name, output_stride):
    """The same filters at more places; every fourth place is where the strides would stop."""
    strided = randomise_norms(MODELS[name].build(num_classes=0)).eval()
    dilated = MODELS[name].build(num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        coarse, fine = FeatureList(strided)(images)[-1], FeatureList(dilated)(images)[-1]
    assert fine.shape[-2:] == (96 // output_stride, 64 // output_stride)
    torch.testing.assert_close(fine[..., ::4, ::4], coarse, rtol=1e-4, atol=1e-4)


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
    units = randomise_norms(MODELS["resnetv2_50"].build(num_classes=0)).eval().get_submodule("stages.1.blocks")[1:]
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
    model = randomise_norms(MODELS["preact_resnet20_cifar"].build(num_classes=10, zero_init_residual=True)).eval()
    first, second = (model.get_submodule(f"stages.{index}.blocks.0") for index in (0, 1))
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
        ({"output_stride": 2}, "output_stride must be one of 4, 8, 16, 32, not 2"),
        ({"output_stride": 12}, "not 12"),
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
    model = randomise_norms(PreActResNet(variant, num_classes=3, in_chans=2, dropout=0.3)).eval()
    assert model.dropout.p == 0.3
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    images = torch.randn(2, 2, 40, 33)
    with torch.no_grad():
        expected = model(images)
        traced = torch.export.export(model, (images,)).module()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(traced(images), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(compiled(images), expected, rtol=1e-5, atol=1e-5)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
