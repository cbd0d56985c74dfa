"""ConvNeXt asks what a convolutional network lacks against a vision transformer, and changes a ResNet-50 one step at a
time until nothing is missing (Liu et al., CVPR 2022, arXiv:2201.03545). Patches of 4×4 as the stem, a depthwise 7×7 that
looks far, an inverted bottleneck that mixes channels, one norm and one activation a block. No attention is left over:
it ends level with Swin at the same arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import nn

PYTHON = """\
import striate

for name in ("resnet50", "convnext_tiny"):
    table = striate.summary(striate.create_model(name), (1, 3, 224, 224))
    print(f"{name}: {table.parameters / 1e6:.1f} M parameters, {table.multiply_adds / 1e9:.2f} G multiply-adds")
"""

Layer = tuple[int, int, int, bool]  # kernel, channels in and out over the block's width times 4, whether depthwise


@dataclass(frozen=True)
class Design:
    """What decides the counts of a network with residual blocks.

    Attributes:
        patches: a 4×4 of stride 4 as the stem, else 7×7 of stride 2 and a pooling.
        depths, widths: of the four stages; a width is what a stage hands on.
        inner: channels inside a block, over its width.
        kernel, depthwise: of the middle convolution.
        first: the depthwise convolution comes first, before the channels grow.
        separate: layers of their own halve the maps, instead of a block's stride and a projection around it.
    """

    patches: bool = False
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    inner: float = 0.25
    kernel: int = 3
    depthwise: bool = False
    first: bool = False
    separate: bool = False


RESNET50 = Design()
DEEPER = replace(RESNET50, depths=(3, 3, 9, 3))
PATCHED = replace(DEEPER, patches=True)
DEPTHWISE = replace(PATCHED, depthwise=True)
WIDER = replace(DEPTHWISE, widths=(384, 768, 1536, 3072))
INVERTED = replace(WIDER, widths=(96, 192, 384, 768), inner=4)
FIRST = replace(INVERTED, first=True)
SEVEN = replace(FIRST, kernel=7)
SEPARATE = replace(SEVEN, separate=True)
# step -> (design, G multiply-adds and top-1 of figure 2)
STEPS = {
    "ResNet-50": (RESNET50, 4.1, 78.8),
    "stages of 3, 3, 9, 3 blocks": (DEEPER, 4.5, 79.4),
    "4×4 patches as the stem": (PATCHED, 4.4, 79.5),
    "depthwise 3×3": (DEPTHWISE, 2.4, 78.3),
    "96 channels, not 64": (WIDER, 5.3, 80.5),
    "inverted bottleneck": (INVERTED, 4.6, 80.6),
    "depthwise first": (FIRST, 4.1, 79.9),
    "7×7, not 3×3": (SEVEN, 4.2, 80.6),
    "own layers to halve": (SEPARATE, 4.5, 82.0),
}


def show(setting: Setting) -> Shown:
    from striate.lectures.networks import counted

    found = {name: multiply_adds(design) for name, (design, _, _) in STEPS.items()}
    _, resnet = counted("resnet50")
    _, tiny = counted("convnext_tiny")
    checks = (
        Check("ConvNeXt-T: parameters", "28,589,128", f"{tiny.parameters:,}", tiny.parameters == 28_589_128),
        Check(
            "ConvNeXt-T: multiply-adds (table 1)",
            "4.5 G",
            f"{tiny.multiply_adds / 1e9:.2f} G",
            f"{tiny.multiply_adds / 1e9:.1f}" == "4.5",
        ),
        Check(
            "the steps begin at our ResNet-50",
            f"{resnet.multiply_adds:,}",
            f"{found['ResNet-50']:,}",
            resnet.multiply_adds == found["ResNet-50"],
        ),
        Check(
            "the steps end at our ConvNeXt-T",
            f"{tiny.multiply_adds:,}",
            f"{found['own layers to halve']:,}",
            tiny.multiply_adds == found["own layers to halve"],
        ),
        *(
            Check(
                f"{name} (figure 2)",
                f"{printed:.1f} G",
                f"{found[name] / 1e9:.2f} G",
                abs(found[name] / 1e9 - printed) < 0.06,
            )
            for name, (_, printed, _) in STEPS.items()
        ),
    )
    rows = [[name, found[name], f"{printed:.1f}", accuracy] for name, (_, printed, accuracy) in STEPS.items()]
    return Shown(
        checks,
        (
            Section(
                "From ResNet to ConvNeXt",
                "Counted from modules built for each step, convolutions and dense layers alone. Steps that change no "
                "count (GELU for ReLU, fewer activations, fewer norms, layer norm for batch norm) come between the "
                "last two: together they gain 0.9 points.",
                [
                    Figure(
                        draw_steps(found),
                        "Blue: multiply-adds of ours; orange: top-1 as the paper printed it (figure 2).",
                        "Bars of multiply-adds for nine steps, and the published accuracy of each.",
                        wide=True,
                    )
                ],
                [Table(("step", "multiply-adds", "paper (G)", "published top-1 (%)"), rows)],
            ),
            Section(
                "The block",
                "",
                [
                    Figure(
                        draw_blocks(),
                        "A ResNet's bottleneck and a ConvNeXt's block (figure 4): thin where the other is wide.",
                        "Two stacks of three convolutions, each with an arrow around.",
                        wide=True,
                    )
                ],
            ),
        ),
    )


def multiply_adds(design: Design, size: int = 224, classes: int = 1000) -> int:
    from striate.network_summary import summarize

    return summarize(skeleton(design, classes), (3, size, size)).multiply_adds


def skeleton(design: Design, classes: int) -> nn.Module:
    """A network of a design with nothing but what counts: convolutions, poolings, the classifier."""
    import torch
    from torch import nn

    with torch.device("meta"):
        first = design.widths[0] if design.separate or design.inner > 1 else design.widths[0] // 4
        layers: list[nn.Module] = []
        if design.patches:
            layers.append(nn.Conv2d(3, first, 4, 4))
        else:
            layers += [nn.Conv2d(3, first, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
        channels = first
        for index, (width, depth) in enumerate(zip(design.widths, design.depths, strict=True)):
            halves = index > 0
            if design.separate and halves:
                layers.append(nn.Conv2d(channels, width, 2, 2))
                channels, halves = width, False
            for number in range(depth):
                layers.append(block(design, channels, width, 2 if halves and number == 0 else 1))
                channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def block(design: Design, channels: int, width: int, stride: int) -> nn.Module:
    """Three convolutions, and a projection beside them where the shape changes."""
    from torch import nn

    inner, kernel = int(design.inner * width), design.kernel
    if design.first:
        way = [
            nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels),
            nn.Conv2d(channels, inner, 1),
            nn.Conv2d(inner, width, 1),
        ]
    else:
        groups = inner if design.depthwise else 1
        way = [
            nn.Conv2d(channels, inner, 1),
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=groups),
            nn.Conv2d(inner, width, 1),
        ]
    if channels == width and stride == 1:
        return nn.Sequential(*way)
    return _Projected(nn.Sequential(*way), nn.Conv2d(channels, width, 1, stride))


def _Projected(way: nn.Module, around: nn.Module) -> nn.Module:
    from torch import Tensor, nn

    class Projected(nn.Module):
        """Two ways from the same input, added up."""

        def __init__(self) -> None:
            super().__init__()
            self.way, self.around = way, around

        def forward(self, x: Tensor) -> Tensor:
            return self.way(x) + self.around(x)

    return Projected()


def draw_steps(found: dict[str, int]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure

    figure = new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(found))
    bars = left.barh(places, [count / 1e9 for count in found.values()], color=BLUE, height=0.62)
    left.bar_label(bars, [f"{count / 1e9:.2f} G" for count in found.values()], padding=3, fontsize=LETTERS)
    left.set_yticks(places, list(found), fontsize=LETTERS + 0.5)
    left.invert_yaxis()
    left.set_xlim(0, 6.6)
    accuracies = [accuracy for _, _, accuracy in STEPS.values()]
    right.plot(accuracies, places, color=ORANGE, marker="o", markersize=5, linewidth=1.4)
    for place, accuracy in zip(places, accuracies, strict=True):
        right.text(83.4, place, f"{accuracy:.1f}", va="center", ha="right", fontsize=LETTERS)
    right.set_xlim(77.8, 83.4)
    for axes, title in ((left, "multiply-adds, ours"), (right, "top-1 (%), published")):
        axes.set_title(title, fontsize=LETTERS + 1, loc="left")
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    right.spines["left"].set_visible(False)
    return figure


def draw_blocks() -> Drawing:
    from torch import nn

    from striate.lectures.architectures.resnet import block_graph
    from striate.lectures.diagrams import Edge, Node, draw_graph, new_figure
    from striate.lectures.networks import counted

    figure = new_figure(8.4, 4.9)
    left, right = figure.subplots(1, 2)
    bottleneck = counted("resnet50")[0].get_submodule("layer1.1")
    nodes, edges = block_graph(bottleneck, with_sum=True)
    draw_graph(nodes, edges, (4, 5), "ResNet-50", left)
    one = counted("convnext_tiny")[0].get_submodule("features.1.0.block")
    depthwise = next(layer for layer in one.modules() if isinstance(layer, nn.Conv2d))
    up, down = (layer for layer in one.modules() if isinstance(layer, nn.Linear))
    side = depthwise.kernel_size[0]
    nodes = {
        "in": Node(f"x: {depthwise.in_channels} maps", 0, 0, GREY, 2.0),
        "depthwise": Node(f"depthwise {side}×{side}, {depthwise.out_channels}; layer norm", 0, 1.1, BLUE, 3.1),
        "up": Node(f"1×1, {up.out_features}; GELU", 0, 2.2, VIOLET, 3.1),
        "down": Node(f"1×1, {down.out_features}; scale", 0, 3.3, VIOLET, 3.1),
        "sum": Node("+", 0, 4.4, ORANGE, 0.6),
        "out": Node("no activation", 0, 5.5, GREEN, 1.8),
    }
    edges = [Edge(*pair) for pair in (("in", "depthwise"), ("depthwise", "up"), ("up", "down"), ("down", "sum"))]
    edges += [Edge("sum", "out"), Edge("in", "sum", around=2.1, label="x")]
    draw_graph(nodes, edges, (4, 5), "ConvNeXt-T", right)
    return figure
