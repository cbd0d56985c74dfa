"""GoogLeNet looks at every place with 1×1, 3×3 and 5×5 filters at once and stacks what they find (Szegedy et al., CVPR
2015). Done plainly that is dear, so a 1×1 convolution first squeezes the channels: a bottleneck that costs little and
saves nearly all. Twenty-two layers deep, it has a twelfth of AlexNet's parameters, and two auxiliary classifiers
half-way down that help it train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import nn

PYTHON = """\
from torch import nn
import striate

maps = (192, 28, 28)
direct = striate.summary(nn.Conv2d(192, 32, 5, padding=2), maps)
bottleneck = striate.summary(nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2)), maps)
print(f"direct {direct.multiply_adds / 1e6:.0f} M, "
      f"through 16 channels {' + '.join(f'{row.multiply_adds / 1e6:.1f} M' for row in bottleneck.rows)}: "
      f"{1 - bottleneck.multiply_adds / direct.multiply_adds:.0%} less")
"""

MAPS = (192, 28, 28)
# table 1's own column of parameters, thousands, from the first convolution to the classifier
TABLE_1 = (2.7, 112, 159, 380, 364, 437, 463, 580, 840, 1072, 1388, 1000)


def show(setting: Setting) -> Shown:
    from torch import nn

    from striate.lectures.networks import counted
    from striate.network_summary import summarize

    direct = summarize(nn.Conv2d(192, 32, 5, padding=2), MAPS).multiply_adds
    squeeze, wide = (
        row.multiply_adds
        for row in summarize(nn.Sequential(nn.Conv2d(192, 16, 1), nn.Conv2d(16, 32, 5, padding=2)), MAPS).rows
    )
    network, summary = counted("googlenet", large_kernel=5)
    _, as_torchvision = counted("googlenet")
    with_heads, _ = counted("googlenet", aux_logits=True)
    auxiliary = sum(
        value.numel() for name, value in with_heads.named_parameters() if name.startswith(("aux1.", "aux2."))
    )
    last = sum(parameter.numel() for parameter in network.fc.parameters())  # type: ignore[union-attr]
    norms = sum(value.numel() for name, value in network.named_parameters() if ".bn." in name)
    body = summary.parameters - last - norms
    saved = 1 - (squeeze + wide) / direct
    checks = (
        Check("5×5, 28×28×192 → 28×28×32, multiplications", "120 M", f"{direct:,}", round(direct / 1e6) == 120),
        Check("1×1 to 16 channels", "2.4 M", f"{squeeze:,}", f"{squeeze / 1e6:.1f}" == "2.4"),
        Check("5×5 from 16 to 32 channels", "10.0 M", f"{wide:,}", f"{wide / 1e6:.1f}" == "10.0"),
        Check("saved", "about 90 %", f"{saved:.1%}", round(saved, 1) == 0.9),
        Check("layers with weights, one after another", "22", str(depth(network)), depth(network) == 22),
        Check(
            "parameters without the auxiliary classifiers",
            "about 5 million",
            f"{summary.parameters:,}",
            round(body / 1e6) == 5,
            f"{body:,} of them are the convolutions'; the classifier has {last:,} and batch norm, "
            f"which the paper has not, {norms:,}. The paper's 5 million is its 'twelve times fewer' than AlexNet's 60; "
            f"its own table 1 sums to {sum(TABLE_1) / 1000:.1f} million. With torchvision's 3×3 in the place of 5×5: "
            f"{as_torchvision.parameters:,}.",
        ),
    )
    return Shown(
        checks,
        (
            Section(
                "A bottleneck is cheap",
                "The 1×1 convolution mixes the 192 channels into 16 at every place; the 5×5 then has 16 to look at, "
                "not 192.",
                [
                    Figure(
                        costs(direct, squeeze, wide),
                        "Counted from the layers themselves.",
                        "Two bars: 120 million multiplications against 2.4 and 10.0 million.",
                        wide=True,
                    )
                ],
            ),
            Section(
                "The inception block",
                "Naive, every pooling hands on all of its channels, and blocks grow without end. With 1×1 convolutions "
                "each branch is as wide as it is meant to be. Shown is block 3a, from our modules.",
                [
                    Figure(
                        draw_block("googlenet_naive"),
                        "Naive (figure 2a): 416 channels out, all kernels on all 192.",
                        "Four branches side by side from one input to one stack.",
                        wide=True,
                    ),
                    Figure(
                        draw_block("googlenet"),
                        "With reductions (figure 2b): 256 channels out.",
                        "The same four branches, three of them with a 1×1 convolution.",
                        wide=True,
                    ),
                ],
                [blocks(network)],
            ),
            Section(
                "Classifiers half-way down",
                f"While it trains, two small classifiers read blocks 4a and 4d; their losses count 0.3. They have "
                f"{auxiliary:,} parameters, which are thrown away afterwards.",
            ),
        ),
        notes=(
            "`create_model('googlenet')` has torchvision's names and weights, a 3×3 in the place of 5×5 among them; "
            "this page counts `large_kernel=5`, as published.",
        ),
    )


def depth(network: nn.Module) -> int:
    """Layers with weights on the longest way from picture to scores."""
    from torch import nn

    from striate.backbones.googlenet import Inception

    layers = 0
    for part in network.children():
        branches = list(part.children()) if isinstance(part, Inception) else [part]
        layers += max(sum(isinstance(one, nn.Conv2d | nn.Linear) for one in branch.modules()) for branch in branches)
    return layers


def costs(direct: int, squeeze: int, wide: int) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure

    figure = new_figure(9, 1.9)
    axes = figure.add_subplot()
    parts = ((0, 0, direct, ORANGE), (1, 0, squeeze, GREEN), (1, squeeze, wide, BLUE))
    for row, left, length, colour in parts:
        axes.barh(row, length / 1e6, left=left / 1e6, color=colour, height=0.6)
    axes.text(direct / 1e6 + 1.5, 0, f"{direct / 1e6:.0f} M", va="center", fontsize=LETTERS + 1)
    axes.text(
        (squeeze + wide) / 1e6 + 1.5,
        1,
        f"{squeeze / 1e6:.1f} M + {wide / 1e6:.1f} M: {1 - (squeeze + wide) / direct:.0%} less",
        va="center",
        fontsize=LETTERS + 1,
    )
    axes.set_yticks((0, 1), ("5×5 on 192 channels", "1×1 to 16, then 5×5"), fontsize=LETTERS + 1)
    axes.set(xlim=(0, 135), xlabel="multiplications (M)")
    axes.xaxis.label.set_size(LETTERS)
    axes.tick_params(axis="x", labelsize=LETTERS)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_block(name: str) -> Drawing:
    """Block 3a as our module has it: branches from its children, channels from their convolutions."""
    from torch import nn

    from striate.lectures.diagrams import Edge, Node, draw_graph
    from striate.lectures.networks import counted

    network, _ = counted(name, large_kernel=5)
    block = network.get_submodule("inception3a")
    inputs = MAPS[0]
    nodes = {"in": Node(f"28×28×{inputs}", 2.7, 0, GREY, 6.85)}
    edges: list[Edge] = []
    ends: list[tuple[str, int]] = []
    colours = {1: VIOLET, 3: BLUE, 5: ORANGE}
    for column, (label, branch) in enumerate(block.named_children()):
        last, channels, y = "in", inputs, 1.15
        for index, layer in enumerate(one for one in branch.modules() if isinstance(one, nn.Conv2d | nn.MaxPool2d)):
            key = f"{label}.{index}"
            if isinstance(layer, nn.Conv2d):
                side, channels = layer.kernel_size[0], layer.out_channels
                nodes[key] = Node(f"{side}×{side}, {channels}", 1.8 * column, y, colours[side], 1.45)
            else:
                nodes[key] = Node("3×3 max pool", 1.8 * column, y, GREEN, 1.45)
            edges.append(Edge(last, key))
            last, y = key, y + 1.05
        ends.append((last, channels))
    bottom = max(node.y for node in nodes.values()) + 1.15
    total = sum(channels for _, channels in ends)
    stacked = " + ".join(str(channels) for _, channels in ends)
    nodes["out"] = Node(f"stacked: {stacked} = {total}", 2.7, bottom, GREY, 6.85)
    edges += [Edge(last, "out") for last, _ in ends]
    return draw_graph(nodes, edges, (8.2, 0.75 * bottom + 1.1))


def blocks(network: Any) -> Table:
    """The nine blocks: channels of every branch, parameters and multiply-adds, at 224×224."""
    from striate.backbones.googlenet import TABLE_1 as WIDTHS
    from striate.network_summary import summarize

    found = {row.name: row for row in summarize(network, (3, 224, 224)).grouped(1).rows}
    rows = []
    for name, widths in WIDTHS.items():
        row = found[name]
        side = row.output[-1]
        three, five = f"{widths.reduce_three} → {widths.three}", f"{widths.reduce_five} → {widths.five}"
        made = f"{side}×{side}×{row.output[1]}"
        rows.append([name, widths.one, three, five, widths.pool_projection, made, row.parameters, row.multiply_adds])
    return Table(("block", "1×1", "3×3", "5×5", "pool, 1×1", "output", "parameters", "multiply-adds"), rows)
