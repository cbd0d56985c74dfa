"""A residual block learns what to add to its input, not what to make of it: relu(F(x) + x) (He et al., CVPR 2016). A
plain network that is made deeper ends with a higher training error, so what fails is not memory but learning; with
shortcuts a block whose weights are zero hands its input on, and depth cannot hurt. Bottleneck blocks, 1×1 down, 3×3,
1×1 up, carry that to 152 layers with less arithmetic than VGG-16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import nn

    from striate.network_summary import Summary

PYTHON = """\
import striate, torch

network = striate.create_model("resnet50", zero_init_residual=True).eval()
x = torch.rand(1, 256, 56, 56)  # what a rectifier gives: nothing below zero
block = network.layer1[1]
print(torch.equal(block(x), x), "a block whose last norm is zero is the identity")
table = striate.summary(network, (1, 3, 224, 224))
print(f"{table.parameters:,} parameters, {table.multiply_adds / 1e9:.2f} G multiply-adds")
"""

# the paper's table 1, G multiply-adds, and section 4.1's top-5 errors in percent (table 4: single models)
TABLE_1 = {"resnet18": 1.8, "resnet34": 3.6, "resnet50": 3.8, "resnet101": 7.6, "resnet152": 11.3}
PUBLISHED = {"resnet50": 5.25, "vgg16": 7.1}


def show(setting: Setting) -> Shown:
    from striate.lectures.architectures.depth import plain_against_residual
    from striate.lectures.networks import counted

    summaries = {name: counted(name)[1] for name in TABLE_1}
    early = {name: strided_early(name) for name in ("resnet50", "resnet101", "resnet152")}
    fifty = summaries["resnet50"]
    same, largest = identity()
    checks = [
        Check("ResNet-50: parameters", "about 25 million", f"{fifty.parameters:,}", fifty.parameters // 10**6 == 25),
        Check(
            "ResNet-152: parameters",
            "about 60 million",
            f"{summaries['resnet152'].parameters:,}",
            round(summaries["resnet152"].parameters, -6) == 60_000_000,
        ),
        Check(
            "ResNet-50: multiply-adds",
            "3.8 G",
            f"{fifty.multiply_adds / 1e9:.2f} G",
            int(early["resnet50"] / 1e8) == 38,
            "Ours, like torchvision's, halves the map in the block's 3×3; the paper's in the 1×1 before it, which then "
            f"works on a quarter of the places: {early['resnet50'] / 1e9:.3f} G, counted from the same modules with "
            "their strides moved. It is 0.5 % more exact to halve later.",
        ),
        Check(
            "with zero residual weights a block is the identity",
            "relu(0 + x) = x",
            f"{same} blocks of ResNet-18, -50 and preactivated -50: largest difference {largest:g}",
            largest == 0,
            "Exactly, not to rounding, for what rectifiers give (x ≥ 0); blocks that change the shape are left out.",
        ),
    ]
    depth_checks, depth_section, missing = plain_against_residual(setting)
    published, errors = published_errors()
    return Shown(
        (*checks, *depth_checks, *published),
        (
            Section(
                "The block",
                "The plain twin has the same layers without the arrow around them.",
                [
                    Figure(
                        draw_blocks(),
                        "From left to right: plain, basic and bottleneck block; kernels and widths from our modules.",
                        "Three stacks of layers, two of them with an arrow around that ends in a sum.",
                        wide=True,
                    )
                ],
                [counts(summaries, early)],
            ),
            depth_section,
            Section("Published accuracy", "Quoted, not measured here: it takes all of ImageNet.", [], [errors]),
        ),
        missing=missing,
    )


def strided_early(name: str) -> int:
    """Multiply-adds with the stride of a bottleneck in its first 1×1, as the paper has it."""
    from striate.backbones.resnet import Bottleneck
    from striate.lectures.networks import counted
    from striate.network_summary import summarize

    network, _ = counted(name)
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    return summarize(network, (3, 224, 224)).multiply_adds


def identity() -> tuple[int, float]:
    """How many blocks were tried whose residual weights are zero, and by how much any changed what it was given."""
    import torch
    from torch import nn

    from striate.backbones import create_model

    generator = torch.Generator().manual_seed(0)
    tried, largest = 0, 0.0
    for name in ("resnet18", "resnet50", "resnetv2_50"):
        network = create_model(name, num_classes=10).eval()
        for block in network.modules():
            if not isinstance(getattr(block, "downsample", None), nn.Identity):
                continue
            convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
            nn.init.zeros_(convolutions[-1].weight)
            x = torch.rand((1, convolutions[0].in_channels, 8, 8), generator=generator)
            with torch.inference_mode():
                largest = max(largest, float((block(x.clone()) - x).abs().max()))
            tried += 1
    return tried, largest


def counts(summaries: dict[str, Summary], early: dict[str, int]) -> Table:
    rows = []
    for name, summary in summaries.items():
        layers = sum(row.kind in ("Conv2d", "Linear") for row in summary.rows if "downsample" not in row.name)
        moved = f"{early[name] / 1e9:.2f}" if name in early else "–"
        ours = f"{summary.multiply_adds / 1e9:.2f}"
        rows.append([name, layers, summary.parameters, ours, moved, f"{TABLE_1[name]:.1f}"])
    heads = ("network", "layers", "parameters", "G multiply-adds", "strides as in the paper", "paper, table 1")
    return Table(heads, rows, "Layers count neither the shortcuts' projections nor poolings.")


def draw_blocks() -> Drawing:
    """Plain, basic, bottleneck: the second block of a stage, read off the modules."""
    from striate.lectures.diagrams import draw_graph, new_figure
    from striate.lectures.networks import counted

    figure = new_figure(9.5, 4.6)
    row = figure.subplots(1, 3)
    for axes, (name, title) in zip(
        row,
        (("plain34", "plain"), ("resnet34", "basic (18, 34)"), ("resnet50", "bottleneck (50 and deeper)")),
        strict=True,
    ):
        network, _ = counted(name)
        block = network.get_submodule("layer1.1")
        nodes, edges = block_graph(block, with_sum=name != "plain34")
        draw_graph(nodes, edges, (3, 4), title, axes)
    return figure


def block_graph(block: nn.Module, with_sum: bool) -> tuple[dict, list]:
    """Nodes and edges of a residual block: its convolutions, and the way around them."""
    from torch import nn

    from striate.lectures.diagrams import Edge, Node

    layers = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
    nodes = {"in": Node(f"x: {layers[0].in_channels} maps", 0, 0, GREY, 2.0)}
    edges, last, y = [], "in", 0.0
    for index, layer in enumerate(layers):
        y += 1.1
        side = layer.kernel_size[0]
        norm = "norm, ReLU" if index < len(layers) - 1 else "norm"
        colour = BLUE if side == 3 else VIOLET
        nodes[str(index)] = Node(f"{side}×{side}, {layer.out_channels}; {norm}", 0, y, colour, 2.4)
        edges.append(Edge(last, str(index)))
        last = str(index)
    if with_sum:
        y += 1.1
        nodes["sum"] = Node("+", 0, y, ORANGE, 0.6)
        edges += [Edge(last, "sum"), Edge("in", "sum", around=1.75, label="x")]
        last = "sum"
    nodes["out"] = Node("ReLU", 0, y + 1.1, GREEN, 1.2)
    edges.append(Edge(last, "out"))
    return nodes, edges


def published_errors() -> tuple[list[Check], Table]:
    """The lecture's top-5 errors beside torchvision's metadata: quoted both."""
    from torchvision.models import get_model_weights

    rows, found = [], {}
    for name in ("vgg16", "vgg16_bn", "vgg19", "resnet18", "resnet50", "resnet101", "resnet152"):
        weights = get_model_weights(name).__members__["IMAGENET1K_V1"]
        accuracies = weights.meta["_metrics"]["ImageNet-1K"]
        found[name] = 100 - accuracies["acc@5"]
        rows.append([name, f"{100 - accuracies['acc@1']:.2f}", f"{found[name]:.2f}", _told(PUBLISHED.get(name))])
    check = Check(
        "top-5 error on ImageNet, ResNet-50 against VGG-16",
        "5.25 % against 7.1 %",
        f"{found['resnet50']:.2f} % against {found['vgg16']:.2f} %",
        found["resnet50"] < found["vgg16"],
        "Published figures, both sides: the lecture's (He et al., table 4) average over several scales and crops, "
        "torchvision's are of one centre crop, 224 pixels. Same order, a similar distance.",
    )
    heads = ("network", "top-1 error, one crop (%)", "top-5 error, one crop (%)", "top-5 in the paper (%)")
    return [check], Table(heads, rows, "One crop: torchvision's metadata of its first weights (IMAGENET1K_V1).")


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
