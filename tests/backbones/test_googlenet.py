"""GoogLeNet against torchvision's, the paper's figures and tables, and the lecture's sums."""

import pytest
import torch
import torchvision
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


def lively(model: nn.Module) -> nn.Module:
    """Weights that do not fade through the layers, and batch norms that have seen something."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def reference(**arguments) -> nn.Module:
    return lively(torchvision.models.googlenet(weights=None, init_weights=False, **arguments))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in model.state_dict().items()]


def dropouts(model: nn.Module) -> list[float]:
    return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    return model


@pytest.mark.parametrize(("aux_logits", "parameters"), [(False, 6_624_904), (True, 13_004_888)])
def test_names_shapes_and_counts_are_torchvisions(aux_logits, parameters):
    with torch.device("meta"):
        ours = build(aux_logits=aux_logits, transform_input=True)
        theirs = torchvision.models.googlenet(weights=None, aux_logits=aux_logits, init_weights=False)
    assert shapes(ours) == shapes(theirs)
    assert count(ours) == parameters  # ../shared/NUMBERS.md
    assert dropouts(ours) == dropouts(theirs) == ([0.7, 0.7, 0.2] if aux_logits else [0.2])


def test_multiply_adds_are_torchvisions():
    with torch.device("meta"):
        assert summarize(build(), (3, 224, 224)).multiply_adds == pytest.approx(1.498e9, rel=0.005)


def test_initialisation_is_torchvisions():
    torch.manual_seed(3)
    ours = build(num_classes=7, aux_logits=True)
    torch.manual_seed(3)
    theirs = torchvision.models.googlenet(weights=None, num_classes=7, aux_logits=True, init_weights=True)
    for (name, mine), (same, yours) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(mine, yours), name


@pytest.mark.parametrize("transform_input", [False, True])
def test_outputs_are_torchvisions(transform_input):
    theirs = reference(num_classes=7, aux_logits=False, transform_input=transform_input).eval()
    ours = build(num_classes=7, transform_input=transform_input).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 75, 98) * torch.tensor((0.3, 3.0))[:, None, None, None]
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=1e-5, atol=1e-5)
    assert (expected[0] - expected[1]).abs().min() > 1e-2  # the pictures make a difference


def test_training_is_torchvisions():
    """Three steps with both auxiliary losses: their order, their taps, their gradients, the running statistics."""
    theirs = without_dropout(reference(num_classes=5, aux_logits=True))
    ours = without_dropout(build(num_classes=5, aux_logits=True))
    ours.load_state_dict(theirs.state_dict())
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9) for model in (ours, theirs)]
    criterion = nn.CrossEntropyLoss()
    for _ in range(3):
        images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 3, 4])
        mine, yours = ours(images), theirs(images)
        assert isinstance(mine, WithAuxiliary)
        assert mine.weight == 0.3  # section 5
        for got, expected in zip(
            (mine.logits, *mine.auxiliary), (yours.logits, yours.aux_logits1, yours.aux_logits2), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        losses = (
            criterion(mine.logits, targets) + mine.weight * sum(criterion(aux, targets) for aux in mine.auxiliary),
            criterion(yours.logits, targets)
            + 0.3 * (criterion(yours.aux_logits1, targets) + criterion(yours.aux_logits2, targets)),
        )
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for (name, mine), yours in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4, msg=name)


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


@pytest.mark.parametrize("name", MODELS)
def test_no_classes_give_the_pooled_last_stage(name):
    with torch.device("meta"):
        assert build(name, num_classes=0).eval()(torch.rand(1, 3, 32, 32)).shape == (1, build(name).num_features)
    if name == "googlenet":
        model = lively(build(num_classes=0).eval())
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            pooled = model.feature_maps(images)["inception5b"].mean((2, 3))
            torch.testing.assert_close(model(images), pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("output_stride", "sides"), [(32, [112, 56, 28, 14, 7]), (16, [112, 56, 28, 14, 14])])
def test_stages_have_the_sizes_of_table_1(name, output_stride, sides):
    with torch.device("meta"):
        model = build(name, output_stride=output_stride)
        found = model.feature_maps(torch.rand(1, 3, 224, 224))
    assert list(found) == ["conv1", "conv3", "inception3b", "inception4e", "inception5b"]
    assert [maps.shape[-1] for maps in found.values()] == sides
    assert [224 // stage.reduction for stage in model.pyramid.values()] == sides
    assert [maps.shape[1] for maps in found.values()] == [stage.channels for stage in model.pyramid.values()]


def test_the_smallest_picture():
    with torch.device("meta"):
        model = build(num_classes=4, aux_logits=True)
        assert model.feature_maps(torch.rand(2, 3, 15, 48))["inception5b"].shape == (2, 1024, 1, 2)
        with pytest.raises(UsageError, match="needs pictures of 15x15 or more, these are 14x40"):
            model(torch.rand(2, 3, 14, 40))


@pytest.mark.parametrize(("output_stride", "first", "step"), [(16, 0, 2), (8, 1, 4)])
@pytest.mark.parametrize("large_kernel", [3, 5])
def test_dilated_features_hold_the_strided_ones(output_stride, first, step, large_kernel):
    """Also at the borders. maxpool3 looks around every second pixel, so with it undone they start at pixel 1."""
    strided = lively(build(num_classes=0, large_kernel=large_kernel).eval())
    dilated = build(num_classes=0, large_kernel=large_kernel, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 94, 131)
        coarse, fine = (model.feature_maps(images)["inception5b"] for model in (strided, dilated))
    assert coarse.shape[-2:] == (3, 4)
    assert fine.shape[-2:] == {16: (5, 8), 8: (11, 16)}[output_stride]
    torch.testing.assert_close(fine[..., first::step, first::step], coarse, rtol=1e-4, atol=1e-4)
    assert coarse.std() > 1  # there is something to compare


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
    model = without_dropout(lively(build(num_classes=3, aux_logits=True, output_stride=16)))
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        got, expected = torch.compile(model, fullgraph=True, backend="eager")(images), model(images)
        assert type(got) is type(expected) is WithAuxiliary
        torch.testing.assert_close((got.logits, *got.auxiliary), (expected.logits, *expected.auxiliary))

        expected = model.eval()(images)
        torch.testing.assert_close(torch.export.export(model, (images,)).module()(images), expected)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_stride": 4}, "output_stride must be one of 8, 16, 32, not 4"),
        ({"large_kernel": 7}, "large_kernel must be one of 3, 5, not 7"),
        ({"aux_logits": "yes"}, "aux_logits must be one of"),
        ({"transform_input": True, "in_chans": 1}, "transform_input is for pictures of 3 channels, not 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(UsageError, match=message):
        build(**arguments)
