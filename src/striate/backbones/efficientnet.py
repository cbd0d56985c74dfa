"""EfficientNet: depth, width and resolution grown together (Tan & Le, ICML 2019, arXiv:1905.11946).

One small network, B0, was found by a search. A single number phi makes it larger: depth grows by 1.2, width by 1.1 and
resolution by 1.15 to the power of phi, which doubles the multiply-adds with each step (section 3.3). B1 to B7 are such
networks with rounded factors; `efficientnet` takes any phi. Parameter names and initialisation are torchvision's.
"""

from __future__ import annotations

from functools import partial
from math import ceil, sqrt
from numbers import Real
from typing import NamedTuple

from torch import nn

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage
from striate.errors import UsageError
from striate.layers.blocks import ConvNormAct, Norm, SqueezeExcitation, make_divisible
from striate.layers.dilation import dilated_steps
from striate.layers.mbconv import MBConv, initialise

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # depth, width, resolution: section 3.3, step 1
RESOLUTION = 224
STEM = 32
# expansion t, kernel k, channels c, repeats n, stride s: table 1
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)


class Variant(NamedTuple):
    width: float
    depth: float
    size: int
    dropout: float
    norm: Norm = nn.BatchNorm2d


tensorflow_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # torchvision's B5 to B7 come from there

EFFICIENTNETS = {  # factors of the authors' code; sizes that torchvision's weights are meant for
    "efficientnet_b0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Variant(1.1, 1.2, 288, 0.3),
    "efficientnet_b3": Variant(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Variant(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Variant(1.6, 2.2, 456, 0.4, tensorflow_norm),
    "efficientnet_b6": Variant(1.8, 2.6, 528, 0.5, tensorflow_norm),
    "efficientnet_b7": Variant(2.0, 3.1, 600, 0.5, tensorflow_norm),
}


def compound(phi: float) -> tuple[float, float, int]:
    """(depth factor, width factor, side of the pictures in pixels) of the network that is phi steps above B0.

    Equation 3 of the paper: alpha · beta² · gamma² ≈ 2, so a network costs about 2^phi times as much as B0.

    >>> compound(1)
    (1.2, 1.1, 258)
    """
    return ALPHA**phi, BETA**phi, round(RESOLUTION * GAMMA**phi)


class EfficientNet(Backbone):
    """Stages c1 … c5, as feature pyramids call them: c1 is half as large as the picture, c5 a 32nd.

    Args:
        output_stride: the smallest reduction wanted; later strides become dilations, with the same weights.
        stochastic_depth: while training, blocks with a shortcut are skipped with a probability that grows evenly with
            their place, from 0 to nearly this (Huang et al. 2016, arXiv:1603.09382; section 5 of the paper).

    Raises:
        UsageError: an output stride that is no power of 2 from 2 to 32, or no probability below 1.
    """

    last_layer = "classifier.1"

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        output_stride: int = 32,
        dropout: float | None = None,
        stochastic_depth: float = 0.2,
    ) -> None:
        _check_number("stochastic_depth", stochastic_depth, 0, 0.99)
        widths = [make_divisible(channels * variant.width) for _, _, channels, _, _ in STAGES]
        depths = [ceil(repeats * variant.depth) for _, _, _, repeats, _ in STAGES]
        super().__init__(num_features=4 * widths[-1])
        steps = dilated_steps([stride for *_, stride in STAGES], 2, output_stride)

        channels = make_divisible(STEM * variant.width)
        layers: list[nn.Module] = [ConvNormAct(in_chans, channels, stride=2, norm=variant.norm, activation=nn.SiLU)]
        level, names, place = 1, ["features.0"], 0
        for (expansion, kernel_size, _, _, nominal), width, depth, step in zip(
            STAGES, widths, depths, steps, strict=True
        ):
            if nominal > 1:
                level, names = level + 1, []
            stage = nn.Sequential()
            for number in range(depth):
                stride, dilation = (step.stride, step.dilations[0]) if number == 0 else (1, step.dilations[1])
                expanded = make_divisible(channels * expansion)
                stage.append(
                    MBConv(
                        channels,
                        expanded,
                        width,
                        kernel_size,
                        stride=stride,
                        dilation=dilation,
                        shortcut=channels == width and (number > 0 or nominal == 1),
                        squeeze=SqueezeExcitation(expanded, max(1, channels // 4), nn.SiLU),
                        norm=variant.norm,
                        activation=nn.SiLU,
                        drop=stochastic_depth * place / sum(depths),
                    )
                )
                channels, place = width, place + 1
            names.append(f"features.{len(layers)}")
            layers.append(stage)
            self.add_stage(f"c{level}", Stage(channels, step.reduction), names)
        widen = f"features.{len(layers)}"
        layers.append(ConvNormAct(channels, self.num_features, kernel_size=1, norm=variant.norm, activation=nn.SiLU))

        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(variant.dropout if dropout is None else dropout),
            nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity(),
        )
        self.head_layers = (widen, "avgpool", "flatten", "classifier.0", "classifier.1")
        initialise(self, linear=_uniform)


def by_compound_rule(
    num_classes: int = 1000,
    in_chans: int = 3,
    output_stride: int = 32,
    dropout: float | None = None,
    stochastic_depth: float = 0.2,
    phi: float = 0.0,
) -> EfficientNet:
    """The network that is phi steps above B0 (`compound` says for which pictures), which is B0 where phi is 0.

    Dropout grows evenly from B0's 0.2 to B7's 0.5 (section 5.2).

    Raises:
        UsageError: a phi that is no number from -10 to 15, where the rule gives networks one can build.
    """
    _check_number("phi", phi, -10, 15)
    depth, width, size = compound(phi)
    variant = Variant(width, depth, size, dropout=min(0.5, max(0.2, 0.2 + 0.3 * phi / 7)))
    return EfficientNet(variant, num_classes, in_chans, output_stride, dropout, stochastic_depth)


def _uniform(layer: nn.Linear) -> None:
    bound = 1 / sqrt(layer.out_features)
    nn.init.uniform_(layer.weight, -bound, bound)


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, Real) or not least <= float(value) <= most:
        raise UsageError(f"{name} must be a number from {least} to {most}, not {value!r}")


MODELS = {
    "efficientnet": Entry(by_compound_rule, "B0 scaled by any phi", "Tan & Le 2019"),
    **{
        name: Entry(
            partial(EfficientNet, variant),
            f"B0 × {variant.width} wide, × {variant.depth} deep, for {variant.size}x{variant.size}",
            "Tan & Le 2019",
            Canonical(3, (variant.size, variant.size), 1000),
        )
        for name, variant in EFFICIENTNETS.items()
    },
}
