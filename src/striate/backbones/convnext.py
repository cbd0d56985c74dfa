"""ConvNeXt: a ResNet rebuilt on the lines of a vision transformer (Liu et al., CVPR 2022, arXiv:2201.03545).

The steps (section 2, figure 2): stages of 3, 3, 9, 3 blocks; patches of 4x4 as the stem; a depthwise 7x7, then an
inverted bottleneck; GELU for ReLU, layer norm for batch norm, one of each a block; layers of their own to downsample.
Parameter names and initialisation are torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Entry, Stage
from striate.errors import UsageError
from striate.layers.blocks import LayerNorm2d, StochasticDepth
from striate.layers.dilation import Step, dilated_steps

EPS = 1e-6  # of every layer norm, as in the authors' code
LAYER_SCALE = 1e-6  # what a block's result is multiplied by at the start (section 3.1)


class Variant(NamedTuple):
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stochastic_depth: float


CONVNEXTS = {  # section 3; stochastic depth: table 5
    "convnext_tiny": Variant((3, 3, 9, 3), (96, 192, 384, 768), 0.1),
    "convnext_small": Variant((3, 3, 27, 3), (96, 192, 384, 768), 0.4),
    "convnext_base": Variant((3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
    "convnext_large": Variant((3, 3, 27, 3), (192, 384, 768, 1536), 0.5),
}


class Permute(nn.Module):
    """Axes in another order, as a layer."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class Block(nn.Module):
    """Depthwise 7x7, layer norm, 1x1 up to four times the channels, GELU, 1x1 down (figure 4 right).

    The 1x1 are linear layers on [B, H, W, C]. The first one's norm leaves its result in that order of memory, so from
    there on permuting costs nothing and every later convolution works in channels_last.
    """

    def __init__(self, channels: int, dilation: int, stochastic_depth: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3 * dilation, dilation=dilation, groups=channels),
            Permute(0, 2, 3, 1),  # [B, H, W, C]
            nn.LayerNorm(channels, eps=EPS),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),  # [B, C, H, W]
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), LAYER_SCALE))
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W]"""
        # dropping the scale of a picture is dropping its residual, without another pass over the map
        scale = self.stochastic_depth(self.layer_scale.expand(x.shape[0], -1, 1, 1))  # [B, C, 1, 1]
        return torch.addcmul(x, self.block(x), scale)


class ConvNeXt(Backbone):
    """Stages: stage1, stage2, stage3, stage4; each begins with what makes its maps smaller.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        stochastic_depth: how often training leaves out the last block; earlier ones less often (Huang et al. 2016,
            arXiv:1603.09382, equation 4). The paper's (table 5) when not given.

    Raises:
        UsageError: an output stride that is no power of 2 or below 4, a stochastic depth that is no probability.
    """

    last_layer = "classifier.2"

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
        stochastic_depth: float | None = None,
    ) -> None:
        channels = variant.widths[-1]
        super().__init__(num_features=channels)
        drop = variant.stochastic_depth if stochastic_depth is None else stochastic_depth
        if not isinstance(drop, Real) or not 0 <= drop < 1:
            raise UsageError(f"stochastic_depth must be a probability from 0 to below 1, not {drop!r}")

        steps = dilated_steps((1, 2, 2, 2), reduction=4, output_stride=output_stride)
        self.smallest = steps[-1].reduction
        first, last = 0, sum(variant.depths) - 1
        layers: list[nn.Module] = []
        channels = in_chans
        for index, (width, depth, step) in enumerate(zip(variant.widths, variant.depths, steps, strict=True)):
            layers.append(_stem(in_chans, width) if index == 0 else _downsample(channels, width, step))
            drops = [drop * number / last for number in range(first, first + depth)]
            layers.append(nn.Sequential(*(Block(width, step.dilations[1], share) for share in drops)))
            self.add_stage(
                f"stage{index + 1}",
                Stage(width, step.reduction),
                (f"features.{2 * index}", f"features.{2 * index + 1}"),
            )
            channels, first = width, first + depth
        self.features = nn.Sequential(*layers)

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Sequential(
            LayerNorm2d(channels, eps=EPS),
            nn.Flatten(),
            nn.Linear(channels, num_classes) if num_classes else nn.Identity(),
        )
        self.head_layers = ("avgpool", "classifier.0", "classifier.1", "dropout", "classifier.2")
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:  # all of them have one
                nn.init.trunc_normal_(module.weight, std=0.02)  # appendix A.1
                nn.init.zeros_(module.bias)


def _stem(in_chans: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_chans, width, kernel_size=4, stride=4), LayerNorm2d(width, eps=EPS))


def _downsample(in_channels: int, out_channels: int, step: Step) -> nn.Sequential:
    """Layer norm and 2x2 of stride 2 (section 2.6); without its stride it reads zeros right of and below the map.

    There and not around it, so that its window starts at the same place as with the stride.
    """
    dilation = step.dilations[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict({"0": LayerNorm2d(in_channels, eps=EPS)})
    if step.stride == 1:
        layers["pad"] = nn.ZeroPad2d((0, dilation, 0, dilation))
    layers["1"] = nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=step.stride, dilation=dilation)
    return nn.Sequential(layers)


MODELS = {
    name: Entry(
        partial(ConvNeXt, variant),
        f"{sum(variant.depths)} blocks, {variant.widths[0]} to {variant.widths[-1]} channels, depthwise 7x7",
        "Liu et al. 2022",
    )
    for name, variant in CONVNEXTS.items()
}
