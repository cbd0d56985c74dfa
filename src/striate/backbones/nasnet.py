"""NASNet-A: a network of cells that a search found (Zoph, Vasudevan, Shlens & Le, CVPR 2018, arXiv:1707.07012).

The search chose, on CIFAR-10, what happens inside two cells: one that keeps the size of its map and one that halves it.
Stacked and widened they make networks for ImageNet. A cell reads the outputs of the last two cells, so the network is
a braid, not a chain; what the search chose is data here: `NORMAL` and `REDUCTION`, figure 4 of the paper.

Parameter names are timm's `nasnetalarge`, and for the mobile network, which timm has not, those of Cadene's
pretrained-models.pytorch. Both keep weights from TensorFlow: its padding, and pictures of mean 0.5 and deviation 0.5.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.backbones.backbone import Backbone, Canonical, Entry, Stage, checked
from striate.layers.blocks import same_padding

# What an operation may read: the outputs of the cell before the last and of the last, and the sums of earlier pairs.
PREVIOUS, CURRENT, SUM_0, SUM_1, SUM_2, SUM_3, SUM_4 = range(7)

Operation = tuple[str, int]  # what is done, and to which of the above


class Plan(NamedTuple):
    """Figure 4: each pair of operations is added up; the `output` is stacked, channels upon channels."""

    pairs: tuple[tuple[Operation, Operation], ...]
    output: tuple[int, ...]


NORMAL = Plan(
    pairs=(
        (("sep 5x5", CURRENT), ("sep 3x3", PREVIOUS)),
        (("sep 5x5", PREVIOUS), ("sep 3x3", PREVIOUS)),
        (("avg 3x3", CURRENT), ("identity", PREVIOUS)),
        (("avg 3x3", PREVIOUS), ("avg 3x3", PREVIOUS)),
        (("sep 3x3", CURRENT), ("identity", CURRENT)),
    ),
    output=(PREVIOUS, SUM_0, SUM_1, SUM_2, SUM_3, SUM_4),
)
REDUCTION = Plan(  # what reads the cell's inputs has a stride of 2, what reads sums has not
    pairs=(
        (("sep 5x5", CURRENT), ("sep 7x7", PREVIOUS)),
        (("max 3x3", CURRENT), ("sep 7x7", PREVIOUS)),
        (("avg 3x3", CURRENT), ("sep 5x5", PREVIOUS)),
        (("identity", SUM_1), ("avg 3x3", SUM_0)),
        (("sep 3x3", SUM_0), ("max 3x3", CURRENT)),
    ),
    output=(SUM_1, SUM_2, SUM_3, SUM_4),
)

batch_norm = partial(nn.BatchNorm2d, eps=1e-3)


class PadSame(nn.Module):
    """What TensorFlow's SAME adds before a window of stride 2: where a side is even, one less left and above."""

    def __init__(self, kernel_size: int, value: float = 0.0) -> None:
        super().__init__()
        self.margin = kernel_size // 2
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H + 2 margin - (0 or 1), W + 2 margin - (0 or 1)]"""
        top, left = (self.margin - 1 + side % 2 for side in x.shape[-2:])
        return F.pad(x, (left, self.margin, top, self.margin), value=self.value)


class HalvingAverage(nn.Module):
    """Averages of 3x3 with a stride of 2; at the border of what is there, or, as timm has it, with the padding."""

    def __init__(self, count_padding: bool) -> None:
        super().__init__()
        self.pad = PadSame(3)
        self.count_padding = count_padding

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, ⌈H / 2⌉, ⌈W / 2⌉]"""
        mean = F.avg_pool2d(self.pad(x), 3, stride=2)
        if self.count_padding:
            return mean
        return mean / F.avg_pool2d(self.pad(torch.ones_like(x[:1, :1])), 3, stride=2)


def separable(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """Depthwise, then across channels; the stride is the depthwise one's."""
    padding = 0 if stride > 1 else same_padding(kernel_size)
    depthwise = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False)
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    pad = PadSame(kernel_size) if stride > 1 else nn.Identity()
    return nn.Sequential(OrderedDict(pad=pad, depthwise_conv2d=depthwise, pointwise_conv2d=pointwise))


def twice_separable(in_channels: int, out_channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """ReLU, separable convolution, batch norm; then all of it once more, as the paper always does."""
    first = separable(in_channels, out_channels, kernel_size, stride)
    second = separable(out_channels, out_channels, kernel_size, stride=1)
    layers: OrderedDict[str, nn.Module] = OrderedDict(act_1=nn.ReLU(), separable_1=first)
    layers.update(bn_sep_1=batch_norm(out_channels), act_2=nn.ReLU())
    layers.update(separable_2=second, bn_sep_2=batch_norm(out_channels))
    return nn.Sequential(layers)


def projection(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(OrderedDict(act=nn.ReLU(), conv=conv, bn=batch_norm(out_channels)))


def operation(name: str, in_channels: int, out_channels: int, stride: int, count_padding: bool) -> nn.Module:
    """`sep 5x5`, `avg 3x3`, `max 3x3` or `identity`: [B, in, H, W] -> [B, out, ⌈H / stride⌉, ⌈W / stride⌉]"""
    kind, _, size = name.partition(" ")
    if kind == "sep":
        return twice_separable(in_channels, out_channels, int(size[0]), stride)
    if kind == "max":
        return nn.Sequential(PadSame(3, -torch.inf), nn.MaxPool2d(3, stride=2))
    if kind == "avg" and stride == 2:
        return HalvingAverage(count_padding)
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False) if kind == "avg" else nn.Identity()


class Cell(nn.Module):
    """A plan at work on maps of `width` channels, to which both inputs are brought first.

    Args:
        current: the last cell's output.
        previous: the output before that, perhaps twice as large; None in the first cell, which reads one input twice.
        count_padding: see `HalvingAverage`.
    """

    def __init__(self, plan: Plan, current: Stage, previous: Stage | None, width: int, count_padding: bool) -> None:
        super().__init__()
        self.plan = plan
        self.halve_previous = previous is not None and previous.reduction < current.reduction
        if not self.halve_previous:
            self.conv_prev_1x1 = projection(previous.channels, width) if previous else nn.Identity()
        self.conv_1x1 = projection(current.channels, width)
        if previous and self.halve_previous:  # half of the channels see the even pixels, half the odd ones
            self.act = nn.ReLU()
            conv = partial(nn.Conv2d, previous.channels, width // 2, kernel_size=1, stride=2, bias=False)
            self.path_1 = nn.Sequential(OrderedDict(conv=conv()))
            self.path_2 = nn.Sequential(OrderedDict(pad=nn.ZeroPad2d((-1, 1, -1, 1)), conv=conv()))
            self.final_path_bn = batch_norm(width)

        for number, pair in enumerate(plan.pairs):
            for side, (name, source) in zip(("left", "right"), pair, strict=True):
                channels = current.channels if source == PREVIOUS and previous is None else width
                stride = 2 if plan is REDUCTION and source in (PREVIOUS, CURRENT) else 1
                module = operation(name, channels, width, stride, count_padding)
                self.add_module(f"comb_iter_{number}_{side}", module)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """[B, current, H, W] -> [B, stacked outputs · width, H or ⌈H / 2⌉, W or ⌈W / 2⌉]"""
        states = [self._fitted(previous), self.conv_1x1(current)]
        for number, ((_, left), (_, right)) in enumerate(self.plan.pairs):
            one = self.get_submodule(f"comb_iter_{number}_left")(states[left])
            other = self.get_submodule(f"comb_iter_{number}_right")(states[right])
            states.append(one + other)
        return torch.cat([states[index] for index in self.plan.output], 1)

    def _fitted(self, previous: Tensor) -> Tensor:
        """[B, previous, h, w] -> [B, width, H, W]"""
        if not self.halve_previous:
            return self.conv_prev_1x1(previous)
        x = self.act(previous)
        return self.final_path_bn(torch.cat((self.path_1(x), self.path_2(x)), 1))


class Variant(NamedTuple):
    """`repeats` normal cells in each of three stages, `features` channels after the last ("6 @ 4032" in table 2).

    `skip_reduction`: a reduction reads the last two cells; what follows it reads it and the first of these two.
    `count_padding`: see `HalvingAverage`; timm counts it, TensorFlow and Cadene do not.
    """

    stem: int
    features: int
    repeats: int
    skip_reduction: bool
    count_padding: bool


NASNETS = {
    "nasnetalarge": Variant(stem=96, features=4032, repeats=6, skip_reduction=True, count_padding=True),
    "nasnetamobile": Variant(stem=32, features=1056, repeats=4, skip_reduction=False, count_padding=False),
}


class NASNet(Backbone):
    """Stages: conv0, cell_stem_0, stage1, stage2, stage3; a stage is a reduction cell and the normal cells after it.

    Args:
        output_stride: the smallest reduction wanted. A reduction cell that would go beyond runs on the map and on its
            copies moved by one pixel, and the results are interleaved: the values that dilations would give (Long et
            al. 2015, arXiv:1411.4038, section 3.2).

    Raises:
        UsageError: an output stride other than 8, 16 or 32.
    """

    last_layer = "last_linear"
    smallest = 3

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        in_chans: int = 3,
        dropout: float | None = None,
        output_stride: int = 32,
    ) -> None:
        super().__init__(num_features=variant.features)
        checked("output_stride", output_stride, (8, 16, 32))
        self.skipped = ("reduction_cell_0", "reduction_cell_1") if variant.skip_reduction else ()
        self.unstrided = {8: ("reduction_cell_0", "reduction_cell_1"), 16: ("reduction_cell_1",)}.get(output_stride, ())

        conv = nn.Conv2d(in_chans, variant.stem, kernel_size=3, stride=2, bias=False)
        self.conv0 = nn.Sequential(OrderedDict(conv=conv, bn=batch_norm(variant.stem)))
        self.add_stage("conv0", Stage(variant.stem, 2), ("conv0",))

        # what the next cell reads, followed through the braid as the maps will be
        current = previous = Stage(variant.stem, 2)

        def add(name: str, plan: Plan, width: int) -> None:
            nonlocal current, previous
            before = None if name == "cell_stem_0" else previous
            self.add_module(name, Cell(plan, current, before, width, variant.count_padding))
            reduction = current.reduction * (2 if plan is REDUCTION else 1)
            following = previous if name in self.skipped else current
            current, previous = Stage(len(plan.output) * width, reduction), following

        width = variant.features // (len(NORMAL.output) * 4)  # 1, 2 and 4 of it in the three stages
        add("cell_stem_0", REDUCTION, width // 4)
        self.add_stage("cell_stem_0", current, ("cell_stem_0",))
        halving = (("cell_stem_1", width // 2), ("reduction_cell_0", width * 2), ("reduction_cell_1", width * 4))
        for number, (reduction_cell, reduction_width) in enumerate(halving):
            add(reduction_cell, REDUCTION, reduction_width)
            cells = [f"cell_{6 * number + index}" for index in range(variant.repeats)]  # six a stage, even if fewer
            for cell in cells:
                add(cell, NORMAL, width * 2**number)
            stage = Stage(current.channels, min(current.reduction, output_stride))
            self.add_stage(f"stage{number + 1}", stage, (reduction_cell, *cells))

        self.act = nn.ReLU()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.last_linear = nn.Linear(variant.features, num_classes) if num_classes else nn.Identity()
        self.head_layers = ("act", "global_pool", "flatten", "dropout", "last_linear")

    def feature_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Every stage by name, rectified as whoever reads it would (but conv0, as timm has it)."""
        return {name: x if name == "conv0" else F.relu(x) for name, x in self._maps(images).items()}

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes]; the features [B, num_features] where num_classes is 0."""
        return self._run(self.head_layers, self._maps(images)["stage3"])

    def _maps(self, images: Tensor) -> dict[str, Tensor]:
        """The last map of each stage."""
        self.check_size(images)
        current = previous = self.conv0(images)
        found, sizes = {"conv0": current}, []
        for stage in list(self.pyramid)[1:]:
            for name in self.stage_layers[stage]:
                if name in self.unstrided:
                    sizes.append(current.shape[-2:])
                    current, previous = moved(current), moved(previous)
                following = previous if name in self.skipped else current
                current, previous = self.get_submodule(name)(current, previous), following
            found[stage] = interleaved(current, sizes)
        return found


def moved(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [4B, C, H, W]: the maps as they are, and moved by one pixel left, up, and both."""
    return torch.cat([F.pad(x[..., down:, right:], (0, right, 0, down)) for down in (0, 1) for right in (0, 1)])


def interleaved(x: Tensor, sizes: list[torch.Size]) -> Tensor:
    """What `moved` gave, halved by a stride, put together again: [4B, C, H / 2, W / 2] -> [B, C, H, W], last first."""
    for height, width in reversed(sizes):
        phases = x.unflatten(0, (4, -1)).movedim(0, 2).flatten(1, 2)  # [B, 4C, ⌈H / 2⌉, ⌈W / 2⌉]
        x = F.pixel_shuffle(phases, 2)[..., :height, :width]
    return x


def _entry(name: str, about: str, side: int) -> Entry:
    return Entry(partial(NASNet, NASNETS[name]), about, "Zoph et al. 2018", Canonical(3, (side, side), 1000))


MODELS = {
    "nasnetalarge": _entry("nasnetalarge", "18 searched cells, 331x331", 331),
    "nasnetamobile": _entry("nasnetamobile", "12 searched cells, for phones", 224),
}
