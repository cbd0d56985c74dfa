"""MobileNet V1 against timm's, the paper's tables, and the lecture's cost of a depthwise separable convolution."""

import pytest
import timm
import torch
from timm.models._efficientnet_builder import efficientnet_init_weights
from timm.models.efficientnet import _gen_mobilenet_v1
from torch import nn

from striate.backbones.mobilenet_v1 import MODELS, WIDTH_MULTIPLIERS
from striate.errors import UsageError
from striate.network_summary import summarize

# millions of multiply-adds at 224x224 and of parameters: the paper's table 6
PAPER = {
    "mobilenet_v1": (569, 4.2),
    "mobilenet_v1_075": (325, 2.6),
    "mobilenet_v1_050": (149, 1.3),
    "mobilenet_v1_025": (41, 0.5),
}


def build(name: str = "mobilenet_v1", **arguments: object) -> nn.Module:
    return MODELS[name].build(**arguments)


def twin(name: str = "mobilenet_v1", **arguments: object) -> nn.Module:
    """timm's; it gives names to other widths than ours."""
    return _gen_mobilenet_v1("mobilenetv1_100", WIDTH_MULTIPLIERS[name], **arguments)


def unsettle(model: nn.Module) -> None:
    """Batch norms as training leaves them: at birth they would hide a wrong eps or a mean that is never used."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_names_shapes_and_counts_are_timms(name):
    with torch.device("meta"):
        ours, theirs = build(name), twin(name)
        summary = summarize(ours, (3, 224, 224))
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert list(shapes[0].items()) == list(shapes[1].items())
    multiply_adds, parameters = PAPER[name]
    assert summary.parameters / 1e6 == pytest.approx(parameters, abs=0.05)
    assert summary.multiply_adds / 1e6 == pytest.approx(multiply_adds, abs=0.6)


def test_it_is_timms_mobilenetv1_100():
    ours, theirs = build(), timm.create_model("mobilenetv1_100")
    assert count(ours) == count(theirs) == 4_231_976
    unsettle(theirs)
    ours.load_state_dict(theirs.state_dict())
    ours.eval(), theirs.eval()
    with torch.no_grad():
        images = torch.randn(2, 3, 96, 71)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resolution", [(224, 569), (192, 418), (160, 290), (128, 186)])
def test_smaller_pictures_cost_what_table_7_says(resolution):
    side, expected = resolution
    with torch.device("meta"):
        assert summarize(build(), (3, side, side)).multiply_adds / 1e6 == pytest.approx(expected, abs=1)


def test_initialisation_and_training_are_timms():
    ours, theirs = build("mobilenet_v1_025", num_classes=7), twin("mobilenet_v1_025", num_classes=7)
    torch.manual_seed(3)
    ours._initialise()  # again: while it builds, timm draws numbers for layers that it throws away
    torch.manual_seed(3)
    efficientnet_init_weights(theirs)
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


def test_stages_are_timms_features():
    theirs = twin(features_only=True).eval()
    unsettle(theirs)
    ours = build(num_classes=0).eval()
    ours.load_state_dict(theirs.state_dict())
    assert [stage.channels for stage in ours.pyramid.values()] == theirs.feature_info.channels()
    assert [stage.reduction for stage in ours.pyramid.values()] == theirs.feature_info.reduction() == [2, 4, 8, 16, 32]
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 96)
        for mine, yours in zip(ours.feature_maps(images).values(), theirs(images), strict=True):
            torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-5)
        pooled = ours.feature_maps(images)["c5"].mean((2, 3))
        torch.testing.assert_close(ours(images), pooled, rtol=1e-5, atol=1e-5)
    assert ours.num_features == 1024


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_is_timms(output_stride):
    theirs = twin("mobilenet_v1_050", output_stride=output_stride, num_classes=5).eval()
    unsettle(theirs)
    ours = build("mobilenet_v1_050", output_stride=output_stride, num_classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
        found = ours.feature_maps(images)
    for name, stage in ours.pyramid.items():
        assert found[name].shape[1:] == (stage.channels, 64 // stage.reduction, 64 // stage.reduction)
    assert ours.pyramid["c5"].reduction == output_stride


@pytest.mark.parametrize("output_stride", [2, 4, 8, 16])
def test_dilated_features_hold_the_strided_ones(output_stride):
    strided = build("mobilenet_v1_025", num_classes=0).eval()
    unsettle(strided)
    dilated = build("mobilenet_v1_025", num_classes=0, output_stride=output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 96)
        coarse, fine = strided.feature_maps(images)["c5"], dilated.feature_maps(images)["c5"]
    factor = 32 // output_stride
    assert fine.shape[-1] == factor * coarse.shape[-1]
    torch.testing.assert_close(fine[..., ::factor, ::factor], coarse, rtol=1e-4, atol=1e-4)


def test_depthwise_separable_cost_is_the_lectures():
    """1 / C_out + 1 / f² of a full convolution's, block by block; so 4866 M shrink to 569 M (table 4)."""
    with torch.device("meta"):
        rows = {row.name: row for row in summarize(build(), (3, 224, 224)).rows}
        separable = full = 0
        for name, row in rows.items():
            if not name.endswith("conv_dw"):
                continue
            pointwise = rows[name.replace("conv_dw", "conv_pw")]
            in_channels, (_, out_channels, *size) = row.output[1], pointwise.output
            convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
            cost = summarize(convolution, (in_channels, *size)).multiply_adds
            assert (row.multiply_adds + pointwise.multiply_adds) / cost == pytest.approx(1 / out_channels + 1 / 3**2)
            separable += row.multiply_adds + pointwise.multiply_adds
            full += cost
    rest = sum(row.multiply_adds for row in rows.values()) - separable
    assert (full + rest) / 1e6 == pytest.approx(4866, rel=0.0005)
    assert 8 < full / separable < 9  # "8 to 9 times less computation" (section 3.1)


def test_it_is_one_graph_in_any_memory_format():
    model = build("mobilenet_v1_025", num_classes=3).eval()
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
    model = build("mobilenet_v1_025", num_classes=4, in_chans=1, dropout=0.3).eval()
    assert model.dropout.p == 0.3
    assert model(torch.zeros(1, 1, 1, 1)).shape == (1, 4)  # any size
    with pytest.raises(UsageError, match="output_stride must be one of 2, 4, 8, 16, 32, not 12"):
        build(output_stride=12)
