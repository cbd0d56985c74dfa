"""The AlexNet of 2012 against its paper, computed on two GPUs as figure 2 draws it."""

from math import prod

import pytest
import torch
from referee import trained
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.alexnet import MODELS, local_response_norm, max_pool
from striate.layers.dilation import Step
from striate.network_summary import summarize


def build(name, device="cpu", **arguments):
    with torch.device(device):
        return MODELS[name].build(**arguments)


def test_the_counts_of_the_original():
    """The sums of the lecture, f·f·c_in·c_out + c_out: a GPU's 128 filters of conv2 see only its own 48 maps, …"""
    model = build("alexnet_original", "meta")
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [sum(parameter.numel() for parameter in module.parameters()) for module in weighted] == [
        11 * 11 * 3 * 96 + 96,  # 34,944
        2 * (5 * 5 * 48 * 128 + 128),
        3 * 3 * 256 * 384 + 384,
        2 * (3 * 3 * 192 * 192 + 192),
        2 * (3 * 3 * 192 * 128 + 128),
        6 * 6 * 256 * 4096 + 4096,
        4096 * 4096 + 4096,
        4096 * 1000 + 1000,
    ]
    found = summarize(model, (3, 224, 224))
    assert found.parameters == 60_965_224  # "60 million parameters" (abstract)
    assert found.multiply_adds == 724_406_816
    # section 3.5 counts neurons: 253,440 (a slip: 55 × 55 × 96 are 290,400) - 186,624 - 64,896 - …
    neurons = [prod(row.output) for row in found.rows if row.kind in ("Conv2d", "Linear")]
    assert neurons == [55 * 55 * 96, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


@pytest.mark.parametrize("side", [224, 227])
def test_maps_are_as_large_as_the_paper_says(side):
    model = build("alexnet_original", "meta", num_classes=0)
    found = model.feature_maps(torch.empty(1, 3, side, side, device="meta"))
    first = 55 if side == 224 else 56
    assert {name: tuple(maps.shape[1:]) for name, maps in found.items()} == {
        "conv1": (96, first, first),
        "conv2": (256, 27, 27),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
    }
    assert [stage.reduction for stage in model.pyramid.values()] == [4, 8, 16, 32]


def published_norm(maps: Tensor) -> Tensor:
    """Section 3.3, written as its formula is."""
    count = maps.shape[1]
    columns = []
    for i in range(count):
        neighbours = maps[:, max(0, i - 5 // 2) : min(count - 1, i + 5 // 2) + 1]
        columns.append(maps[:, i] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75)
    return torch.stack(columns, dim=1)


def test_local_response_norm_is_the_papers():
    maps = 300 * torch.rand(2, 9, 4, 3)
    torch.testing.assert_close(local_response_norm()(maps), published_norm(maps), rtol=1e-5, atol=1e-5)
    last = maps.to(memory_format=torch.channels_last)
    torch.testing.assert_close(local_response_norm()(last), published_norm(maps), rtol=1e-5, atol=1e-5)


def test_the_original_is_two_gpus_that_meet_in_conv3_and_in_the_dense_layers():
    """Figure 2 once more, with one list of maps for each GPU."""
    model = trained("alexnet_original", features_only=True).backbone.double()
    conv = [module for module in model.features if isinstance(module, nn.Conv2d)]

    def halves(number, maps):
        weights, biases = conv[number].weight.chunk(2), conv[number].bias.chunk(2)
        return [F.relu(F.conv2d(*one, padding=conv[number].padding)) for one in zip(maps, weights, biases, strict=True)]

    def norm_and_pool(maps):
        return [F.max_pool2d(half, 3, 2) for half in published_norm(torch.cat(maps, 1)).chunk(2, 1)]

    images = 20 * torch.randn(1, 3, 128, 128).double()  # large, so that the norm has something to do
    with torch.no_grad():
        # a frame of 2 pixels before and 1 after is what "224" reads: 227 = 11 + 54 · 4
        maps = F.relu(F.conv2d(F.pad(images, (2, 1, 2, 1)), conv[0].weight, conv[0].bias, stride=4)).chunk(2, 1)
        maps = norm_and_pool(halves(1, norm_and_pool(maps)))
        maps = F.relu(conv[2](torch.cat(maps, 1))).chunk(2, 1)
        maps = halves(4, halves(3, maps))
        expected = F.max_pool2d(torch.cat(maps, 1), 3, 2)
        found = model.feature_maps(images)["pool5"]
    assert found.shape == (1, 256, 3, 3)
    assert found.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_original_starts_as_section_5_says():
    torch.manual_seed(0)
    model = build("alexnet_original", num_classes=10)
    weighted = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [module.bias.unique().tolist() for module in weighted] == [[0], [1], [0], [1], [1], [1], [1], [0]]
    for module in weighted:
        assert module.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert abs(module.weight.mean().item()) < 0.001
    kinds = [type(module) for module in model.classifier]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]  # dropout of what the two hidden dense layers give (section 4.2)
    assert kinds == [*hidden, *hidden, nn.Linear]
    with torch.no_grad():
        assert model.eval()(torch.randn(2, 3, 63, 63)).shape == (2, 10)


def test_not_a_pixel_more_than_is_needed_is_asked_for():
    for name in MODELS:
        with pytest.raises(RuntimeError, match="too small"):
            build(name, "meta").get_submodule("features")(torch.empty(1, 3, 80, 62, device="meta"))


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_pooling_without_stride_keeps_the_size_and_ignores_what_is_beyond_the_border(kernel_size, dilation):
    maps = torch.rand(1, 2, 9, 11)
    pooled = max_pool(kernel_size, Step(1, (dilation, 2 * dilation), 8))(maps)
    assert pooled.shape == maps.shape
    # 3: back, here and ahead; 2: as far apart, but with the half pixel that an even window lacks ahead
    reach = [-dilation, 0, dilation] if kernel_size == 3 else [-(dilation // 2), dilation - dilation // 2]
    for row, column in ((0, 0), (4, 5), (8, 10)):
        rows = [r for r in (row + step for step in reach) if 0 <= r < 9]
        columns = [c for c in (column + step for step in reach) if 0 <= c < 11]
        expected = maps[0][:, rows][:, :, columns].flatten(1)
        assert torch.equal(pooled[0, :, row, column], expected.max(1).values)
