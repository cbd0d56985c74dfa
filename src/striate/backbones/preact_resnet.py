"""ResNet with identity mappings, or pre-activation (He et al., ECCV 2016, arXiv:1603.05027).

A unit computes x + F(x), where F begins with norm and activation (figure 4e) and nothing follows the sum. So any unit
sees the sum of all residuals before it (equation 4), and the gradient reaches every unit undiminished (equation 5).
Parameter names and initialisation are timm's (`resnetv2_50`); like timm, the bottleneck strides in its 3x3.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from striate.backbones.backbone import CIFAR, IMAGENET, Backbone, Entry, Stage, checked
from striate.backbones.resnet import CIFAR_WIDTHS, PadShortcut, conv3x3
from striate.layers.dilation import dilated_steps


class PreActBasic(nn.Module):
    """Two 3x3 convolutions, each after its norm (figure 1b).

    `dilations`: of the first 3x3, which a stride would have belonged to, and of every 3x3 after it.
    `shortcut` reads what the first convolution reads; None: the sum goes on with x itself.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.downsample = shortcut
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, width, stride, dilations[0])
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, dilation=dilations[1])

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, width, H / stride, W / stride]"""
        active = self.relu1(self.norm1(x))
        residual = self.conv1(active)
        residual = self.conv2(self.relu2(self.norm2(residual)))
        return residual + (x if self.downsample is None else self.downsample(active))


class PreActBottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up by four, each after its norm; arguments as for `PreActBasic`."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.downsample = shortcut
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, stride, dilations[0])
        self.norm3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 4 width, H / stride, W / stride]"""
        active = self.relu1(self.norm1(x))
        residual = self.conv1(active)
        residual = self.conv2(self.relu2(self.norm2(residual)))
        residual = self.conv3(self.relu3(self.norm3(residual)))
        return residual + (x if self.downsample is None else self.downsample(active))


class Variant(NamedTuple):
    block: type[PreActBasic] | type[PreActBottleneck]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "imagenet"
    shortcut: str = "project"


PREACT_RESNETS = {
    "resnetv2_18": Variant(PreActBasic, (2, 2, 2, 2)),
    "resnetv2_34": Variant(PreActBasic, (3, 4, 6, 3)),
    "resnetv2_50": Variant(PreActBottleneck, (3, 4, 6, 3)),
    "resnetv2_101": Variant(PreActBottleneck, (3, 4, 23, 3)),
    "resnetv2_152": Variant(PreActBottleneck, (3, 8, 36, 3)),  # table 5
    "preact_resnet20_cifar": Variant(PreActBasic, (3,) * 3, CIFAR_WIDTHS, "cifar", "pad"),  # 6n + 2 layers
    "preact_resnet56_cifar": Variant(PreActBasic, (9,) * 3, CIFAR_WIDTHS, "cifar", "pad"),
    "preact_resnet110_cifar": Variant(PreActBasic, (18,) * 3, CIFAR_WIDTHS, "cifar", "pad"),  # table 3
    "preact_resnet164_cifar": Variant(PreActBottleneck, (18,) * 3, CIFAR_WIDTHS, "cifar"),  # 9n + 2 layers
}


class PreActResNet(Backbone):
    """Stages: stem, stage1, stage2, … They are bare sums: norm and ReLU come where the next stage or the head begins.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        stem: `imagenet`: 7x7 of stride 2 and a max pooling; `cifar`: 3x3 of stride 1, for small pictures.
        zero_init_residual: start every block as the identity (Goyal et al. 2017, section 5.1).

    Raises:
        UsageError: a stem that is not one, an output stride that is no power of 2 or below the stem's reduction.
    """

    last_layer = "head.fc"

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
        stem: str | None = None,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__(num_features=variant.widths[-1] * variant.block.expansion)
        stem = variant.stem if stem is None else stem
        checked("stem", stem, ("imagenet", "cifar"))
        checked("zero_init_residual", zero_init_residual, (False, True))
        channels = variant.widths[0]
        if stem == "imagenet":
            conv = nn.Conv2d(in_chans, channels, kernel_size=7, stride=2, padding=3, bias=False)
            pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            reduction = 4
        else:
            conv, pool, reduction = conv3x3(in_chans, channels), nn.Identity(), 1
        self.stem = nn.Sequential(OrderedDict(conv=conv, pool=pool))
        self.add_stage("stem", Stage(channels, 2 if reduction == 4 else 1), ("stem.conv",))

        self.stages = nn.ModuleList()
        steps = dilated_steps((1, *[2] * (len(variant.depths) - 1)), reduction, output_stride)
        for index, (width, depth, step) in enumerate(zip(variant.widths, variant.depths, steps, strict=True)):
            blocks: list[nn.Module] = []
            for number in range(depth):
                stride, dilations = step.of_block(number)
                out_channels = width * variant.block.expansion
                shortcut = _shortcut(variant.shortcut, channels, out_channels, stride)
                if index == number == 0 and variant.shortcut == "pad":
                    shortcut = nn.Identity()  # the first unit splits after its activation (section 4.1, end)
                blocks.append(variant.block(channels, width, stride, dilations, shortcut))
                channels = out_channels
            self.stages.append(nn.ModuleDict({"blocks": nn.Sequential(*blocks)}))
            layers = (f"stages.{index}.blocks",) if index else ("stem.pool", "stages.0.blocks")
            self.add_stage(f"stage{index + 1}", Stage(channels, step.reduction), layers)

        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.ModuleDict({"fc": nn.Conv2d(channels, num_classes, 1) if num_classes else nn.Identity()})
        self.flatten = nn.Flatten()
        self.head_layers = ("norm", "relu", "avgpool", "dropout", "head.fc", "flatten")
        self._initialise(zero_init_residual)

    def _initialise(self, zero_init_residual: bool) -> None:
        """He et al. 2015 (arXiv:1502.01852), scaled by the outputs; the classifier starts small, as timm's does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:  # the classifier alone has one
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, PreActBasic):
                    nn.init.zeros_(module.conv2.weight)
                elif isinstance(module, PreActBottleneck):
                    nn.init.zeros_(module.conv3.weight)


def _shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """What stands on the sum's way where its shape changes: a projection or a padding of the activated input."""
    if stride == 1 and in_channels == out_channels:
        return None
    if kind == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)))


def _about(variant: Variant) -> str:
    layers = sum(variant.depths) * (3 if variant.block is PreActBottleneck else 2) + 2
    kind = "bottleneck blocks" if variant.block is PreActBottleneck else "basic blocks"
    return f"{layers} layers, pre-activation, {'for 32x32' if variant.stem == 'cifar' else kind}"


MODELS = {
    name: Entry(
        partial(PreActResNet, variant),
        _about(variant),
        "He et al. 2016 (ECCV)",
        CIFAR if variant.stem == "cifar" else IMAGENET,
    )
    for name, variant in PREACT_RESNETS.items()
}
