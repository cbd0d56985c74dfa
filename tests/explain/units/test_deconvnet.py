"""DeconvNet against loops that do what the paper says, one number at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from striate.backbones import create_model
from striate.errors import UsageError
from striate.explain.units.deconvnet import project

Array = np.ndarray
Back = Callable[[Array], Array]


def convolution(x: Array, layer: nn.Conv2d) -> tuple[Array, Back]:
    """[C, H, W] up; back the transposed filters: each value of the signal lays its filter down, times itself."""
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    (down, right), (pad_y, pad_x), (far_y, far_x) = layer.stride, layer.padding, layer.dilation
    each_in, each_out = x.shape[0] // layer.groups, len(weight) // layer.groups
    rows, columns = weight.shape[2:]
    height = (x.shape[1] + 2 * pad_y - far_y * (rows - 1) - 1) // down + 1
    width = (x.shape[2] + 2 * pad_x - far_x * (columns - 1) - 1) // right + 1

    def taps():
        for o in range(len(weight)):
            for i in range(height):
                for j in range(width):
                    for c in range(each_in):
                        for u in range(rows):
                            for v in range(columns):
                                y, z = i * down - pad_y + u * far_y, j * right - pad_x + v * far_x
                                if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                                    yield (o, i, j), (o // each_out * each_in + c, y, z), weight[o, c, u, v]

    output = np.broadcast_to(bias[:, None, None], (len(weight), height, width)).astype(np.float64).copy()
    for there, here, value in taps():
        output[there] += value * x[here]

    def back(signal: Array) -> Array:
        pixels = np.zeros(x.shape)
        for there, here, value in taps():
            pixels[here] += value * signal[there]
        return pixels

    return output, back


def relu(x: Array) -> tuple[Array, Back]:
    """Back it rectifies the signal, wherever the forward values were below 0."""
    return np.maximum(x, 0), lambda signal: np.maximum(signal, 0)


def max_pool(x: Array, kernel: int, stride: int, ceil_mode: bool = False) -> tuple[Array, Back]:
    """Back each value goes to its switch; what several windows send there adds up."""
    height, width = ((side - kernel + (stride - 1 if ceil_mode else 0)) // stride + 1 for side in x.shape[1:])
    output, switches = np.zeros((len(x), height, width)), {}
    for c in range(len(x)):
        for i in range(height):
            for j in range(width):
                best = (-np.inf, 0, 0)
                for y in range(i * stride, min(i * stride + kernel, x.shape[1])):
                    for z in range(j * stride, min(j * stride + kernel, x.shape[2])):
                        if x[c, y, z] > best[0]:
                            best = (x[c, y, z], y, z)
                output[c, i, j], switches[c, i, j] = best[0], best[1:]

    def back(signal: Array) -> Array:
        pixels = np.zeros(x.shape)
        for (c, i, j), (y, z) in switches.items():
            pixels[c, y, z] += signal[c, i, j]
        return pixels

    return output, back


def norm(x: Array, layer: nn.BatchNorm2d) -> tuple[Array, Back]:
    assert layer.running_var is not None
    assert layer.running_mean is not None
    slope = (layer.weight / (layer.running_var + layer.eps).sqrt()).detach().numpy()[:, None, None]
    mean, bias = layer.running_mean.numpy()[:, None, None], layer.bias.detach().numpy()[:, None, None]
    return (x - mean) * slope + bias, lambda signal: signal * slope


def average_pool(x: Array, kernel: int) -> tuple[Array, Back]:
    height, width = x.shape[1] // kernel, x.shape[2] // kernel
    output = np.zeros((len(x), height, width))
    for i in range(height * kernel):
        for j in range(width * kernel):
            output[:, i // kernel, j // kernel] += x[:, i, j] / kernel**2

    def back(signal: Array) -> Array:
        pixels = np.zeros(x.shape)
        for i in range(height * kernel):
            for j in range(width * kernel):
                pixels[:, i, j] = signal[:, i // kernel, j // kernel] / kernel**2
        return pixels

    return output, back


def chain(x: Array, steps: list[Callable[[Array], tuple[Array, Back]]]) -> tuple[Array, Back]:
    backs = []
    for step in steps:
        x, back = step(x)
        backs.append(back)

    def whole(signal: Array) -> Array:
        for back in reversed(backs):
            signal = back(signal)
        return signal

    return x, whole


def one(maps: Array, unit: int, row: int, column: int) -> Array:
    signal = np.zeros(maps.shape)
    signal[unit, row, column] = maps[unit, row, column]
    return signal


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_small_net_by_loops(ceil_mode: bool):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=ceil_mode),  # windows overlap
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=ceil_mode),
        nn.Conv2d(4, 3, 2),
        nn.ReLU(inplace=True),
    ).double()
    images = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    units, rows, columns = [], [], []
    expected = []
    for image in images.numpy():
        maps, back = chain(
            image,
            [
                lambda x: convolution(x, network[0]),
                relu,
                lambda x: max_pool(x, 3, 2, ceil_mode),
                lambda x: convolution(x, network[3]),
                relu,
                lambda x: max_pool(x, 3, 2, ceil_mode),
                lambda x: convolution(x, network[6]),
                relu,
            ],
        )
        unit, row, column = np.unravel_index(maps.argmax(), maps.shape)
        assert maps[unit, row, column] > 0
        units.append(int(unit))
        rows.append(int(row))
        columns.append(int(column))
        expected.append(back(one(maps, unit, row, column)))
    found = project(network, "7", images, units, rows, columns)
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-6, rtol=0)
    assert float(found.abs().max()) > 1e-3
    images.requires_grad_()
    chosen = network(images)[[0, 1], units, rows, columns]
    (gradient,) = torch.autograd.grad(chosen, images, chosen.detach())
    assert not torch.allclose(found, gradient)  # plain backpropagation is another thing


class Ways(nn.Module):
    """All the ways a signal can take: groups, stride, dilation, batch norm, concatenation, a sum, an average."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.narrow = nn.Conv2d(4, 2, 1)
        self.wide = nn.Conv2d(4, 2, 3, padding=2, dilation=2)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AvgPool2d(2)
        self.last = nn.Conv2d(4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        below = self.relu(self.bn(self.first(x)))
        both = self.relu(torch.cat((self.narrow(below), self.wide(below)), 1))
        return self.last(self.pool(self.drop(below + both)))


def test_every_way_by_loops():
    torch.manual_seed(3)
    network = Ways().double()
    nn.init.uniform_(network.bn.weight, 0.5, 2)
    nn.init.normal_(network.bn.bias)
    network.bn.running_mean = torch.randn(4, dtype=torch.float64)
    network.bn.running_var = torch.rand(4, dtype=torch.float64) + 0.5
    image = torch.randn(1, 2, 13, 13, dtype=torch.float64)

    below, to_pixels = chain(
        image[0].numpy(), [lambda x: convolution(x, network.first), lambda x: norm(x, network.bn), relu]
    )
    narrow, from_narrow = convolution(below, network.narrow)
    wide, from_wide = convolution(below, network.wide)
    both, from_both = relu(np.concatenate((narrow, wide)))
    maps, to_sum = chain(below + both, [lambda x: average_pool(x, 2), lambda x: convolution(x, network.last)])
    signal = to_sum(one(maps, 1, 0, 1))
    concatenated = from_both(signal)
    expected = to_pixels(signal + from_narrow(concatenated[:2]) + from_wide(concatenated[2:]))

    found = project(network, "last", image, [1], [0], [1])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6, rtol=0)


def test_first_filter_is_its_own_projection():
    network = create_model("squeezenet1_0", num_classes=4)
    images = torch.randn(1, 3, 40, 40)
    found = project(network, "features.0", images, [5], [3], [4])
    value = network.get_submodule("features.0")(images)[0, 5, 3, 4].detach()
    weight = network.get_parameter("features.0.weight")[5].detach()
    assert torch.allclose(found[0, :, 6:13, 8:15], value * weight, atol=1e-5)
    outside = found.clone()
    outside[0, :, 6:13, 8:15] = 0
    assert not outside.any()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet", "convnext_tiny"])
def test_goes_through_the_zoo_and_leaves_it_alone(name: str):
    network = create_model(name, num_classes=3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layer = [layers[-1] for layers in network.stage_layers.values()][1]
    found = project(network, layer, torch.randn(2, 3, 64, 64), [0, 1], [1, 1], [1, 2])
    assert found.shape == (2, 3, 64, 64)
    assert found.isfinite().all()
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_other_activations_and_gates():
    """SiLU is rectified as ReLU is; the gate of a channel is a constant."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.gate = nn.Conv2d(1, 2, 1), nn.SiLU(), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.conv(x))
            return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))

    torch.manual_seed(1)
    network = nn.Sequential(Gated())
    images = torch.randn(1, 1, 5, 5)
    block = network[0]
    inner = block.act(block.conv(images))
    gate = torch.sigmoid(block.gate(inner.mean((2, 3), keepdim=True)))
    value = (inner * gate)[0, 1, 2, 2]
    expected = (value * gate[0, 1, 0, 0]).clamp(min=0) * block.conv.weight[1, 0, 0, 0]
    found = project(network, "0", images, [1], [2], [2])
    assert torch.isclose(found[0, 0, 2, 2], expected)
    assert int((found != 0).sum()) == int(expected != 0)


def test_no_such_layer():
    with pytest.raises(UsageError, match="no layer"):
        project(nn.Sequential(nn.Conv2d(1, 1, 1)), "7", torch.zeros(1, 1, 3, 3), [0], [0], [0])


def test_page(shared_data, shared_file):
    import striate

    model = striate.load(shared_file("squeezenet1_0-imagenet.safetensors"), device="cpu")
    photos = shared_data("imagenet-samples")
    told: list[str] = []
    found = model.explain(photos, "deconvnet", limit=10, layer="features.5", units=(4, 168), say=told.append)
    values = found.values["features.5"]
    assert list(values["units"]) == [4, 168]
    assert values["projections"][4].shape == (9, 3, 227, 227)
    assert values["field"] == (35, 35)
    assert len(found.sections[0].figures) == 2
    page = found.to_html()
    assert page.count("data:image/webp") == 2
    assert told
