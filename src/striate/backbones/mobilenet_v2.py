"""MobileNet V2: inverted residuals with linear bottlenecks (Sandler et al., CVPR 2018, arXiv:1801.04381).

What blocks hand on is thin, and shortcuts join the thin ends; only inside a block are there many channels, and there
each is filtered by itself. The thin ends have no activation: a ReLU would destroy what few channels hold (section 3.2).
Parameter names and initialisation are torchvision's.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Entry, Stage
from striate.layers.blocks import ConvNormAct, make_divisible
from striate.layers.dilation import dilated_steps
from striate.layers.mbconv import initialise

STEM, LAST = 32, 1280
# expansion t, channels c, repeats n, stride s: table 2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 up by `expansion`, 3x3 depthwise, 1x1 down without activation (table 1); plus x if `shortcut`."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, stride: int, dilation: int, shortcut: bool
    ) -> None:
        super().__init__()
        expanded = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormAct(in_channels, expanded, kernel_size=1, activation=nn.ReLU6))
        layers += [
            ConvNormAct(expanded, expanded, 3, stride, dilation=dilation, groups=expanded, activation=nn.ReLU6),
            nn.Conv2d(expanded, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]"""
        residual = self.conv(x)
        return x + residual if self.shortcut else residual


class MobileNetV2(Backbone):
    """Stages c1 … c5, as feature pyramids call them: c1 is half as large as the picture, c5 a 32nd, still thin.

    Args:
        width_mult: channels are scaled by it and rounded to multiples of 8; the last layer stays at 1280 below 1.
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.

    Raises:
        UsageError: an output stride that is no power of 2 from 2 to 32.
    """

    last_layer = "classifier.1"

    def __init__(
        self,
        width_mult: float,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float | None = None,
    ) -> None:
        last = make_divisible(LAST * max(1.0, width_mult))
        super().__init__(num_features=last)
        steps = dilated_steps([stride for *_, stride in STAGES], 2, output_stride)
        channels = make_divisible(STEM * width_mult)
        layers: list[nn.Module] = [ConvNormAct(in_chans, channels, stride=2, activation=nn.ReLU6)]
        level, names = 1, ["features.0"]
        for (expansion, width, repeats, nominal), step in zip(STAGES, steps, strict=True):
            if nominal > 1:
                level, names = level + 1, []
            out_channels = make_divisible(width * width_mult)
            for number in range(repeats):
                stride, dilation = (step.stride, step.dilations[0]) if number == 0 else (1, step.dilations[1])
                # the table's stride decides, also where it has become a dilation
                shortcut = channels == out_channels and (number > 0 or nominal == 1)
                names.append(f"features.{len(layers)}")
                layers.append(InvertedResidual(channels, out_channels, expansion, stride, dilation, shortcut))
                channels = out_channels
            self.add_stage(f"c{level}", Stage(channels, step.reduction), names)
        widen = f"features.{len(layers)}"
        layers.append(ConvNormAct(channels, last, kernel_size=1, activation=nn.ReLU6))

        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(0.2 if dropout is None else dropout),
            nn.Linear(last, num_classes) if num_classes else nn.Identity(),
        )
        self.head_layers = (widen, "avgpool", "flatten", "classifier.0", "classifier.1")
        initialise(self, linear=lambda layer: nn.init.normal_(layer.weight, std=0.01))


WIDTH_MULTIPLIERS = {
    "mobilenet_v2": 1.0,
    "mobilenet_v2_075": 0.75,
    "mobilenet_v2_050": 0.5,
    "mobilenet_v2_140": 1.4,
}

MODELS = {
    name: Entry(
        partial(MobileNetV2, width),
        "17 inverted residuals" + (f", {width:.0%} as wide" if width != 1 else ""),
        "Sandler et al. 2018",
    )
    for name, width in WIDTH_MULTIPLIERS.items()
}
