"""GoogLeNet: blocks that look at several scales at once (Szegedy et al., CVPR 2015, arXiv:1409.4842).

An inception block runs 1x1, 3x3 and 5x5 convolutions and a pooling side by side and stacks what they find. Run on all
channels that is dear (figure 2a, "naive"); 1x1 convolutions that first reduce the channels make it cheap (figure 2b).
Parameter names and initialisation are torchvision's, whose weights come from TensorFlow: every convolution is followed
by batch norm, which the paper did not have yet, and the "5x5" is a 3x3, a slip that the weights keep
(github.com/pytorch/vision/issues/906); `large_kernel=5` builds it as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Entry, Stage, WithAuxiliary, checked
from striate.errors import UsageError
from striate.layers.blocks import same_padding


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU; `padding` None keeps the map's size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        rows, columns = (same_padding(side, dilation) if padding is None else padding for side in sides)
        self.conv = nn.Conv2d(in_channels, out_channels, sides, stride, (rows, columns), dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']"""
        return self.relu(self.bn(self.conv(x)))


class Renormalize(nn.Module):
    """From ImageNet's mean and deviation, which pictures here have, to 0.5 and 0.5, which TensorFlow trained with."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, deviation = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        self.register_buffer("scale", (deviation / 0.5)[:, None, None], persistent=False)
        self.register_buffer("shift", ((mean - 0.5) / 0.5)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W], the same pictures"""
        return images * self.scale + self.shift


class InceptionNetwork(Backbone):
    """What GoogLeNet and Inception v3 share: auxiliary classifiers that train the layers half-way down.

    Attributes:
        taps: name of a layer -> name of the auxiliary classifier that reads its output.
        auxiliary_weight: what each auxiliary loss counts, the classifier's own being 1.

    Raises:
        UsageError: `transform_input` where pictures have not three channels.
    """

    taps: ClassVar[Mapping[str, str]] = {}
    auxiliary_weight: ClassVar[float]

    def __init__(self, num_features: int, in_chans: int, aux_logits: bool, transform_input: bool) -> None:
        super().__init__(num_features)
        checked("aux_logits", aux_logits, (False, True))
        checked("transform_input", transform_input, (False, True))
        if transform_input and in_chans != 3:
            raise UsageError(f"transform_input is for pictures of 3 channels, not {in_chans}")
        self.renormalize = Renormalize() if transform_input else nn.Identity()

    def forward(self, images: Tensor) -> Tensor | WithAuxiliary:  # type: ignore[override]
        """Logits [B, num_classes]; while it trains with auxiliary classifiers, theirs too, from the first on."""
        if not self.training or not all(hasattr(self, name) for name in self.taps.values()):
            return super().forward(images)
        self.check_size(images)
        auxiliary: list[Tensor] = []
        values = images
        for name in chain(*self.stage_layers.values(), self.head_layers):
            values = self.get_submodule(name)(values)
            if name in self.taps:
                auxiliary.append(self.get_submodule(self.taps[name])(values))
        return WithAuxiliary(values, tuple(auxiliary), self.auxiliary_weight)

    def initialise(self, deviation: float, others: Mapping[str, float] | None = None) -> None:
        """Weights from a normal distribution, as torchvision and TensorFlow draw them; `others`: layers by name."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=(others or {}).get(name, deviation))


class Widths(NamedTuple):
    """One row of table 1: how many filters each convolution of a block has."""

    one: int
    reduce_three: int
    three: int
    reduce_five: int
    five: int
    pool_projection: int


TABLE_1 = {
    "inception3a": Widths(64, 96, 128, 16, 32, 32),
    "inception3b": Widths(128, 128, 192, 32, 96, 64),
    "inception4a": Widths(192, 96, 208, 16, 48, 64),
    "inception4b": Widths(160, 112, 224, 24, 64, 64),
    "inception4c": Widths(128, 128, 256, 24, 64, 64),
    "inception4d": Widths(112, 144, 288, 32, 64, 64),
    "inception4e": Widths(256, 160, 320, 32, 128, 128),
    "inception5a": Widths(256, 160, 320, 32, 128, 128),
    "inception5b": Widths(384, 192, 384, 48, 128, 128),
}


def max_pool_everywhere(window: int, dilation: int) -> nn.Module:
    """A max pooling of stride 1 that keeps the map's size; a window of 2 looks right and down."""
    if window == 3 and dilation == 1:
        return nn.MaxPool2d(3, stride=1, padding=1)
    before = dilation if window == 3 else 0
    # its own padding may not exceed half a window, however dilated
    pad = nn.ConstantPad2d((before, dilation, before, dilation), float("-inf"))
    return nn.Sequential(pad, nn.MaxPool2d(window, stride=1, dilation=dilation))


class Inception(nn.Module):
    """Figure 2b: 1x1 convolutions reduce the channels before the larger ones and after the pooling."""

    def __init__(self, in_channels: int, widths: Widths, large_kernel: int, dilation: int) -> None:
        super().__init__()
        self.out_channels = widths.one + widths.three + widths.five + widths.pool_projection
        self.branch1 = BasicConv2d(in_channels, widths.one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, widths.reduce_three, 1),
            BasicConv2d(widths.reduce_three, widths.three, 3, dilation=dilation),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, widths.reduce_five, 1),
            BasicConv2d(widths.reduce_five, widths.five, large_kernel, dilation=dilation),
        )
        self.branch4 = nn.Sequential(
            max_pool_everywhere(3, dilation),
            BasicConv2d(in_channels, widths.pool_projection, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]"""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class NaiveInception(nn.Module):
    """Figure 2a: large convolutions on all channels, and the pooling unprojected, so that channels only grow.

    The paper gives no widths; with the filters of table 1 the whole network has 15 times GoogLeNet's parameters.
    """

    def __init__(self, in_channels: int, widths: Widths, large_kernel: int, dilation: int) -> None:
        super().__init__()
        self.out_channels = widths.one + widths.three + widths.five + in_channels
        self.branch1 = BasicConv2d(in_channels, widths.one, 1)
        self.branch2 = BasicConv2d(in_channels, widths.three, 3, dilation=dilation)
        self.branch3 = BasicConv2d(in_channels, widths.five, large_kernel, dilation=dilation)
        self.branch4 = max_pool_everywhere(3, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]"""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class InceptionAux(nn.Module):
    """The classifier beside the network (section 5); its 4x4 pooling takes maps of any size."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(4)  # on 14x14 the paper's 5x5 of stride 3, nearly
        self.conv = BasicConv2d(in_channels, 128, 1)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, num_classes]"""
        x = self.flatten(self.conv(self.avgpool(x)))  # [B, 2048]
        return self.fc2(self.dropout(self.relu(self.fc1(x))))


class Variant(NamedTuple):
    about: str
    block: type[Inception] | type[NaiveInception]
    num_features: int
    large_kernel: int


GOOGLENETS = {
    "googlenet": Variant("22 layers, inception blocks", Inception, 1024, large_kernel=3),
    "googlenet_naive": Variant("13 layers, no 1x1 reductions", NaiveInception, 4944, large_kernel=5),
}

# a max pooling, the side of its window, and the blocks of table 1 that follow it
LEVELS = (
    ("maxpool2", 3, ("inception3a", "inception3b")),
    ("maxpool3", 3, ("inception4a", "inception4b", "inception4c", "inception4d", "inception4e")),
    ("maxpool4", 2, ("inception5a", "inception5b")),
)


class GoogLeNet(InceptionNetwork):
    """Stages: conv1, conv3, inception3b, inception4e, inception5b.

    Args:
        dropout: before the classifier; 0.2 when not given, as torchvision has it (the paper: 0.4).
        output_stride: the smallest reduction wanted; later poolings keep the size, later blocks are dilated. The
            finer maps hold the coarse ones exactly: at pixels 0, 2, 4, … with 16, at 1, 5, 9, … with 8.
        aux_logits: two auxiliary classifiers; while it trains the forward gives a `WithAuxiliary` (section 5: 0.3).
        transform_input: rescale from ImageNet's mean and deviation to TensorFlow's, 0.5. Torchvision's weights need
            it, unless pictures are normalised with 0.5 and 0.5 in the first place.
        large_kernel: side of the third branch's kernel: 5, as in the paper, or 3, as in torchvision's weights.

    Raises:
        UsageError: a value that an argument cannot have.
    """

    auxiliary = ("aux1", "aux2")
    taps: ClassVar = {"inception4a": "aux1", "inception4d": "aux2"}
    auxiliary_weight = 0.3
    smallest = 15

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
        aux_logits: bool = False,
        transform_input: bool = False,
        large_kernel: int | None = None,
    ) -> None:
        super().__init__(variant.num_features, in_chans, aux_logits, transform_input)
        checked("output_stride", output_stride, (8, 16, 32))
        large_kernel = variant.large_kernel if large_kernel is None else large_kernel
        checked("large_kernel", large_kernel, (3, 5))

        self.conv1 = BasicConv2d(in_chans, 64, 7, stride=2)
        self.add_stage("conv1", Stage(64, 2), ("renormalize", "conv1"))
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3)
        self.add_stage("conv3", Stage(192, 4), ("maxpool1", "conv2", "conv3"))

        channels, reduction, dilation = 192, 4, 1
        tapped: dict[str, int] = {}
        for pool, window, names in LEVELS:
            if reduction < output_stride:
                setattr(self, pool, nn.MaxPool2d(window, stride=2, ceil_mode=True))
                reduction *= 2
            else:
                setattr(self, pool, max_pool_everywhere(window, dilation))
                dilation *= 2
            for name in names:
                block = variant.block(channels, TABLE_1[name], large_kernel, dilation)
                setattr(self, name, block)
                tapped[name] = channels = block.out_channels
            self.add_stage(names[-1], Stage(channels, reduction), (pool, *names))

        if aux_logits and num_classes:
            for name, classifier in self.taps.items():
                setattr(self, classifier, InceptionAux(tapped[name], num_classes))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.2 if dropout is None else dropout)
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("avgpool", "flatten", "dropout", "fc")
        self.initialise(deviation=0.01)


MODELS = {
    name: Entry(partial(GoogLeNet, variant), variant.about, "Szegedy et al. 2015")
    for name, variant in GOOGLENETS.items()
}
