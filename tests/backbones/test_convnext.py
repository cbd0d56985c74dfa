"""ConvNeXt, dilated, against timm's; the paper's claims about its block."""

from __future__ import annotations

import pytest
import timm
import torch
from referee import as_trained, is_one_graph, outputs_agree, stages_agree, trained
from torch import Tensor

from striate.backbones.convnext import MODELS, ConvNeXt, Variant
from striate.errors import UsageError

SMALL = Variant((1, 2, 1, 2), (8, 12, 16, 20), 0.2)


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


def test_dilated_stages_are_timms():
    """At 8 timm moves the second 2x2 up and left by one place; test_zoo says what ours does."""
    ours = trained("convnext_tiny", num_classes=7, output_stride=16)
    with torch.device("meta"):
        theirs = timm.create_model("convnext_tiny", num_classes=7, output_stride=16).eval()
    theirs.load_state_dict(as_timm(ours.state_dict()), assign=True)
    images = torch.randn(2, 3, 96, 64)
    outputs_agree(ours, theirs, images)
    stages_agree(ours, theirs, images, [f"stages.{index}" for index in range(4)])


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
    images = torch.randn(2, 2, 40, 33)
    is_one_graph(model, images)
    torch.manual_seed(6)
    expected = model.train()(images)
    torch.manual_seed(6)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images), expected, rtol=1e-4, atol=1e-4)
