"""VGG is one idea taken to its end: 3×3 convolutions only, 11 to 19 layers deep, maps halved five times and widths
doubled until 512 (Simonyan & Zisserman, ICLR 2015). Two 3×3 see what one 5×5 sees, three what a 7×7 sees, with fewer
weights and more rectifiers between them. It is simple and heavy: a ResNet-50 with a fifth of its parameters and a
quarter of its arithmetic errs less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.network_summary import Summary

PYTHON = """\
import striate

for name in ("vgg16", "resnet50"):
    table = striate.summary(striate.create_model(name), (1, 3, 224, 224))
    print(f"{name}: {table.parameters / 1e6:.1f} M parameters, {table.multiply_adds / 1e9:.2f} G multiply-adds, "
          f"{table.parameter_bytes / 2**20:.0f} MB")
"""

COLUMNS = {"A": "vgg11", "A-LRN": "vgg11_lrn", "B": "vgg13", "C": "vgg16c", "D": "vgg16", "E": "vgg19"}
TABLE_2 = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}  # millions of parameters, the paper
COMPARED = ("vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet152")
SECONDS = 1.0  # of timing a network


def show(setting: Setting) -> Shown:
    from striate.lectures.networks import MIB, counted

    found = {letter: counted(name)[1] for letter, name in COLUMNS.items()}
    with_norm = {letter: counted(f"{COLUMNS[letter]}_bn")[1] for letter in "ABDE"}
    sixteen = found["D"]
    convolutions = sum(row.multiply_adds for row in sixteen.rows if row.kind == "Conv2d")
    size = sixteen.parameter_bytes / MIB
    checks = [
        Check("VGG-16 (D): parameters", "138 million", f"{sixteen.parameters:,}", sixteen.parameters // 10**6 == 138),
        Check(
            "VGG-16: multiply-adds",
            "15.3 G",
            f"{sixteen.multiply_adds / 1e9:.2f} G",
            f"{convolutions / 1e9:.1f}" == "15.3",
            f"15.3 G is the convolutions alone: ours do {convolutions / 1e9:.3f} G; the three dense layers add "
            f"{(sixteen.multiply_adds - convolutions) / 1e9:.3f} G.",
        ),
        Check(
            "VGG-16: size of the file",
            "528 MB",
            f"{size:.1f} MB",
            round(size) == 528,
            "Four bytes a parameter; MB of 1,024² bytes, as torchvision counts.",
        ),
        Check(
            "VGG-19 (E): parameters",
            "about 140 million",
            f"{found['E'].parameters:,}",
            round(found["E"].parameters, -7) == 140_000_000,
        ),
    ]
    checks += [
        Check(
            f"{letter}: parameters (table 2 of the paper)",
            f"{printed} million",
            f"{found[letter].parameters / 1e6:.1f} million",
            round(found[letter].parameters / 1e6) == printed,
        )
        for letter, printed in TABLE_2.items()
    ]
    against = setting.remembered(
        "vgg-resnet", {"networks": COMPARED, "seconds": SECONDS, "batch": 1}, lambda: measured(setting)
    )
    check, section = compared(against)
    return Shown(
        (*checks, check),
        (
            Section(
                "Six networks, and four with batch norm",
                "Batch norm adds two numbers a map and no multiply-adds to speak of. Local response norm (A-LRN) has "
                "no parameters; C's three 1×1 convolutions are the only ones that are not 3×3.",
                [
                    Figure(
                        table_1(), "Table 1 of the paper, drawn from our networks: a row a layer.", _told(), wide=True
                    )
                ],
                [_counts(found, with_norm)],
            ),
            section,
        ),
    )


def _told() -> str:
    return "Six columns of stacked layers, 11 to 19 of them, coloured by width, with poolings between."


def _counts(found: dict[str, Summary], with_norm: dict[str, Summary]) -> Table:
    from striate.lectures.networks import MIB
    from striate.profiling.networks import published_top1

    rows: list[list[str | int | float | None]] = []
    for letter, summary in found.items():
        for norm, counts in (("", summary), ("_bn", with_norm.get(letter))):
            if counts is None:
                continue
            name = COLUMNS[letter] + norm
            layers = sum(row.kind in ("Conv2d", "Linear") for row in counts.rows)
            size = f"{counts.parameter_bytes / MIB:.1f}"
            top1 = _percent(published_top1(name))
            rows.append([letter, name, layers, counts.parameters, counts.multiply_adds, size, top1])
    heads = ("column", "network", "layers", "parameters", "multiply-adds", "MB", "published top-1 (%)")
    return Table(heads, rows, "Top-1 of torchvision's weights; nobody published weights of A-LRN and C there.")


def table_1() -> Drawing:
    """The six columns, each layer a brick of its width's colour; poolings in line with each other."""
    from matplotlib.patches import FancyBboxPatch

    from striate.backbones.vgg import CONFIGURATIONS
    from striate.lectures.diagrams import LETTERS, new_figure

    tones = {64: "#93c5fd", 128: "#60a5fa", 256: BLUE, 512: VIOLET}
    figure = new_figure(9.6, 6.4)
    axes = figure.add_subplot()

    def brick(column: int, y: float, text: str, colour: str, wash: float = 0.35) -> None:
        corner = (column - 0.45, y - 0.4)
        for face, line, opacity in ((colour, "none", wash), ("none", colour, 1)):
            axes.add_patch(
                FancyBboxPatch(
                    corner,
                    0.9,
                    0.8,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=face,
                    edgecolor=line,
                    alpha=opacity,
                    linewidth=0.8,
                )
            )
        axes.text(column, y, text, ha="center", va="center", fontsize=LETTERS - 1)

    groups = {letter: _groups(steps) for letter, steps in CONFIGURATIONS.items()}
    top = 0.0
    for level in range(5):
        rows = max(len(levels[level]) for levels in groups.values())
        for column, letter in enumerate(COLUMNS):
            width = 64
            for row, step in enumerate(groups[letter][level]):
                if isinstance(step, int):
                    width = step
                name = {"LRN": "LRN", "1x1": f"1×1  {width}"}.get(str(step), f"3×3  {width}")
                colour = {"LRN": GREY, "1x1": ORANGE}.get(str(step), tones[width])
                brick(column, top + row, name, colour)
        top += rows
        axes.plot((-0.5, 5.5), (top - 0.25, top - 0.25), color=GREEN, linewidth=1.6)
        side = 224 // 2 ** (level + 1)
        axes.text(5.58, top - 0.25, f"max pooling\n{side}×{side}", va="center", fontsize=LETTERS - 1)
        top += 0.5
    for text in ("dense  4096", "dense  4096", "dense  1000"):
        for column in range(6):
            brick(column, top, text, ORANGE, 0.18)
        top += 1
    for column, (letter, name) in enumerate(COLUMNS.items()):
        axes.text(column, -1.2, letter, ha="center", va="center", fontsize=LETTERS + 3)
        axes.text(column, -0.68, name, ha="center", va="center", fontsize=LETTERS - 1)
    axes.set(xlim=(-0.6, 6.5), ylim=(top - 0.4, -1.55))
    axes.set_axis_off()
    return figure


def _groups(steps: tuple[int | str, ...]) -> list[list[int | str]]:
    """The layers before each of the five poolings."""
    groups: list[list[int | str]] = [[]]
    for step in steps:
        if step == "M":
            groups.append([])
        else:
            groups[-1].append(step)
    return groups[:5]


def measured(setting: Setting) -> dict[str, Any]:
    """Each network's counts, milliseconds for one picture (median, taken in turns), and memory."""
    from striate.profiling.measure import measure
    from striate.profiling.networks import find_networks

    costs = measure(find_networks(COMPARED), batch=1, seconds=SECONDS, progress=setting.say)
    return {cost.network.name: cost.to_dict() for cost in costs}


def compared(costs: dict[str, Any]) -> tuple[Check, Section]:
    """VGG against ResNet: what is claimed, the bars, the table."""
    from striate.lectures.diagrams import draw_bars
    from striate.lectures.networks import MIB

    vgg, resnet = costs["vgg16"], costs["resnet50"]
    less = {key: vgg[key] / resnet[key] for key in ("parameters", "multiply_adds", "file_bytes", "latency_ms")}
    check = Check(
        "ResNet-50 against VGG-16",
        "fewer parameters, less arithmetic, smaller, faster",
        f"{less['parameters']:.1f}, {less['multiply_adds']:.1f}, {less['file_bytes']:.1f} and "
        f"{less['latency_ms']:.1f} times",
        all(value > 1 for value in less.values()),
        f"One picture in {vgg['latency_ms']:.0f} ms and {resnet['latency_ms']:.0f} ms on the machine that made this "
        "page, median of runs taken in turns.",
    )
    names = list(COMPARED)
    bars = draw_bars(
        names,
        {
            "parameters (M)": [costs[name]["parameters"] / 1e6 for name in names],
            "multiply-adds (G)": [costs[name]["multiply_adds"] / 1e9 for name in names],
            "ms a picture": [costs[name]["latency_ms"] for name in names],
            "MB on disk": [costs[name]["file_bytes"] / MIB for name in names],
        },
        colours=[ORANGE if name.startswith("vgg") else BLUE for name in names],
        width=11,
    )
    rows = [
        [
            name,
            costs[name]["parameters"],
            f"{costs[name]['multiply_adds'] / 1e9:.2f}",
            f"{costs[name]['latency_ms']:,.1f}",
            f"{costs[name]['file_bytes'] / MIB:.1f}",
            f"{(costs[name]['memory_bytes'] or 0) / MIB:,.0f}",
            _percent(costs[name]["top1"]),
        ]
        for name in names
    ]
    heads = ("network", "parameters", "G multiply-adds", "ms", "MB", "peak MB", "top-1 (%)")
    return check, Section(
        "VGG against ResNet",
        "Fewer layers are not less work: VGG's first layers run 64 maps at full size, and its first dense layer alone "
        "has 103 million weights.",
        [Figure(bars, "Orange: VGG, blue: ResNet.", "Bars of four costs for six networks.", wide=True)],
        [
            Table(
                heads,
                rows,
                "Measured in float32, a picture at a time; peak: weights and inference. Top-1: published.",
            )
        ],
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
