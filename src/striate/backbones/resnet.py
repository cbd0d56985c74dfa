"""ResNet: deep networks that learn what to add to their input (He et al., CVPR 2016, arXiv:1512.03385).

A block computes relu(F(x) + x): where F's weights are zero the block is the identity, so depth cannot hurt.
Parameter names and initialisation are torchvision's; like torchvision, the bottleneck strides in its 3x3.
"Plain" twins are the same layers without the shortcut: what the paper compares against.

ResNeXt splits the bottleneck's 3x3 into groups, many thin paths side by side (Xie et al., CVPR 2017, arXiv:1611.05431);
Wide ResNet makes the 3x3 wider instead of the network deeper (Zagoruyko & Komodakis, BMVC 2016, arXiv:1605.07146).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import CIFAR, IMAGENET, Backbone, Entry, Stage, checked
from striate.layers.dilation import dilated_steps


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False
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
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, dilation=dilations[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, width, H / stride, W / stride]"""
        residual = self.relu1(self.bn1(self.conv1(x)))
        residual = self.bn2(self.conv2(residual))
        return self.relu2(residual if self.downsample is None else residual + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up to four times `width` (figure 5 right; in groups: figure 3c of ResNeXt).

    `width_per_group`: channels of each group of the 3x3 where `width` is 64; they grow with `width`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dilations: tuple[int, int],
        shortcut: nn.Module | None,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        inner = width * width_per_group // 64 * groups
        self.conv1 = nn.Conv2d(in_channels, inner, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(inner, inner, stride, dilations[0], groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(inner, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu3 = nn.ReLU(inplace=True)
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
    groups: int = 1
    width_per_group: int = 64
    source: str = "He et al. 2016"


CIFAR_WIDTHS = (16, 32, 64)  # section 4.2: three stages of 2n layers on maps of 32, 16 and 8
XIE, ZAGORUYKO = "Xie et al. 2017", "Zagoruyko & Komodakis 2016"

RESNETS = {
    "resnet18": Variant(BasicBlock, (2, 2, 2, 2)),  # table 1
    "resnet34": Variant(BasicBlock, (3, 4, 6, 3)),
    "resnet50": Variant(Bottleneck, (3, 4, 6, 3)),
    "resnet101": Variant(Bottleneck, (3, 4, 23, 3)),
    "resnet152": Variant(Bottleneck, (3, 8, 36, 3)),
    "resnext50_32x4d": Variant(Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4, source=XIE),  # Xie: table 1
    "resnext101_32x8d": Variant(Bottleneck, (3, 4, 23, 3), groups=32, width_per_group=8, source=XIE),
    "resnext101_64x4d": Variant(Bottleneck, (3, 4, 23, 3), groups=64, width_per_group=4, source=XIE),  # Xie: table 4
    "wide_resnet50_2": Variant(Bottleneck, (3, 4, 6, 3), width_per_group=128, source=ZAGORUYKO),
    "wide_resnet101_2": Variant(Bottleneck, (3, 4, 23, 3), width_per_group=128, source=ZAGORUYKO),
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
        dropout: float | None = None,
        stem: str | None = None,
        zero_init_residual: bool = False,
    ) -> None:
        super().__init__(num_features=variant.widths[-1] * variant.block.expansion)
        stem = variant.stem if stem is None else stem
        checked("stem", stem, ("imagenet", "cifar"))
        checked("zero_init_residual", zero_init_residual, (False, True))
        reduction = self._build_stem(in_chans, variant.widths[0], large=stem == "imagenet")
        own = (
            {}
            if variant.block is BasicBlock
            else {"groups": variant.groups, "width_per_group": variant.width_per_group}
        )

        channels = variant.widths[0]
        steps = dilated_steps((1, *[2] * (len(variant.depths) - 1)), reduction, output_stride)
        for index, (width, depth, step) in enumerate(zip(variant.widths, variant.depths, steps, strict=True)):
            blocks: list[nn.Module] = []
            for number in range(depth):
                stride, dilations = step.of_block(number)
                out_channels = width * variant.block.expansion
                shortcut = _shortcut(variant.shortcut, channels, out_channels, stride)
                blocks.append(variant.block(channels, width, stride, dilations, shortcut, **own))
                channels = out_channels
            name = f"layer{index + 1}"
            setattr(self, name, nn.Sequential(*blocks))
            with_pool = index == 0 and stem == "imagenet"
            self.add_stage(name, Stage(channels, step.reduction), ("maxpool", name) if with_pool else (name,))

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
        self.relu = nn.ReLU(inplace=True)
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


def _about(variant: Variant) -> str:
    layers = sum(variant.depths) * (3 if variant.block is Bottleneck else 2) + 2
    if variant.stem == "cifar":
        kind = "for 32x32"
    elif variant.groups > 1:
        kind = f"3x3 in {variant.groups} groups of width {variant.width_per_group}"
    elif variant.width_per_group > 64:
        kind = f"bottlenecks {variant.width_per_group // 64} times as wide"
    else:
        kind = "bottleneck blocks" if variant.block is Bottleneck else "basic blocks"
    shortcuts = {"none": ", no shortcuts", "pad": ", padded shortcuts"}.get(variant.shortcut, "")
    return f"{layers} layers, {kind}{shortcuts}"


MODELS = {
    name: Entry(
        partial(ResNet, variant), _about(variant), variant.source, CIFAR if variant.stem == "cifar" else IMAGENET
    )
    for name, variant in RESNETS.items()
}
