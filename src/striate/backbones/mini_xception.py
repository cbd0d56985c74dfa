"""Mini-Xception: seven emotions from 58,000 numbers (Arriaga, Ploeger & Valdenegro 2017, arXiv:1710.07557, figure 2).

Xception in small (Chollet, CVPR 2017, arXiv:1610.02357): separable convolutions with shortcuts. It has no linear layer:
the last convolution makes one map a class, and the mean of a map is the logit.

Windows lie as Keras lays them in the authors' code (github.com/oarriaga/face_classification), whose weights
`striate.backbones.keras_weights` reads: their pictures are grey faces of 64x64, values from -1 to 1, and their classes
angry, disgust, fear, happy, sad, surprise, neutral.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage, checked

STEM = 8
WIDTHS = (16, 32, 64, 128)  # of the four modules, each of which halves the map

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # Keras: momentum 0.99 of the old


class MaxPoolSame(nn.Module):
    """The greatest of 3x3, two pixels apart, with Keras's "same" padding: none left and above where a side is even.

    With a `stride` of 1 the same windows at every pixel, `dilation` apart inside, so that the pixels that the stride
    would have kept have the same values.
    """

    def __init__(self, stride: int, dilation: int) -> None:
        super().__init__()
        self.stride = stride
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ⌈H / stride⌉, ⌈W / stride⌉]"""
        # a side is even or odd as it would be with all strides: ⌈side / dilation⌉
        top, left = (-(-side // self.dilation) % 2 * self.dilation for side in x.shape[-2:])
        right, bottom = 2 * self.dilation - left, 2 * self.dilation - top
        x = F.pad(x, (left, right, top, bottom), value=-torch.inf)
        return F.max_pool2d(x, 3, self.stride, dilation=self.dilation)


def separable(in_channels: int, out_channels: int, dilation: int) -> nn.Sequential:
    """3x3 on each channel, then 1x1 across channels."""
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
    )
    return nn.Sequential(
        OrderedDict(depthwise=depthwise, pointwise=nn.Conv2d(in_channels, out_channels, 1, bias=False))
    )


class XceptionModule(nn.Module):
    """Two separable convolutions and a max pooling, plus the input through a strided 1x1."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.separable1 = separable(in_channels, out_channels, dilation)
        self.bn1 = batch_norm(out_channels)
        self.relu = nn.ReLU()
        self.separable2 = separable(out_channels, out_channels, dilation)
        self.bn2 = batch_norm(out_channels)
        self.pool = MaxPoolSame(stride, dilation)
        conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        self.shortcut = nn.Sequential(OrderedDict(conv=conv, bn=batch_norm(out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉]"""
        residual = self.relu(self.bn1(self.separable1(x)))
        residual = self.pool(self.bn2(self.separable2(residual)))
        return residual + self.shortcut(x)


class MiniXception(Backbone):
    """Stages: stem, module1, module2, module3, module4.

    Args:
        output_stride: the smallest reduction wanted; 16 is the network's own, below that strides become dilations.

    Raises:
        UsageError: an output stride that is no power of 2.
    """

    last_layer = "class_maps"
    smallest = 5

    def __init__(
        self, num_classes: int = 7, in_chans: int = 1, dropout: float | None = None, output_stride: int = 32
    ) -> None:
        super().__init__(num_features=WIDTHS[-1])
        checked("output_stride", output_stride, (1, 2, 4, 8, 16, 32))
        self.conv1 = nn.Conv2d(in_chans, STEM, kernel_size=3, bias=False)
        self.bn1 = batch_norm(STEM)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(STEM, STEM, kernel_size=3, bias=False)
        self.bn2 = batch_norm(STEM)
        self.relu2 = nn.ReLU()
        self.add_stage("stem", Stage(STEM, 1), ("conv1", "bn1", "relu1", "conv2", "bn2", "relu2"))

        channels, reduction, dilation = STEM, 1, 1
        for number, width in enumerate(WIDTHS, start=1):
            name = f"module{number}"
            stride = 2 if reduction < output_stride else 1
            self.add_module(name, XceptionModule(channels, width, stride, dilation))
            if stride == 1:  # lost at the module's end, so only what follows is dilated further
                dilation *= 2
            reduction *= stride
            self.add_stage(name, Stage(width, reduction), (name,))
            channels = width

        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.class_maps: nn.Module = nn.Identity()
        if num_classes:
            self.class_maps = nn.Conv2d(channels, num_classes, 3, padding=dilation, dilation=dilation)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head_layers = ("dropout", "class_maps", "avgpool", "flatten")
        self._initialise()

    def _initialise(self) -> None:
        """Glorot & Bengio 2010, as Keras does."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


MODELS = {
    "mini_xception": Entry(
        MiniXception, "11 layers, separable, for grey faces", "Arriaga et al. 2017", Canonical(1, (64, 64), 7)
    ),
}
