"""ResNet: deep networks that learn what to add to their input (He et al., CVPR 2016, arXiv:1512.03385).

A block computes relu(F(x) + x): where F's weights are zero the block is the identity, so depth cannot hurt.
Parameter names and initialisation are torchvision's; like torchvision, the bottleneck strides in its 3x3.
"Plain" twins are the same layers without the shortcut: what the paper compares against.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import Backbone, Stage, checked
from striate.errors import UsageError


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel_size=3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (figure 5 left); with `shortcut` None the plain twin: relu(F(x)).

    `dilations`: of the first 3x3, which a stride would have belonged to, and of every 3x3 after it.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride, dilations[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(width, width, dilation=dilations[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, width, H / stride, W / stride]"""
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return self.relu2(residual if self.downsample is None else residual + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up by four (figure 5 right)."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int], shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(width, width, stride, dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu3 = nn.ReLU()
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 4 width, H / stride, W / stride]"""
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.relu2(self.bn2(self.conv2(residual)))
        residual = self.bn3(self.conv3(residual))
        return self.relu3(residual if self.downsample is None else residual + self.downsample(x))


class PadShortcut(nn.Module):
    """The shortcut without parameters (option A, section 4.1): every `stride`-th pixel, new channels zero.

    The zeros go half before and half after, as in the public CIFAR weights; the paper does not say.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]"""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class Variant(NamedTuple):
    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "imagenet"
    shortcut: str = "project"


CIFAR_WIDTHS = (16, 32, 64)  # section 4.2: three stages of 2n layers on maps of 32, 16 and 8

RESNETS = {
    "resnet18": Variant(BasicBlock, (2, 2, 2, 2)),  # table 1
    "resnet34": Variant(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Variant(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Variant(Bottleneck, (3, 4, 23, 3)),
    "resnet152": Variant(Bottleneck, (3, 8, 36, 3)),
    "plain18": Variant(BasicBlock, (2, 2, 2, 2), shortcut="none"),
    "plain34": Variant(BasicBlock, (3, 4, 6, 3), shortcut="none"),
    "resnet20_cifar": Variant(BasicBlock, (3,) * 3, CIFAR_WIDTHS, "cifar", "pad"),  # 6n + 2 layers, table 6
    "resnet32_cifar": Variant(BasicBlock, (5,) * 3, CIFAR_WIDTHS, "cifar", "pad"),
    "resnet44_cifar": Variant(BasicBlock, (7,) * 3, CIFAR_WIDTHS, "cifar", "pad"),
    "resnet56_cifar": Variant(BasicBlock, (9,) * 3, CIFAR_WIDTHS, "cifar", "pad"),
    "resnet110_cifar": Variant(BasicBlock, (18,) * 3, CIFAR_WIDTHS, "cifar", "pad"),
    "plain20_cifar": Variant(BasicBlock, (3,) * 3, CIFAR_WIDTHS, "cifar", "none"),
    "plain56_cifar": Variant(BasicBlock, (9,) * 3, CIFAR_WIDTHS, "cifar", "none"),
}


class ResNet(Backbone):
    """Stages: stem, layer1, layer2, … The stem is what comes before the max pooling.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        stem: `imagenet`: 7x7 of stride 2 and a max pooling; `cifar`: 3x3 of stride 1, for small pictures.
        zero_init_residual: start every block as the identity (Goyal et al. 2017, section 5.1).

    Raises:
        UsageError: a stem that is not one, an output stride that is no power of 2 or below the stem's reduction.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float = 0.0,
        stem: str | None = None,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__(num_features=variant.widths[-1] * variant.block.expansion)
        stem = variant.stem if stem is None else stem
        checked("stem", stem, ("imagenet", "cifar"))
        checked("zero_init_residual", zero_init_residual, (False, True))
        reduction = self._build_stem(in_chans, variant.widths[0], large=stem == "imagenet")
        if output_stride not in (1, 2, 4, 8, 16, 32) or output_stride < reduction:
            least = [str(value) for value in (1, 2, 4, 8, 16, 32) if value >= reduction]
            raise UsageError(f"output_stride must be one of {', '.join(least)}, not {output_stride!r}")

        channels, dilation = variant.widths[0], 1
        for index, (width, depth) in enumerate(zip(variant.widths, variant.depths, strict=True)):
            stride, previous = (1 if index == 0 else 2), dilation
            if reduction * stride > output_stride:
                stride, dilation = 1, dilation * stride
            blocks: list[nn.Module] = []
            for number in range(depth):
                step = stride if number == 0 else 1
                out_channels = width * variant.block.expansion
                shortcut = _shortcut(variant.shortcut, channels, out_channels, step)
                dilations = (previous if number == 0 else dilation, dilation)
                blocks.append(variant.block(channels, width, step, dilations, shortcut))
                channels = out_channels
            reduction *= stride
            name = f"layer{index + 1}"
            setattr(self, name, nn.Sequential(*blocks))
            with_pool = index == 0 and stem == "imagenet"
            self.add_stage(name, Stage(channels, reduction), ("maxpool", name) if with_pool else (name,))

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("avgpool", "flatten", "dropout", "fc")
        self._initialise(zero_init_residual)

    def _build_stem(self, in_chans: int, width: int, large: bool) -> int:
        """conv1, bn1, relu (and maxpool); returns the reduction that layer1 sees."""
        if large:
            self.conv1 = nn.Conv2d(in_chans, width, kernel_size=7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = conv3x3(in_chans, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.add_stage("stem", Stage(width, 2 if large else 1), ("conv1", "bn1", "relu"))
        if large:
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        return 4 if large else 1

    def _initialise(self, zero_init_residual: bool) -> None:
        """He et al. 2015 (arXiv:1502.01852), scaled by the outputs, as torchvision does; batch norms are born 1, 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    nn.init.zeros_(module.bn2.weight)
                elif isinstance(module, Bottleneck):
                    nn.init.zeros_(module.bn3.weight)


def _shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """What is added to a block's result: x itself where shapes agree, else a projection or a padded x; None: plain."""
    if kind == "none":
        return None
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
