"""A classifier as a detector: the same window everywhere, cut out one by one or all at once.

Neighbouring windows share most of their pixels. A network whose dense layers are written as convolutions (a dense layer
that reads a map of h × w is a convolution with that kernel) computes what they share once: one pass over a large
picture gives the scores of every window (OverFeat, Sermanet et al., ICLR 2014, arXiv:1312.6229, section 3.5).

The scores are those of the crops, to rounding, where no layer pads: windows lie a multiple of the network's total
stride apart. Where layers pad they differ: at its border a crop sees zeros, the pass sees what is there.
`python -m bench sliding` measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones import canonical_of
from striate.backbones.backbone import Backbone
from striate.backbones.convnext import LayerNorm2d
from striate.backbones.lenet import PadTo
from striate.errors import UsageError
from striate.network_summary import summarize

AT_ONCE = 64  # crops a batch
# of a head: what treats every place alike
PLACEWISE = (
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.BatchNorm2d,
    LayerNorm2d,
)

Size = tuple[int, int]  # height, width


class Costs(NamedTuple):
    """Multiply-adds of the scores of all windows of one picture."""

    windows: int
    crops: int
    convolutional: int

    @property
    def saving(self) -> float:
        """How many times fewer the fully convolutional pass needs."""
        return self.crops / self.convolutional


def score_crops(network: nn.Module, image: Tensor, window: int | Size, stride: int) -> Tensor:
    """Cut out every window and classify it.

    Args:
        network: [B, C, *window] → scores [B, K].
        image: float [1, C, H, W].
        stride: pixels between windows, both ways.

    Returns:
        [rows, columns, K]; the first window is in the upper left corner, and none reaches over the edge.

    Raises:
        UsageError: the picture is smaller than the window.
    """
    height, width = pair(window)
    rows, columns = places(image, (height, width), stride)
    crops = (
        image[0, :, y : y + height, x : x + width]
        for y in range(0, rows * stride, stride)
        for x in range(0, columns * stride, stride)
    )
    scores = [network(torch.stack(batch)) for batch in _batches(crops)]
    return torch.cat(scores).unflatten(0, (rows, columns))


def places(image: Tensor, window: Size, stride: int) -> Size:
    """How many windows fit below and beside each other.

    Raises:
        UsageError: none does.
    """
    height, width = image.shape[-2:]
    if height < window[0] or width < window[1]:
        raise UsageError(
            f"a window of {window[0]}x{window[1]} does not fit in a picture of {height}x{width}: "
            "enlarge the picture, or take a smaller window"
        )
    return (height - window[0]) // stride + 1, (width - window[1]) // stride + 1


class FullyConvolutional(nn.Module):
    """A classifier for pictures of any size from its window on: [B, C, H, W] → scores [B, K, rows, columns].

    Attributes:
        layers: the classifier's own, but for the head: they share their weights.
        window: (height, width) that each score sees.
        stride: pixels between windows.
    """

    def __init__(self, layers: nn.Sequential, window: Size, stride: int) -> None:
        super().__init__()
        self.layers, self.window, self.stride = layers, window, stride

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = places(images, self.window, self.stride)
        return self.layers(images)[..., :rows, :columns]  # without windows that reach over the edge


def fully_convolutional(backbone: nn.Module, window: int | Size | None = None) -> FullyConvolutional:
    """A classifier of the zoo as one that scores every window of a larger picture in one pass.

    Global average pooling becomes an average over the map that a window has, at every place of the map; a dense layer
    becomes a convolution whose kernel is as large as the map that it read; an adaptive pooling before it is folded into
    the kernel. Meant for eval mode: batch norm and dropout of training know of no windows.

    Args:
        backbone: of `create_model`, with a classifier.
        window: what one score is to see; None: the size that the network is bound to, or was made for.

    Raises:
        UsageError: another window than the network is bound to, or too small a one; a network that cannot be written so
            (squeeze-and-excitation looks at the whole window early; NASNet; `timm/…`; nearest neighbours).
    """
    if not isinstance(backbone, Backbone):
        raise UsageError(f"only a classifier of the zoo can be made fully convolutional, not {type(backbone).__name__}")
    size = window_of(backbone, window)
    layers = list(_layers(backbone))
    heads = (nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear)
    end = next((index for index, layer in enumerate(layers) if isinstance(layer, heads)), len(layers))
    body = nn.Sequential(*layers[:end])
    for name, layer in body.named_modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d | nn.GroupNorm | nn.MultiheadAttention):
            raise _refused(backbone, f"{name} looks at the whole window")
    kernel = size if not end else _map_size(body, size)
    head = _convolutional_head(backbone, layers[end:], kernel)
    return FullyConvolutional(nn.Sequential(*body, *head), size, _total_stride(backbone))


def multiply_adds(backbone: Backbone, image_size: tuple[int, int, int], window: int | Size | None = None) -> Costs:
    """What the scores of all windows cost, at the network's total stride, as `summarize` counts.

    Args:
        image_size: (channels, height, width) of the picture.

    Raises:
        UsageError: as `fully_convolutional`; the picture is smaller than the window.
    """
    network = fully_convolutional(backbone, window)
    whole = summarize(network, (1, *image_size))
    windows = prod(places(torch.empty(image_size, device="meta"), network.window, network.stride))
    each = summarize(backbone, (1, image_size[0], *network.window)).multiply_adds
    return Costs(windows, windows * each, whole.multiply_adds)


def window_of(backbone: Backbone, window: int | Size | None = None) -> Size:
    """The window asked for, else the one that the network takes.

    Raises:
        UsageError: the network cannot take it.
    """
    size = backbone.image_size or canonical_of(backbone.architecture).size if window is None else pair(window)
    if backbone.image_size is not None and size != backbone.image_size:
        height, width = backbone.image_size
        raise UsageError(
            f'"{backbone.architecture}" was built for pictures of {height}x{width}, so its window cannot be '
            f"{size[0]}x{size[1]}: build it with image_size={size}"
        )
    if min(size) < backbone.smallest:
        raise UsageError(f'"{backbone.architecture}" needs windows of {backbone.smallest} or more, not {min(size)}')
    return size


def pair(size: int | Size) -> Size:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _layers(backbone: Backbone) -> Iterator[nn.Module]:
    """What the network runs, in order, sequences opened; without LeNet's margin, which a whole window does not need."""
    if type(backbone).feature_maps is not Backbone.feature_maps:  # timm's networks, NASNet
        raise _refused(backbone, "its layers do not run one after the other")
    for name in (*chain.from_iterable(backbone.stage_layers.values()), *backbone.head_layers):
        for layer in _opened(backbone.get_submodule(name)):
            if not isinstance(layer, PadTo):
                yield layer


def _opened(layer: nn.Module) -> Iterator[nn.Module]:
    if type(layer) is nn.Sequential:
        for inner in layer:
            yield from _opened(inner)
    else:
        yield layer


def _map_size(body: nn.Sequential, window: Size) -> Size:
    """(height, width) of the map that a window has where the head begins."""
    first = next(layer for layer in body.modules() if isinstance(layer, nn.Conv2d))
    shape = summarize(body, (1, first.in_channels, *window)).rows[-1].output
    return shape[-2], shape[-1]


def _total_stride(backbone: Backbone) -> int:
    """Pixels between two places of the last map; LeNet and the MLP count dense layers as stages too."""
    stride = 1
    for name, layers in backbone.stage_layers.items():
        if any(isinstance(backbone.get_submodule(layer), nn.Flatten) for layer in layers):
            break
        stride = backbone.pyramid[name].reduction
    return stride


def _convolutional_head(backbone: Backbone, layers: list[nn.Module], kernel: Size) -> list[nn.Module]:
    """The head on maps, for one that reads a map of `kernel` in each window."""
    made: list[nn.Module] = []
    adaptive: Size | None = None  # an adaptive pooling that the next dense layer takes into its kernel
    for layer in layers:
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            wanted = pair(layer.output_size)  # type: ignore[arg-type]
            if wanted == (1, 1):
                made.append(nn.AvgPool2d(kernel, stride=1))
                kernel = (1, 1)
            else:
                adaptive = wanted
        elif isinstance(layer, nn.Linear):
            made.append(_as_convolution(layer, kernel, adaptive))
            kernel, adaptive = (1, 1), None
        elif isinstance(layer, nn.BatchNorm1d) and kernel == (1, 1):
            made.append(_on_maps(layer))
        elif _is_placewise(layer) and (not adaptive or isinstance(layer, nn.Dropout | nn.Identity)):
            made.append(layer)
        elif not isinstance(layer, nn.Flatten):
            raise _refused(backbone, f"its head has a {type(layer).__name__}")
    if kernel != (1, 1):
        raise _refused(backbone, "it has no classifier")
    return made


def _is_placewise(layer: nn.Module) -> bool:
    return isinstance(layer, PLACEWISE) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))


def _as_convolution(dense: nn.Linear, kernel: Size, adaptive: Size | None) -> nn.Conv2d:
    """The dense layer with its weights [out, C·h·w] as [out, C, h, w]; no copy where nothing is folded in."""
    seen = adaptive or kernel
    weight = dense.weight.detach().unflatten(1, (-1, *seen))
    if adaptive:  # pooling is linear: bin i is a weighted sum of rows, bin j of columns
        bins = [F.adaptive_avg_pool1d(torch.eye(n), m).to(weight) for n, m in zip(kernel, adaptive, strict=True)]
        weight = torch.einsum("ocij,hi,wj->ochw", weight, *bins)
    conv = nn.Conv2d(weight.shape[1], len(weight), kernel, bias=dense.bias is not None, device="meta")
    conv.weight = nn.Parameter(weight, requires_grad=dense.weight.requires_grad)
    conv.bias = dense.bias
    return conv


def _on_maps(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    made.training = norm.training
    return made


def _refused(backbone: Backbone, why: str) -> UsageError:
    return UsageError(f'"{backbone.architecture}" cannot be made fully convolutional: {why}; take score_crops')


def _batches(crops: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    batch: list[Tensor] = []
    for crop in crops:
        batch.append(crop)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
