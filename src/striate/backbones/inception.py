"""Inception v3: large kernels split into small ones (Szegedy et al., CVPR 2016, arXiv:1512.00567).

Two 3x3 convolutions see what a 5x5 sees for 18/25 of the cost, a 1x7 and a 7x1 what a 7x7 sees for 2/7 (section 3).
Maps shrink in blocks that stride and pool side by side, so that neither is a bottleneck (section 5). Names, numbers
and initialisation are torchvision's, whose weights come from TensorFlow. Strided layers and half of the stem are
unpadded: the stages of a 299x299 picture are 147, 71, 35, 17 and 8 wide.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import Canonical, Entry, Stage, checked
from striate.backbones.googlenet import BasicConv2d, InceptionNetwork
from striate.errors import UsageError

SMALLEST_FOR_AUXILIARY = 17  # side of the map that the auxiliary classifier can pool by 5 and convolve by 5


class DilatedAvgPool2d(nn.Module):
    """The mean of 3x3 pixels that lie `dilation` apart, zeros around the map: what nn.AvgPool2d cannot do."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], smoothed"""
        channels = x.shape[1]
        mean = x.new_full((channels, 1, 3, 3), 1 / 9)
        return F.conv2d(x, mean, padding=self.dilation, dilation=self.dilation, groups=channels)


def average_pool(dilation: int) -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1) if dilation == 1 else DilatedAvgPool2d(dilation)


class InceptionA(nn.Module):
    """Figure 5, on 35x35: two 3x3 for a 5x5; where the figure has a single 3x3, the published weights have a 5x5."""

    def __init__(self, in_channels: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(in_channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3)
        self.pool = average_pool(dilation=1)
        self.branch_pool = BasicConv2d(in_channels, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 224 + pool_features, H, W]"""
        one = self.branch1x1(x)
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((one, five, double, self.branch_pool(self.pool(x))), 1)


class InceptionB(nn.Module):
    """Figure 10, 35x35 to 17x17: strided convolutions beside a pooling that keeps all channels."""

    def __init__(self, in_channels: int, stride: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, 384, 3, stride, padding=0)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride, padding=0)
        self.pool = nn.MaxPool2d(3, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 480 + in_channels, (H - 3) / stride + 1, (W - 3) / stride + 1]"""
        three = self.branch3x3(x)
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((three, double, self.pool(x)), 1)


class InceptionC(nn.Module):
    """Figure 6, on 17x17: every 7x7 is a 1x7 and a 7x1."""

    def __init__(self, in_channels: int, width: int, dilation: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_channels, width, 1)
        self.branch7x7_2 = BasicConv2d(width, width, (1, 7), dilation=dilation)
        self.branch7x7_3 = BasicConv2d(width, 192, (7, 1), dilation=dilation)
        self.branch7x7dbl_1 = BasicConv2d(in_channels, width, 1)
        self.branch7x7dbl_2 = BasicConv2d(width, width, (7, 1), dilation=dilation)
        self.branch7x7dbl_3 = BasicConv2d(width, width, (1, 7), dilation=dilation)
        self.branch7x7dbl_4 = BasicConv2d(width, width, (7, 1), dilation=dilation)
        self.branch7x7dbl_5 = BasicConv2d(width, 192, (1, 7), dilation=dilation)
        self.pool = average_pool(dilation)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 768, H, W]"""
        one = self.branch1x1(x)
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((one, seven, double, self.branch_pool(self.pool(x))), 1)


class InceptionD(nn.Module):
    """Figure 10 again, 17x17 to 8x8."""

    def __init__(self, in_channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride, padding=0, dilation=dilation)
        self.branch7x7x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7), dilation=dilation)
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1), dilation=dilation)
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride, padding=0, dilation=dilation)
        self.pool = nn.MaxPool2d(3, stride, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 512 + in_channels, (H - 3) / stride + 1, (W - 3) / stride + 1]"""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((three, seven, self.pool(x)), 1)


class InceptionE(nn.Module):
    """Figure 7, on 8x8: 1x3 and 3x1 side by side, for many channels where maps are small."""

    def __init__(self, in_channels: int, dilation: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), dilation=dilation)
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), dilation=dilation)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, dilation=dilation)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), dilation=dilation)
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), dilation=dilation)
        self.pool = average_pool(dilation)
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 2048, H, W]"""
        one = self.branch1x1(x)
        three = self.branch3x3_1(x)
        threes = (self.branch3x3_2a(three), self.branch3x3_2b(three))
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        doubles = (self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double))
        return torch.cat((one, *threes, *doubles, self.branch_pool(self.pool(x))), 1)


class InceptionAux(nn.Module):
    """The classifier beside the network, here with batch norm, as a regulariser (section 4)."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.conv0 = BasicConv2d(in_channels, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5, padding=0)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W], H and W 17 or more -> [B, num_classes]"""
        if min(x.shape[-2:]) < SMALLEST_FOR_AUXILIARY:
            raise UsageError(
                "Inception v3's auxiliary classifier trains on pictures of 299x299 or more (maps of 17x17; these are "
                f"{x.shape[-2]}x{x.shape[-1]}): give larger pictures, or build the network with aux_logits=False"
            )
        x = self.conv1(self.conv0(self.pool(x)))  # [B, 768, 1, 1] of 17x17
        return self.fc(self.flatten(self.avgpool(x)))


class InceptionV3(InceptionNetwork):
    """Stages: Conv2d_2b_3x3, Conv2d_4a_3x3, Mixed_5d, Mixed_6e, Mixed_7c.

    A stage's reduction is the product of the strides before it. Maps are a little smaller than the picture divided by
    it, because unpadded layers lose their borders. With an `output_stride` below 32 those layers stay unpadded: the
    finer map holds the coarse one exactly, as its pixels 0, 2, 4, …, and ends where it ends.

    Args:
        dropout: before the classifier; 0.5 when not given.
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        aux_logits: an auxiliary classifier; while it trains, pictures need 299x299 and the forward gives a
            `WithAuxiliary`, whose weight 0.4 is that of the authors' code (the paper gives none).
        transform_input: as GoogLeNet's.

    Raises:
        UsageError: a value that an argument cannot have.
    """

    auxiliary = ("AuxLogits",)
    taps: ClassVar = {"Mixed_6e": "AuxLogits"}
    auxiliary_weight = 0.4
    smallest = 75

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
        aux_logits: bool = True,
        transform_input: bool = False,
    ) -> None:
        super().__init__(2048, in_chans, aux_logits, transform_input)
        checked("output_stride", output_stride, (8, 16, 32))
        stride_6, stride_7 = (2 if output_stride >= 16 else 1), (2 if output_stride >= 32 else 1)
        dilation_6 = 2 // stride_6  # a stride that is left out doubles the dilation of what follows
        dilation_7 = dilation_6 * 2 // stride_7

        self.Conv2d_1a_3x3 = BasicConv2d(in_chans, 32, 3, stride=2, padding=0)  # 299 -> 149
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3, padding=0)  # 147
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3)
        stem = ("renormalize", "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
        self.add_stage("Conv2d_2b_3x3", Stage(64, 2), stem)
        self.maxpool1 = nn.MaxPool2d(3, stride=2)  # 73
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3, padding=0)  # 71
        self.add_stage("Conv2d_4a_3x3", Stage(192, 4), ("maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"))
        self.maxpool2 = nn.MaxPool2d(3, stride=2)  # 35
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.add_stage("Mixed_5d", Stage(288, 8), ("maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d"))
        self.Mixed_6a = InceptionB(288, stride_6)  # 17
        self.Mixed_6b = InceptionC(768, 128, dilation_6)
        self.Mixed_6c = InceptionC(768, 160, dilation_6)
        self.Mixed_6d = InceptionC(768, 160, dilation_6)
        self.Mixed_6e = InceptionC(768, 192, dilation_6)
        mixed_6 = ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")
        self.add_stage("Mixed_6e", Stage(768, 8 * stride_6), mixed_6)
        if aux_logits and num_classes:
            self.AuxLogits = InceptionAux(768, num_classes)
        self.Mixed_7a = InceptionD(768, stride_7, dilation_6)  # 8
        self.Mixed_7b = InceptionE(1280, dilation_7)
        self.Mixed_7c = InceptionE(2048, dilation_7)
        self.add_stage("Mixed_7c", Stage(2048, 8 * stride_6 * stride_7), ("Mixed_7a", "Mixed_7b", "Mixed_7c"))

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.5 if dropout is None else dropout)
        self.fc = nn.Linear(2048, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("avgpool", "flatten", "dropout", "fc")
        self.initialise(deviation=0.1, others={"AuxLogits.fc": 0.001})


MODELS = {
    "inception_v3": Entry(
        InceptionV3,
        "48 layers, factorised convolutions",
        "Szegedy et al. 2016",
        Canonical(3, (299, 299), 1000),
    ),
}
