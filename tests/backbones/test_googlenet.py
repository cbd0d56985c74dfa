"""GoogLeNet: its auxiliary classifiers against torchvision's, the paper's tables, and the lecture's sums."""

import pytest
import torch
import torchvision
from referee import (
    as_trained,
    cross_entropy,
    dilated_holds_strided,
    is_one_graph,
    names_and_settings_agree,
    outputs_agree,
    starts_agree,
    steps_agree,
    trained,
    twin_of,
    without_chance,
)
from torch import Tensor, nn

from striate.backbones.backbone import WithAuxiliary
from striate.backbones.googlenet import MODELS, BasicConv2d, GoogLeNet
from striate.errors import UsageError
from striate.network_summary import summarize


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def build(name: str = "googlenet", **arguments) -> GoogLeNet:
    return MODELS[name].build(**arguments)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


def test_with_auxiliary_classifiers_it_starts_and_learns_as_torchvisions():
    """Their order, their taps, their gradients; dropout of 0.7 before each."""
    torch.manual_seed(3)
    ours = build(num_classes=5, aux_logits=True)
    torch.manual_seed(3)
    theirs = torchvision.models.googlenet(num_classes=5, aux_logits=True, init_weights=True)
    starts_agree(ours, theirs)
    names_and_settings_agree(ours, theirs)
    theirs.load_state_dict(as_trained(ours).state_dict())
    without_chance(ours, theirs)
    images = torch.randn(4, 3, 64, 64)
    mine, yours = ours.train()(images), theirs.train()(images)
    assert isinstance(mine, WithAuxiliary)
    assert mine.weight == 0.3  # section 5
    expected = (yours.logits, yours.aux_logits1, yours.aux_logits2)
    torch.testing.assert_close((mine.logits, *mine.auxiliary), expected, rtol=1e-4, atol=1e-4)

    def loss(answer) -> Tensor:
        if isinstance(answer, WithAuxiliary):
            return cross_entropy(answer.logits) + answer.weight * sum(map(cross_entropy, answer.auxiliary))
        return cross_entropy(answer.logits) + 0.3 * sum(map(cross_entropy, (answer.aux_logits1, answer.aux_logits2)))

    steps_agree(ours, theirs, images, loss)
    with torch.device("meta"):
        assert count(build(aux_logits=True)) == 13_004_888  # torchvision's


def test_inputs_transformed_are_torchvisions():
    ours = as_trained(build(num_classes=7, transform_input=True))
    theirs = twin_of(ours, "googlenet", num_classes=7, transform_input=True)
    outputs_agree(ours, theirs, torch.randn(2, 3, 75, 98) * torch.tensor((0.3, 3.0))[:, None, None, None])


@pytest.mark.parametrize(("output_stride", "first"), [(16, 0), (8, 1)])
def test_dilated_5x5_kernels_hold_the_strided_ones(output_stride, first):
    strided = trained("googlenet", num_classes=2, large_kernel=5)
    dilated = build(num_classes=2, large_kernel=5, output_stride=output_stride)
    dilated_holds_strided(strided, dilated, torch.randn(1, 3, 94, 131), lambda step: first)


def test_auxiliary_classifiers_are_for_training_only():
    model = build(num_classes=4, aux_logits=True)
    images = torch.randn(2, 3, 48, 48)
    assert isinstance(model.eval()(images), Tensor)
    assert isinstance(build(num_classes=4).train()(images), Tensor)
    assert shapes(build(num_classes=0, aux_logits=True)) == shapes(build(num_classes=0))
    model.train().cut_after("inception4e")
    assert not [name for name, _ in model.named_parameters() if name.startswith(("aux", "inception5", "fc"))]
    maps = model(images)
    maps.sum().backward()
    assert maps.shape == (2, 832, 3, 3)
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilated_naive_blocks_hold_the_strided_ones(output_stride):
    with torch.device("meta"):
        strided, dilated = build("googlenet_naive"), build("googlenet_naive", output_stride=output_stride)
    assert shapes(strided) == shapes(dilated)
    deepest, expected = dilated.inception5b, (32 // output_stride,) * 2
    assert [module.dilation for module in (deepest.branch2.conv, deepest.branch3.conv)] == [expected] * 2
    maps = torch.rand(1, 4, 9, 11)
    everywhere = deepest.branch4(maps)
    for row in range(expected[0]):
        for column in range(expected[1]):
            pixels = (..., slice(row, None, expected[0]), slice(column, None, expected[1]))
            assert torch.equal(everywhere[pixels], nn.functional.max_pool2d(maps[pixels], 3, stride=1, padding=1))


def test_a_5x5_through_a_bottleneck_costs_a_tenth():
    """Lecture B4: 28x28x192 to 28x28x32 costs 120M multiplications, through 16 channels 2.4M + 10.0M."""
    with torch.device("meta"):
        direct = summarize(nn.Sequential(BasicConv2d(192, 32, 5)), (192, 28, 28))
        reduced = summarize(nn.Sequential(BasicConv2d(192, 16, 1), BasicConv2d(16, 32, 5)), (192, 28, 28))
        networks = [summarize(build(name, large_kernel=5), (3, 224, 224)) for name in MODELS]
    assert direct.multiply_adds == 28 * 28 * 32 * 5 * 5 * 192 == 120_422_400
    assert [row.multiply_adds for row in reduced.rows if row.multiply_adds] == [2_408_448, 10_035_200]
    assert 1 - reduced.multiply_adds / direct.multiply_adds == pytest.approx(0.9, abs=0.005)
    # they are the third branches of the first blocks of the two networks
    branches = [
        [row.multiply_adds for row in network.rows if row.name.startswith("inception3a.branch3") and row.multiply_adds]
        for network in networks
    ]
    assert branches == [[2_408_448, 10_035_200], [120_422_400]]


def test_weights_of_blocks_are_table_1s():
    """Its column "params", in units of 1,024, where it agrees with its own columns of filters; only with the 5x5."""
    with torch.device("meta"):
        model = build(large_kernel=5)
    for name, thousands in {"inception3a": 159, "inception3b": 380, "inception4b": 437}.items():
        convolutions = [module for module in model.get_submodule(name).modules() if isinstance(module, nn.Conv2d)]
        assert sum(map(count, convolutions)) / 1024 == pytest.approx(thousands, rel=0.005), name
    assert count(model) == 6_624_904 + (25 - 9) * (
        16 * 32 + 32 * 96 + 16 * 48 + 24 * 64 + 24 * 64 + 32 * 64 + 32 * 128 + 32 * 128 + 48 * 128
    )


def test_naive_blocks_blow_up():
    """Section 4: outputs grow from block to block, since the pooling adds all of its input's channels."""
    with torch.device("meta"):
        naive = build("googlenet_naive")
        cost = summarize(naive, (3, 224, 224))
    blocks = {name: module for name, module in naive.named_children() if name.startswith("inception")}
    added = (224, 416, 448, 448, 448, 464, 704, 704, 896)  # #1x1 + #3x3 + #5x5 of table 1
    channels = 192
    for block, more in zip(blocks.values(), added, strict=True):
        channels += more
        assert block.out_channels == channels
    assert channels == naive.num_features == 4944
    assert count(naive) / 6_624_904 == pytest.approx(15, abs=0.5)
    assert cost.multiply_adds / 1.498e9 > 8


def test_it_is_one_graph():
    model = as_trained(build(num_classes=3, aux_logits=True, output_stride=16))
    without_chance(model.train())
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        torch.compiler.reset()
        got, expected = torch.compile(model, fullgraph=True, backend="eager")(images), model(images)
        assert type(got) is type(expected) is WithAuxiliary
        torch.testing.assert_close((got.logits, *got.auxiliary), (expected.logits, *expected.auxiliary))
    is_one_graph(model, images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"large_kernel": 7}, "large_kernel must be one of 3, 5, not 7"),
        ({"aux_logits": "yes"}, "aux_logits must be one of"),
        ({"transform_input": True, "in_chans": 1}, "transform_input is for pictures of 3 channels, not 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build(**arguments)
