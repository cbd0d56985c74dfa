"""MobileNet V1: depthwise separable convolutions (Howard et al. 2017, arXiv:1704.04861).

A convolution filters and mixes channels at once. Here a 3x3 filters each channel by itself, then a 1x1 mixes them:
1 / C_out + 1 / 3² of the multiply-adds, so eight to nine times fewer (section 3.1). A width multiplier thins every
layer (section 3.3). Parameter names, ReLU6 and initialisation are timm's (`mobilenetv1_100`).
"""

from __future__ import annotations

from functools import partial
from math import sqrt

from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Entry, Stage
from striate.layers.dilation import dilated_steps

STEM = 32
# channels c, repeats n, stride s of the first: table 1 (its last block is printed as s2, but keeps the 7x7 map)
STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


class DepthwiseSeparable(nn.Module):
    """3x3 on each channel, 1x1 across channels, each with batch norm and ReLU6 (figure 3 right)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size=3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=in_channels,
            bias=False,
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.ReLU6()
        self.conv_pw = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]"""
        filtered = self.act1(self.bn1(self.conv_dw(x)))
        return self.act2(self.bn2(self.conv_pw(filtered)))


class MobileNetV1(Backbone):
    """Stages c1 … c5, as feature pyramids call them: c1 is half as large as the picture, c5 a 32nd.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.

    Raises:
        UsageError: an output stride that is no power of 2 from 2 to 32.
    """

    last_layer = "classifier"

    def __init__(
        self,
        width_multiplier: float,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float | None = None,
    ) -> None:
        super().__init__(num_features=int(STAGES[-1][0] * width_multiplier))
        steps = dilated_steps([stride for *_, stride in STAGES], 2, output_stride)
        channels = int(STEM * width_multiplier)
        self.conv_stem = nn.Conv2d(in_chans, channels, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU6()
        level, names = 1, ["conv_stem", "bn1", "act1"]

        self.blocks = nn.Sequential()
        for index, ((width, repeats, nominal), step) in enumerate(zip(STAGES, steps, strict=True)):
            if nominal > 1:
                level, names = level + 1, []
            stage = nn.Sequential()
            for number in range(repeats):
                stride, dilation = (step.stride, step.dilations[0]) if number == 0 else (1, step.dilations[1])
                out_channels = int(width * width_multiplier)
                stage.append(DepthwiseSeparable(channels, out_channels, stride, dilation))
                channels = out_channels
            self.blocks.append(stage)
            names.append(f"blocks.{index}")
            self.add_stage(f"c{level}", Stage(channels, step.reduction), names)

        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("avgpool", "flatten", "dropout", "classifier")
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015 (arXiv:1502.01852), scaled by the outputs that each input value reaches, as timm does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                reached = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=sqrt(2 / reached))
            elif isinstance(module, nn.Linear):
                bound = 1 / sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)


WIDTH_MULTIPLIERS = {  # table 6
    "mobilenet_v1": 1.0,
    "mobilenet_v1_075": 0.75,
    "mobilenet_v1_050": 0.5,
    "mobilenet_v1_025": 0.25,
}

MODELS = {
    name: Entry(
        partial(MobileNetV1, width),
        "13 depthwise separable blocks" + (f", {width:.0%} as wide" if width < 1 else ""),
        "Howard et al. 2017",
    )
    for name, width in WIDTH_MULTIPLIERS.items()
}
