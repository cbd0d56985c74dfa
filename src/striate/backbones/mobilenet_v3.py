"""MobileNet V3: found by a search, finished by hand (Howard et al., ICCV 2019, arXiv:1905.02244).

MobileNetV2's inverted residuals with squeeze-and-excitation, and two things that cost phones less: h-swish,
x · relu6(x + 3) / 6, in the deeper half (section 5.2), and a last stage that pools before it widens (section 5.1).
Parameter names, initialisation and batch norm's eps and momentum are torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import nn

from striate.backbones.backbone import Backbone, Entry, Stage, checked
from striate.layers.blocks import Activation, ConvNormAct, SqueezeExcitation, make_divisible
from striate.layers.dilation import dilated_steps
from striate.layers.mbconv import MBConv, initialise

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # as TensorFlow trained them
STEM = 16


class Row(NamedTuple):
    """One block: kernel, expansion size, channels out, SE, NL and s of the paper's tables."""

    kernel_size: int
    expanded: int
    channels: int
    squeeze: bool
    activation: Activation
    stride: int


class Variant(NamedTuple):
    rows: tuple[Row, ...]
    hidden: int  # the layer between pooling and classifier


RE, HS = nn.ReLU, nn.Hardswish

MOBILENETS = {
    "mobilenet_v3_large": Variant(  # table 1
        (
            Row(3, 16, 16, False, RE, 1),
            Row(3, 64, 24, False, RE, 2),
            Row(3, 72, 24, False, RE, 1),
            Row(5, 72, 40, True, RE, 2),
            Row(5, 120, 40, True, RE, 1),
            Row(5, 120, 40, True, RE, 1),
            Row(3, 240, 80, False, HS, 2),
            Row(3, 200, 80, False, HS, 1),
            Row(3, 184, 80, False, HS, 1),
            Row(3, 184, 80, False, HS, 1),
            Row(3, 480, 112, True, HS, 1),
            Row(3, 672, 112, True, HS, 1),
            Row(5, 672, 160, True, HS, 2),
            Row(5, 960, 160, True, HS, 1),
            Row(5, 960, 160, True, HS, 1),
        ),
        hidden=1280,
    ),
    "mobilenet_v3_small": Variant(  # table 2
        (
            Row(3, 16, 16, True, RE, 2),
            Row(3, 72, 24, False, RE, 2),
            Row(3, 88, 24, False, RE, 1),
            Row(5, 96, 40, True, HS, 2),
            Row(5, 240, 40, True, HS, 1),
            Row(5, 240, 40, True, HS, 1),
            Row(5, 120, 48, True, HS, 1),
            Row(5, 144, 48, True, HS, 1),
            Row(5, 288, 96, True, HS, 2),
            Row(5, 576, 96, True, HS, 1),
            Row(5, 576, 96, True, HS, 1),
        ),
        hidden=1024,
    ),
}


class MobileNetV3(Backbone):
    """Stages c1 … c5, as feature pyramids call them: c1 is half as large as the picture, c5 a 32nd.

    c5 ends with the 1x1 that widens six times, which the paper's and torchvision's segmenters read.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        dilate_first: dilate the layer that loses its stride too, not only those after it. Not what the weights were
            trained to see, but torchvision's segmenters were trained on top of it (`dilated=True`).

    Raises:
        UsageError: an output stride that is no power of 2 from 2 to 32.
    """

    last_layer = "classifier.3"

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float | None = None,
        dilate_first: bool = False,
    ) -> None:
        super().__init__(num_features=variant.hidden)
        checked("dilate_first", dilate_first, (False, True))
        steps = dilated_steps([row.stride for row in variant.rows], 2, output_stride)
        channels = STEM
        layers: list[nn.Module] = [ConvNormAct(in_chans, channels, stride=2, norm=batch_norm, activation=HS)]
        self.add_stage("c1", Stage(channels, 2), ["features.0"])
        level, names = 1, ["features.0"]
        for row, step in zip(variant.rows, steps, strict=True):
            if row.stride > 1:
                level, names = level + 1, []
            names.append(f"features.{len(layers)}")
            layers.append(
                MBConv(
                    channels,
                    row.expanded,
                    row.channels,
                    row.kernel_size,
                    stride=step.stride,
                    dilation=step.dilations[1 if dilate_first else 0],
                    shortcut=row.stride == 1 and channels == row.channels,
                    squeeze=_squeeze(row.expanded) if row.squeeze else None,
                    norm=batch_norm,
                    activation=row.activation,
                )
            )
            channels = row.channels
            self.add_stage(f"c{level}", Stage(channels, step.reduction), names)
        names.append(f"features.{len(layers)}")
        layers.append(ConvNormAct(channels, 6 * channels, kernel_size=1, norm=batch_norm, activation=HS))
        self.add_stage(f"c{level}", Stage(6 * channels, steps[-1].reduction), names)

        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, variant.hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(0.2 if dropout is None else dropout),
            nn.Linear(variant.hidden, num_classes) if num_classes else nn.Identity(),
        )
        self.head_layers = ("avgpool", "flatten", *(f"classifier.{index}" for index in range(4)))
        initialise(self, linear=lambda layer: nn.init.normal_(layer.weight, std=0.01))


def _squeeze(channels: int) -> SqueezeExcitation:
    """Down to a quarter of the expansion (section 5.3); the gate is a hard sigmoid (section 5.2)."""
    return SqueezeExcitation(channels, make_divisible(channels // 4), scale_activation=nn.Hardsigmoid)


MODELS = {
    name: Entry(
        partial(MobileNetV3, variant),
        f"{len(variant.rows)} blocks, squeeze-and-excitation, h-swish",
        "Howard et al. 2019",
    )
    for name, variant in MOBILENETS.items()
}
