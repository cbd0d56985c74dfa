"""ConvNeXt against torchvision's and, where it is dilated, timm's; the paper's claims about its block."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from striate.backbones.backbone import FeatureList
from striate.backbones.convnext import CONVNEXTS, MODELS, ConvNeXt, Variant
from striate.errors import UsageError
from striate.network_summary import summarize

TORCHVISION = {  # parameters and giga-multiply-adds: ../shared/NUMBERS.md
    "convnext_tiny": (28_589_128, 4.456),
    "convnext_small": (50_223_688, 8.684),
    "convnext_base": (88_591_464, 15.355),
    "convnext_large": (197_767_336, 34.361),
}
SMALL = Variant((1, 2, 1, 2), (8, 12, 16, 20), 0.2)


def tiny(**arguments) -> ConvNeXt:
    return as_trained(MODELS["convnext_tiny"].build(**arguments))


def as_trained(model: ConvNeXt) -> ConvNeXt:
    """Blocks that count: at the start they are all but left out."""
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.2, 1)
        elif parameter.ndim == 1:
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)
    return model


def as_timm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as timm writes them."""
    parts = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}
    renamed = {}
    for name, tensor in weights.items():
        first, *rest = name.split(".")
        if first == "classifier":
            renamed[f"head.{'norm' if rest[0] == '0' else 'fc'}.{rest[1]}"] = tensor
            continue
        index, layer, *rest = rest
        if index == "0":
            renamed[f"stem.{layer}.{rest[0]}"] = tensor
        elif int(index) % 2 == 0:
            renamed[f"stages.{int(index) // 2}.downsample.{layer}.{rest[0]}"] = tensor
        elif rest == ["layer_scale"]:
            renamed[f"stages.{int(index) // 2}.blocks.{layer}.gamma"] = tensor.flatten()
        else:
            renamed[f"stages.{int(index) // 2}.blocks.{layer}.{parts[rest[1]]}.{rest[2]}"] = tensor
    return renamed


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_counts_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = MODELS[name].build(), torchvision.models.get_model(name)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    parameters, multiply_adds = TORCHVISION[name]
    assert sum(parameter.numel() for parameter in ours.parameters()) == parameters
    assert summarize(ours, (3, 224, 224)).multiply_adds == pytest.approx(multiply_adds * 1e9, rel=0.001)
    drops = [
        [module.p for module in model.modules() if type(module).__name__ == "StochasticDepth"]
        for model in (ours, theirs)
    ]
    assert drops[0] == pytest.approx(drops[1])
    assert drops[0][-1] == CONVNEXTS[name].stochastic_depth


def test_initialisation_and_training_are_torchvisions():
    torch.manual_seed(3)
    ours = MODELS["convnext_tiny"].build(num_classes=7)
    torch.manual_seed(3)
    theirs = torchvision.models.convnext_tiny(num_classes=7)
    for mine, yours in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, yours)

    for model in (ours, theirs):
        torch.manual_seed(4)  # stochastic depth draws the same numbers too
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(3):
            images, targets = torch.randn(3, 3, 64, 37), torch.randint(7, (3,))
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    for (key, mine), yours in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=key)


def test_outputs_gradients_and_pooled_features_are_torchvisions():
    ours = tiny(num_classes=7, stochastic_depth=0.3)
    theirs = torchvision.models.convnext_tiny(num_classes=7, stochastic_depth_prob=0.3)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(3, 3, 75, 64)
    for model in (ours, theirs):
        torch.manual_seed(5)
        nn.functional.cross_entropy(model(images), torch.tensor([0, 3, 6])).backward()
    for (key, mine), yours in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, yours[1].grad, rtol=1e-3, atol=1e-4, msg=key)
    ours.eval(), theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        body = MODELS["convnext_tiny"].build(num_classes=0).eval()
        body.load_state_dict({key: value for key, value in ours.state_dict().items() if "classifier.2" not in key})
        pooled = theirs.classifier[:2](theirs.avgpool(theirs.features(images)))
        torch.testing.assert_close(body(images), pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output_stride", [32, 16])
def test_stages_are_timms(output_stride):
    """At 8 timm moves the second 2x2 up and left by one place; the test below says what ours does."""
    ours = tiny(num_classes=7, output_stride=output_stride).eval()
    theirs = timm.create_model("convnext_tiny", num_classes=7, output_stride=output_stride).eval()
    theirs.load_state_dict(as_timm(ours.state_dict()))
    images = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        expected = theirs.forward_intermediates(images, intermediates_only=True)
        stages = FeatureList(ours)
        for mine, yours in zip(stages(images), expected, strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5)
    assert stages.names == ["stage1", "stage2", "stage3", "stage4"]
    assert stages.channels() == [96, 192, 384, 768]
    assert stages.reductions() == [min(output_stride, level) for level in (4, 8, 16, 32)]


@pytest.mark.parametrize("output_stride", [16, 8, 4])
def test_dilated_features_hold_the_strided_ones(output_stride):
    """The same filters at more places; every second (fourth, eighth) is where the strides would stop, borders too."""
    strided = as_trained(ConvNeXt(SMALL, num_classes=0)).eval()
    dilated = ConvNeXt(SMALL, num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        coarse, fine = FeatureList(strided)(images)[-1], FeatureList(dilated)(images)[-1]
    assert coarse.shape == (1, 20, 3, 2)
    assert fine.shape == (1, 20, 96 // output_stride, 64 // output_stride)
    factor = 32 // output_stride
    torch.testing.assert_close(fine[..., ::factor, ::factor], coarse, rtol=1e-4, atol=1e-5)


def test_every_block_starts_all_but_left_out():
    """Layer scale (section 3.1): what a block adds is a millionth of what its last layer computes."""
    block = MODELS["convnext_tiny"].build(num_classes=0).get_submodule("features.1.0").eval()
    x = torch.randn(2, 96, 9, 7)
    with torch.no_grad():
        added, computed = block(x) - x, block.block(x)
        block.layer_scale.fill_(1)
        torch.testing.assert_close(block(x), x + computed)
    assert 0 < added.abs().max() < 1e-5


def test_a_block_left_out_is_the_identity_and_the_others_make_up_for_it():
    """Stochastic depth: a picture's residual is gone with probability p, or divided by 1 - p."""
    torch.manual_seed(0)
    block = as_trained(ConvNeXt(SMALL, num_classes=0, stochastic_depth=0.75)).get_submodule("features.7.1")
    x = torch.randn(64, 20, 5, 4)
    with torch.no_grad():
        whole = block.eval()(x) - x
        trained = block.train()(x) - x
    left_out = (trained == 0).flatten(1).all(1)
    assert 0.55 < left_out.float().mean() < 0.95
    torch.testing.assert_close(trained[~left_out], 4 * whole[~left_out], rtol=1e-3, atol=1e-4)


def test_pictures_below_the_last_reduction_are_refused():
    for output_stride in (32, 8):
        with torch.device("meta"):
            model = MODELS["convnext_tiny"].build(num_classes=2, output_stride=output_stride).eval()
            assert model(torch.zeros(1, 3, output_stride, output_stride + 5)).shape == (1, 2)
            with pytest.raises(UsageError, match=f"{output_stride}x{output_stride} or more"):
                model(torch.zeros(1, 3, 40, output_stride - 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_stride": 2}, "output_stride must be one of 4, 8, 16, 32, not 2"),
        ({"stochastic_depth": 1.0}, "stochastic_depth must be a probability from 0 to below 1, not 1.0"),
        ({"stochastic_depth": -0.1}, "stochastic_depth"),
        ({"stochastic_depth": "high"}, "stochastic_depth"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        MODELS["convnext_tiny"].build(**arguments)


def test_forward_is_one_graph_in_any_memory_format():
    model = as_trained(ConvNeXt(SMALL, num_classes=3, in_chans=2, dropout=0.3, output_stride=16)).eval()
    assert model.dropout.p == 0.3
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    images = torch.randn(2, 2, 40, 33)
    with torch.no_grad():
        expected = model(images)
        traced = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(traced(images), expected, rtol=1e-5, atol=1e-5)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    torch.manual_seed(6)
    expected = model.train()(images)
    torch.manual_seed(6)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), expected, rtol=1e-4, atol=1e-4)
