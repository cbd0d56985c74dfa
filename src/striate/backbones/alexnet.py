"""AlexNet: 15.3 % top-5 error at ImageNet 2012, where the next had 26.2 % (Krizhevsky, Sutskever & Hinton, NIPS 2012).

New in it: rectified linear units, dropout, overlapping pooling, local response normalisation, and training on two
GPUs, each with half of the maps. `alexnet_original` is that network: where a GPU saw only its own maps, a convolution
has two groups. `alexnet` is torchvision's, with its names and weights: the later one-column network (Krizhevsky 2014,
arXiv:1404.5997), narrower at first and without normalisation.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import nn

from striate.backbones.backbone import Backbone, Entry, Stage
from striate.layers.dilation import dilated_steps, max_pool


class Layer(NamedTuple):
    kernel_size: int
    stride: int
    padding: int
    pooled: bool = False


# section 3.5; padding is not in the text: with these the maps are as large as the paper says (55, 27, 13, 13, 13)
CONVOLUTIONS = (
    Layer(11, 4, 2, pooled=True),
    Layer(5, 1, 2, pooled=True),
    Layer(3, 1, 1),
    Layer(3, 1, 1),
    Layer(3, 1, 1, pooled=True),
)


class Variant(NamedTuple):
    """Maps and groups of the five convolutions; `published`: with what only the paper of 2012 has."""

    widths: tuple[int, int, int, int, int]
    groups: tuple[int, int, int, int, int]
    published: bool


ALEXNETS = {
    "alexnet": Variant((64, 192, 384, 256, 256), groups=(1, 1, 1, 1, 1), published=False),
    "alexnet_original": Variant((96, 256, 384, 384, 256), groups=(1, 2, 1, 2, 2), published=True),  # figure 2
}


def local_response_norm() -> nn.LocalResponseNorm:
    """Section 3.3: k = 2, n = 5, α = 1e-4, β = 0.75. torch divides α by n, the paper's formula does not."""
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class AlexNet(Backbone):
    """Stages: conv1, conv2 and conv5, which the poolings read, and pool5.

    Only the convolutions after the first pad to the full size: of 224 pixels the maps are 55, 27, 13 and 6 wide.

    Args:
        dropout: behind or before the two hidden dense layers; 0.5 where not given.
        output_stride: the smallest reduction wanted; later poolings lose their stride, with the same weights.

    Raises:
        UsageError: an output stride that is not 4, 8, 16 or 32.
    """

    last_layer = "classifier.6"
    smallest = 63

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__(num_features=4096)
        poolings = iter(dilated_steps((2, 2, 2), CONVOLUTIONS[0].stride, output_stride))
        layers: list[nn.Module] = []
        stage_start = 0
        channels, reduction, dilation = in_chans, CONVOLUTIONS[0].stride, 1
        for number, layer in enumerate(CONVOLUTIONS, start=1):
            width, groups = variant.widths[number - 1], variant.groups[number - 1]
            padding = layer.padding * dilation
            layers.append(nn.Conv2d(channels, width, layer.kernel_size, layer.stride, padding, dilation, groups))
            layers.append(nn.ReLU(inplace=True))
            channels = width
            if not layer.pooled:
                continue
            if variant.published and number <= 2:
                layers.append(local_response_norm())
            self.add_stage(f"conv{number}", Stage(channels, reduction), _names(stage_start, len(layers)))
            stage_start = len(layers)
            pooling = next(poolings)
            layers.append(max_pool(3, pooling))
            reduction, dilation = pooling.reduction, pooling.dilations[1]
        self.features = nn.Sequential(*layers)
        self.add_stage("pool5", Stage(channels, reduction), _names(stage_start, len(layers)))

        rate = 0.5 if dropout is None else dropout
        dense6 = (nn.Linear(channels * 6 * 6, 4096), nn.ReLU(inplace=True))
        dense7 = (nn.Linear(4096, 4096), nn.ReLU(inplace=True))
        last = nn.Linear(4096, num_classes) if num_classes else nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))  # changes nothing where the picture has 224 pixels
        self.flatten = nn.Flatten()
        if variant.published:
            self.classifier = nn.Sequential(*dense6, nn.Dropout(rate), *dense7, nn.Dropout(rate), last)
            self._initialise()
        else:
            self.classifier = nn.Sequential(nn.Dropout(rate), *dense6, nn.Dropout(rate), *dense7, last)
        self.head_layers = ("avgpool", "flatten", "classifier")

    def _initialise(self) -> None:
        """Section 5: weights N(0, 0.01); biases 1 where rectifiers should start with positive inputs, else 0."""
        convolutions = [module for module in self.features if isinstance(module, nn.Conv2d)]
        dense = [module for module in self.classifier if isinstance(module, nn.Linear)]
        for layer in (*convolutions, *dense):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))
        for layer in (convolutions[1], convolutions[3], convolutions[4], *dense[:2]):
            nn.init.ones_(layer.get_parameter("bias"))


def _names(start: int, end: int) -> list[str]:
    return [f"features.{index}" for index in range(start, end)]


MODELS = {
    "alexnet": Entry(partial(AlexNet, ALEXNETS["alexnet"]), "8 layers, one column", "Krizhevsky 2014"),
    "alexnet_original": Entry(
        partial(AlexNet, ALEXNETS["alexnet_original"]), "8 layers, two columns, LRN", "Krizhevsky et al. 2012"
    ),
}
