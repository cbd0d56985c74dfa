"""Darknet: the bodies of YOLOv3 (Redmon & Farhadi 2018, arXiv:1804.02767, table 1) and of its tiny version.

Darknet-53: a 3x3 convolution halves the map, then residual blocks of 1x1 and 3x3; no pooling. Names are timm's. The
tiny body is a plain row of 3x3 convolutions and poolings (yolov3-tiny.cfg, github.com/pjreddie/darknet).
"""

from __future__ import annotations

from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage
from striate.layers.dilation import dilated_steps

STEM = 32
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # channels, residual blocks: table 1
TINY = (16, 32, 64, 128, 256, 512, 1024)  # channels; a pooling after each but the last
SLOPE = 0.1  # of darknet's leaky rectifiers


class ConvNormLeaky(nn.Module):
    """Convolution without bias, batch norm, leaky rectifier: [B, in, H, W] -> [B, out, ⌈H / stride⌉, ⌈W / stride⌉]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, dilation: int = 1, slope: float
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.LeakyReLU(slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class DarkBlock(nn.Module):
    """1x1 down to half the channels, 3x3 up again, and the input added: [B, channels, H, W]."""

    def __init__(self, channels: int, dilation: int, slope: float) -> None:
        super().__init__()
        self.conv1 = ConvNormLeaky(channels, channels // 2, 1, slope=slope)
        self.conv2 = ConvNormLeaky(channels // 2, channels, 3, dilation=dilation, slope=slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + x


class Darknet53(Backbone):
    """Stages: stem, as large as the picture, and stage1 … stage5, the last a 32nd.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        slope: of the leaky rectifiers for negative values; timm's weights want 0.01, darknet's 0.1.

    Raises:
        UsageError: an output stride that is no power of 2 from 1 to 32.
    """

    last_layer = "head.fc"

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float | None = None,
        slope: float = 0.01,
    ) -> None:
        super().__init__(num_features=STAGES[-1][0])
        self.stem = nn.Sequential()
        self.stem.add_module("conv1", ConvNormLeaky(in_chans, STEM, 3, slope=slope))
        self.add_stage("stem", Stage(STEM, 1), ["stem"])
        channels, steps = STEM, dilated_steps([2] * len(STAGES), 1, output_stride)
        self.stages = nn.Sequential()
        for index, ((width, depth), step) in enumerate(zip(STAGES, steps, strict=True)):
            stage = nn.Sequential()
            down = ConvNormLeaky(channels, width, 3, step.stride, dilation=step.dilations[0], slope=slope)
            stage.add_module("conv_down", down)
            stage.add_module(
                "blocks", nn.Sequential(*(DarkBlock(width, step.dilations[1], slope) for _ in range(depth)))
            )
            self.stages.append(stage)
            self.add_stage(f"stage{index + 1}", Stage(width, step.reduction), [f"stages.{index}"])
            channels = width
        self.head = _classifier(channels, num_classes, dropout)
        self.head_layers = ("head",)
        _initialise(self)


class DarknetTiny(Backbone):
    """Stages conv1 … conv5, the map before each pooling, and conv7, a 32nd of the picture.

    The sixth pooling has stride 1 and looks to the right and down; poolings that do not fit are rounded up.

    Args:
        slope: of the leaky rectifiers for negative values.
    """

    last_layer = "head.fc"

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, dropout: float | None = None, slope: float = SLOPE
    ) -> None:
        super().__init__(num_features=TINY[-1])
        self.features = nn.Sequential()
        channels, names = in_chans, []
        for number, width in enumerate(TINY, start=1):
            names.append(f"features.{len(self.features)}")
            self.features.append(ConvNormLeaky(channels, width, 3, slope=slope))
            if number != 6:  # the seventh follows at the same size
                self.add_stage(f"conv{number}", Stage(width, min(2 ** (number - 1), 32)), names)
                names = []
            if number < 6:
                names.append(f"features.{len(self.features)}")
                self.features.append(nn.MaxPool2d(2, ceil_mode=True))
            elif number == 6:
                names.append(f"features.{len(self.features)}")
                border = nn.ReplicationPad2d((0, 1, 0, 1))  # a copy changes no maximum: as padding by -∞
                self.features.append(nn.Sequential(border, nn.MaxPool2d(2, stride=1)))
            channels = width
        self.head = _classifier(channels, num_classes, dropout)
        self.head_layers = ("head",)
        _initialise(self)


def _classifier(channels: int, num_classes: int, dropout: float | None) -> nn.Sequential:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout) if dropout else nn.Identity())
    head.add_module("fc", nn.Linear(channels, num_classes) if num_classes else nn.Identity())
    return head


def _initialise(network: nn.Module) -> None:
    """As timm: He et al. 2015 (arXiv:1502.01852) by the outputs of a layer; blocks begin as identities."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, DarkBlock):
            nn.init.zeros_(module.conv2.bn.weight)


SOURCE = "Redmon & Farhadi 2018"
MODELS = {
    "darknet53": Entry(Darknet53, "YOLOv3's body: 53 layers, residual", SOURCE, Canonical(3, (256, 256), 1000)),
    "darknet_tiny": Entry(DarknetTiny, "YOLOv3-tiny's body: 7 convolutions", SOURCE, Canonical(3, (416, 416), 1000)),
}
