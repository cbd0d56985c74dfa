"""VGG: nothing but 3x3 convolutions, more and more of them (Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556).

Two 3x3 see as much as one 5x5 and three as much as one 7x7, with fewer weights and more rectifiers between them
(section 2.3). Widths double whenever a pooling halves the map. Names, weights and initialisation are torchvision's;
the networks with batch norm are later than the paper.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import nn

from striate.backbones.alexnet import local_response_norm
from striate.backbones.backbone import Backbone, Entry, Stage
from striate.layers.dilation import dilated_steps, max_pool

# table 1, by column. A number: a 3x3 convolution so wide; "1x1": one as wide as before; "M": max pooling
CONFIGURATIONS: dict[str, tuple[int | str, ...]] = {
    "A": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "A-LRN": (64, "LRN", "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "B": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "C": (64, 64, "M", 128, 128, "M", 256, 256, "1x1", "M", 512, 512, "1x1", "M", 512, 512, "1x1", "M"),
    "D": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "E": (64, 64, "M", 128, 128, "M", *(256,) * 4, "M", *(512,) * 4, "M", *(512,) * 4, "M"),
}


class Variant(NamedTuple):
    configuration: str
    batch_norm: bool = False


VGGS = {
    "vgg11": Variant("A"),
    "vgg11_lrn": Variant("A-LRN"),
    "vgg11_bn": Variant("A", batch_norm=True),
    "vgg13": Variant("B"),
    "vgg13_bn": Variant("B", batch_norm=True),
    "vgg16c": Variant("C"),
    "vgg16": Variant("D"),
    "vgg16_bn": Variant("D", batch_norm=True),
    "vgg19": Variant("E"),
    "vgg19_bn": Variant("E", batch_norm=True),
}


class VGG(Backbone):
    """Stages: conv1 (of the picture's size) to conv5, which the poolings read, and pool5.

    Args:
        dropout: behind the two hidden dense layers; 0.5 where not given.
        output_stride: the smallest reduction wanted; later poolings lose their stride, with the same weights
            (Chen et al. 2015, arXiv:1412.7062, section 3.1).

    Raises:
        UsageError: an output stride that is no power of 2 up to 32.
    """

    last_layer = "classifier.6"
    smallest = 32

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__(num_features=4096)
        poolings = iter(dilated_steps((2, 2, 2, 2, 2), 1, output_stride))
        layers: list[nn.Module] = []
        stage_layers: list[str] = []
        channels, reduction, dilation = in_chans, 1, 1
        for step in CONFIGURATIONS[variant.configuration]:
            if step == "M":
                self.add_stage(f"conv{len(self.pyramid) + 1}", Stage(channels, reduction), stage_layers)
                stage_layers = []
                pooling = next(poolings)
                made = [max_pool(2, pooling)]
                reduction, dilation = pooling.reduction, pooling.dilations[1]
            elif step == "LRN":
                made = [local_response_norm()]
            else:
                width, kernel_size = (channels, 1) if step == "1x1" else (int(step), 3)
                padding = kernel_size // 2 * dilation
                conv = nn.Conv2d(channels, width, kernel_size, padding=padding, dilation=dilation)
                made = [conv, *([nn.BatchNorm2d(width)] if variant.batch_norm else []), nn.ReLU(inplace=True)]
                channels = width
            stage_layers += [f"features.{len(layers) + index}" for index in range(len(made))]
            layers += made
        self.features = nn.Sequential(*layers)
        self.add_stage("pool5", Stage(channels, reduction), stage_layers)

        rate = 0.5 if dropout is None else dropout
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))  # changes nothing where the picture has 224 pixels
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(rate),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(rate),
            nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
        )
        self.head_layers = ("avgpool", "flatten", "classifier")
        self._initialise()

    def _initialise(self) -> None:
        """As torchvision: He et al. 2015 by the outputs for convolutions, the paper's N(0, 0.01) for dense layers."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.zeros_(module.get_parameter("bias"))


def _about(variant: Variant) -> str:
    steps = CONFIGURATIONS[variant.configuration]
    depth = sum(step not in ("M", "LRN") for step in steps) + 3
    kernels = "3x3 and 1x1" if "1x1" in steps else "3x3 only"
    norm = ", LRN" if "LRN" in steps else ", batch norm" if variant.batch_norm else ""
    return f"{depth} layers, {kernels}{norm}"


MODELS = {
    name: Entry(partial(VGG, variant), _about(variant), "Simonyan & Zisserman 2015") for name, variant in VGGS.items()
}
