"""SqueezeNet: as good as AlexNet with a fiftieth of its weights (Iandola et al. 2016, arXiv:1602.07360).

A fire module squeezes its input through few 1x1 convolutions before it expands it by 1x1 and 3x3 ones; pooling comes
late, so that maps stay large; the classifier is a 1x1 convolution and an average. Names and weights are torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from striate.backbones.backbone import Backbone, Entry, Stage
from striate.layers.dilation import dilated_steps, max_pool

# channels of fire2 … fire9: squeezed, and expanded by 1x1 as by 3x3 (table 1)
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


class Variant(NamedTuple):
    """Channels and kernel of conv1; numbers of the fire modules that a pooling comes before."""

    stem_width: int
    stem_kernel: int
    pooled: tuple[int, int, int]


SQUEEZENETS = {
    "squeezenet1_0": Variant(96, 7, pooled=(2, 5, 9)),  # table 1
    "squeezenet1_1": Variant(64, 3, pooled=(2, 4, 6)),  # the authors' repository: pools earlier, 2.4 times less work
}


class Fire(nn.Module):
    """Figure 1: 1x1 down to `squeezed`, then 1x1 and 3x3 side by side, each up to `expanded`."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int, dilation: int = 1) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, kernel_size=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, kernel_size=1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, kernel_size=3, padding=dilation, dilation=dilation)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, 2 expanded, H, W]"""
        squeezed = self.relu1(self.squeeze(x))
        return self.relu2(torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), dim=1))


class SqueezeNet(Backbone):
    """Stages: conv1 and the last fire module of each size, by the paper's names; the deepest reduction is 16.

    conv1 does not pad: of 227 pixels the maps are 111, 55, 27 and 13 wide.

    Args:
        dropout: before the classifier; 0.5 where not given.
        output_stride: the smallest reduction wanted; later poolings lose their stride, with the same weights.

    Raises:
        UsageError: an output stride that is not 2, 4, 8, 16 or 32.
    """

    last_layer = "classifier.1"

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__(num_features=2 * FIRES[-1][1])
        poolings = iter(dilated_steps((2, 2, 2), 2, output_stride))
        self.smallest = variant.stem_kernel + 14  # then each pooling has the two pixels that it needs
        channels, reduction, dilation = variant.stem_width, 2, 1
        layers: list[nn.Module] = [nn.Conv2d(in_chans, channels, variant.stem_kernel, stride=2), nn.ReLU(inplace=True)]
        stage, stage_layers = "conv1", ["features.0", "features.1"]
        for number, (squeezed, expanded) in enumerate(FIRES, start=2):
            if number in variant.pooled:
                self.add_stage(stage, Stage(channels, reduction), stage_layers)
                stage_layers = [f"features.{len(layers)}"]
                pooling = next(poolings)
                layers.append(max_pool(3, pooling, ceil_mode=True))
                reduction, dilation = pooling.reduction, pooling.dilations[1]
            stage = f"fire{number}"
            stage_layers.append(f"features.{len(layers)}")
            layers.append(Fire(channels, squeezed, expanded, dilation))
            channels = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.add_stage(stage, Stage(channels, reduction), stage_layers)

        self.classifier = nn.Sequential(
            nn.Dropout(0.5 if dropout is None else dropout),
            nn.Conv2d(channels, num_classes, kernel_size=1) if num_classes else nn.Identity(),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )
        self.flatten = nn.Flatten()
        self.head_layers = ("classifier", "flatten")
        self._initialise()

    def _initialise(self) -> None:
        """As torchvision: He et al. 2015, uniform; the classifier N(0, 0.01); no biases."""
        classifier = self.get_submodule(self.last_layer)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is classifier:
                    nn.init.normal_(module.weight, std=0.01)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                nn.init.zeros_(module.get_parameter("bias"))


ABOUT = {"squeezenet1_0": "fire modules", "squeezenet1_1": "fire modules, pools earlier"}
# its classifier ends in a ReLU: with few classes all its outputs soon are 0, and so are their gradients
MODELS = {
    name: Entry(partial(SqueezeNet, SQUEEZENETS[name]), about, "Iandola et al. 2016", own_head=False)
    for name, about in ABOUT.items()
}
