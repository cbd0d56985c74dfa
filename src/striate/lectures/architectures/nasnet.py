"""NASNet was not drawn by hand: a search chose, on small pictures, what happens inside two cells, one that keeps the
size of its maps and one that halves it (Zoph, Vasudevan, Shlens & Le, CVPR 2018). A cell reads the outputs of the last
two cells, adds five pairs of operations, and stacks the sums; the network is a braid of such cells, repeated and
widened. What was learnt for CIFAR-10 was then the best there was on ImageNet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.backbones.nasnet import Plan

PYTHON = """\
import torch, striate
from striate.backbones.nasnet import NORMAL

for left, right in NORMAL.pairs:
    print(left, "+", right)
with torch.device("meta"):
    network = striate.create_model("nasnetalarge")
print(f"{sum(p.numel() for p in network.parameters()):,} parameters")
"""

COLOURS = {"sep": BLUE, "avg": GREEN, "max": GREEN, "identity": GREY}


def show(setting: Setting) -> Shown:
    from striate.backbones.nasnet import NORMAL, REDUCTION, Cell
    from striate.lectures.networks import counted

    network, summary = counted("nasnetalarge")
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    normal = [cell for cell in cells if cell.plan is NORMAL]
    _, mobile = counted("nasnetamobile")
    checks = (
        Check("NASNet-A large: parameters", "88,753,150", f"{summary.parameters:,}", summary.parameters == 88_753_150),
        Check(
            "NASNet-A (6 @ 4032), table 2 of the paper",
            "88.9 million, 23.8 G multiply-adds",
            f"{summary.parameters / 1e6:.1f} million, {summary.multiply_adds / 1e9:.1f} G",
            abs(summary.parameters / 1e6 - 88.9) < 0.3 and abs(summary.multiply_adds / 1e9 - 23.8) < 0.3,
            "The public weights, whose count ours is, lack 0.1 million of the paper's.",
        ),
        Check(
            "NASNet-A mobile (4 @ 1056), table 3 of the paper",
            "5.3 million, 564 M multiply-adds",
            f"{mobile.parameters / 1e6:.1f} million, {mobile.multiply_adds / 1e6:.0f} M",
            f"{mobile.parameters / 1e6:.1f}" == "5.3" and abs(mobile.multiply_adds / 1e6 / 564 - 1) < 0.02,
        ),
        Check("normal cells: three stages of six", "18", str(len(normal)), len(normal) == 18),
        Check("pairs of operations in a cell", "5", str(len(NORMAL.pairs)), len(NORMAL.pairs) == 5),
    )
    return Shown(
        checks,
        (
            Section(
                "The normal cell",
                "h(i-1) and h(i) are the outputs of the last two cells; a separable convolution is a depthwise and a "
                "1×1 one, done twice over. The drawing is made from the data that builds our network.",
                [
                    Figure(
                        draw_cell(NORMAL),
                        "Figure 4 left of the paper: five sums, stacked with h(i-1), six times the width.",
                        "Two inputs, ten operations in five pairs, five sums, one stack.",
                        wide=True,
                    )
                ],
                [_operations(NORMAL)],
            ),
            Section(
                "The reduction cell",
                "What reads the inputs steps by 2. Two of its sums feed other pairs.",
                [
                    Figure(
                        draw_cell(REDUCTION),
                        "Figure 4 right: four sums stacked, maps half as large.",
                        "Two inputs, ten operations in five pairs, five sums of which two are read again, one stack.",
                        wide=True,
                    )
                ],
                [_operations(REDUCTION)],
            ),
            Section("The braid", "", [], [_cells(network, summary)]),
        ),
    )


NAMES = ("h(i-1)", "h(i)", "sum 1", "sum 2", "sum 3", "sum 4", "sum 5")


def _operations(plan: Plan) -> Table:
    rows = [
        [f"sum {number}", f"{left[0]} of {NAMES[left[1]]}", f"{right[0]} of {NAMES[right[1]]}"]
        for number, (left, right) in enumerate(plan.pairs, start=1)
    ]
    return Table(("", "left", "right"), rows)


def _cells(network: object, summary: object) -> Table:
    from striate.backbones.nasnet import REDUCTION, Cell

    found = {row.name: row for row in summary.grouped(1).rows}  # type: ignore[attr-defined]
    rows = []
    for name, module in network.named_children():  # type: ignore[attr-defined]
        if isinstance(module, Cell):
            kind = "reduction" if module.plan is REDUCTION else "normal"
            width = module.conv_1x1.conv.out_channels  # type: ignore[union-attr]
            rows.append([name, kind, width, len(module.plan.output) * width, found[name].multiply_adds])
    return Table(("cell", "kind", "width", "maps out", "multiply-adds"), rows)


def draw_cell(plan: Plan) -> Drawing:
    """The plan as a graph: inputs at the top, pairs of operations below, a sum under each pair, the stack at the foot.

    Pairs that read another pair's sum stand below it.
    """
    from striate.lectures.diagrams import Edge, Node, draw_graph

    wide = 2.56
    nodes = {
        NAMES[0]: Node(NAMES[0], 0.9 * wide, 0, VIOLET, 1.5),
        NAMES[1]: Node(NAMES[1], 3.1 * wide, 0, VIOLET, 1.5),
    }
    edges: list[Edge] = []
    depths: list[int] = []
    for number, pair in enumerate(plan.pairs):
        read = [depths[source - 2] for _, source in pair if source >= 2]
        depths.append(max(read, default=-1) + 1)
        top = 2.2 + 2.9 * depths[-1]
        total = NAMES[number + 2]
        for side, (name, source) in zip((-1, 1), pair, strict=True):
            key = f"{number}{side}"
            place = number * wide + side * 0.62
            nodes[key] = Node(name.replace("x", "×"), place, top, COLOURS[name.partition(" ")[0]], 1.14)
            edges += [Edge(NAMES[source], key), Edge(key, total)]
        nodes[total] = Node(f"+  {total}", number * wide, top + 1.15, ORANGE, 1.3)
    bottom = max(node.y for node in nodes.values()) + 1.5
    stacked = ", ".join(NAMES[source] for source in plan.output)
    nodes["out"] = Node(f"stacked: {stacked}", 2 * wide, bottom, GREY, 4 * wide + 2.4)
    for source in plan.output:
        if source == 0:
            edges.append(Edge(NAMES[0], "out", around=-1.75))
        else:
            edges.append(Edge(NAMES[source], "out"))
    return draw_graph(nodes, edges, (10.5, 0.62 * bottom + 1.0))
