"""A convolution filters and mixes channels at once; a depthwise separable one first filters each channel by itself,
then mixes them with a 1×1, for 1/C_out + 1/f² of the work (MobileNet V1, Howard et al. 2017). V2 turns the residual
block inside out (Sandler et al., CVPR 2018): thin maps are handed on, and only inside a block there are many, each
filtered alone. The thin ends have no activation, since a ReLU would destroy what few channels hold.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

PYTHON = """\
from torch import nn
import striate

maps, out, f = (128, 56, 56), 256, 3
full = striate.summary(nn.Conv2d(128, out, f, padding=1), maps).multiply_adds
separable = nn.Sequential(nn.Conv2d(128, 128, f, padding=1, groups=128), nn.Conv2d(128, out, 1))
cost = striate.summary(separable, maps).multiply_adds / full
print(f"{cost:.6f} of the multiply-adds; 1/C_out + 1/f² = {1 / out + 1 / f**2:.6f}")
"""

CHANNELS, KERNELS, SIDES = (8, 32, 64, 128, 256, 512, 1024), (3, 5, 7), (7, 28)
SIZES = ("mobilenet_v1", "mobilenet_v1_075", "mobilenet_v1_050", "mobilenet_v2", "mobilenet_v2_075", "mobilenet_v2_050")
LARGER = ("vgg16", "resnet50", "mobilenet_v1", "mobilenet_v2")


def show(setting: Setting) -> Shown:
    from striate.lectures.diagrams import draw_bars
    from striate.lectures.networks import MIB, counted

    measured = ratios()
    exact = sum(value == Fraction(1, out) + Fraction(1, f * f) for (out, f, *_), value in measured.items())
    lengths = {name: counted(name)[1] for name in dict.fromkeys((*SIZES, *LARGER, "mobilenet_v3_small"))}
    sizes = [lengths[name].parameter_bytes / MIB for name in SIZES]
    v1 = lengths["mobilenet_v1"]
    twin = counted_in_full()
    checks = (
        Check(
            "cost of a depthwise separable layer, over a full one",
            "1/C_out + 1/f²",
            f"equal, as fractions, for {exact} of {len(measured)} layers",
            exact == len(measured),
            "Counted from real layers: C_out 8 to 1,024, f 3, 5 and 7, two sizes of map, three numbers of inputs.",
        ),
        Check(
            "for 3×3",
            "8 to 9 times less work (the paper, section 3.1)",
            f"{float(1 / measured[64, 3, 28, 64]):.2f} times with 64 channels, "
            f"{float(1 / measured[1024, 3, 28, 64]):.2f} with 1,024",
            all(8 <= round(1 / measured[out, 3, 28, 64]) <= 9 for out in (64, 128, 256, 512, 1024)),
            "In whole numbers; the fewer channels come out, the more 1/C_out counts.",
        ),
        Check("MobileNet V1: parameters", "4,231,976", f"{v1.parameters:,}", v1.parameters == 4_231_976),
        Check(
            "MobileNet V2: parameters",
            "3,504,872",
            f"{lengths['mobilenet_v2'].parameters:,}",
            lengths["mobilenet_v2"].parameters == 3_504_872,
        ),
        Check(
            "sizes of mobile networks",
            "5 to 16 MB",
            f"{min(sizes):.1f} to {max(sizes):.1f} MB",
            round(min(sizes)) == 5 and round(max(sizes)) == 16,
            "float32 weights of V1 and V2, half to full width; MB of 1,024² bytes.",
        ),
    )
    bars = draw_bars(
        LARGER,
        {
            "parameters (M)": [lengths[name].parameters / 1e6 for name in LARGER],
            "multiply-adds (G)": [lengths[name].multiply_adds / 1e9 for name in LARGER],
            "MB on disk": [lengths[name].parameter_bytes / MIB for name in LARGER],
        },
        colours=[GREY, GREY, BLUE, BLUE],
    )
    rows = [
        [name, one.parameters, one.multiply_adds, f"{one.parameter_bytes / MIB:.1f}"]
        for name, one in lengths.items()
        if name.startswith("mobile")
    ]
    return Shown(
        checks,
        (
            Section(
                "Filtering and mixing apart",
                f"All 13 blocks of MobileNet V1 together: {v1.multiply_adds / 1e6:.0f} M multiply-adds; the same "
                f"network with full 3×3 convolutions {twin / 1e6:,.0f} M, {twin / v1.multiply_adds:.1f} times as many "
                "(the paper's table 4: 569 and 4,866).",
                [
                    Figure(
                        draw_ratios(measured),
                        "Lines: the formula. Dots: multiply-adds of real layers, divided. What the mixing costs "
                        "vanishes with many channels; 1/f² remains.",
                        "Three falling curves, one a kernel size, with dots exactly on them.",
                    ),
                    Figure(
                        draw_split(),
                        "The depthwise layer is nearly free: what is left to pay is the 1×1.",
                        "Stacked bars of depthwise and 1×1 work by layer.",
                    ),
                ],
            ),
            Section(
                "The block turned inside out",
                "A bottleneck is wide, narrow, wide; an inverted residual narrow, wide, narrow. The shortcut joins "
                "the thin ends, so what must be kept in memory is small.",
                [
                    Figure(
                        draw_blocks(),
                        "Channels as widths, from our modules: ResNet-50's layer1.1, MobileNet V2's features.3.",
                        "Two stacks of bars, one narrow in the middle, the other wide.",
                        wide=True,
                    )
                ],
            ),
            Section(
                "Sizes", "", [Figure(bars, "", "Bars of three costs for four networks.", wide=True)], [_table(rows)]
            ),
        ),
    )


def _table(rows: list[list[str | int | float]]) -> Table:
    return Table(("network", "parameters", "multiply-adds", "MB"), rows)


def ratios() -> dict[tuple[int, int, int, int], Fraction]:
    """(C_out, f, side of the map, C_in) → multiply-adds of the separable layer over those of the full one."""
    import torch
    from torch import nn

    from striate.backbones.mobilenet_v1 import DepthwiseSeparable
    from striate.network_summary import summarize

    found = {}
    with torch.device("meta"):
        for out, f, side, inputs in product(CHANNELS, KERNELS, SIDES, (16, 64, 96)):
            full = summarize(nn.Conv2d(inputs, out, f, padding=f // 2), (inputs, side, side)).multiply_adds
            block = DepthwiseSeparable(inputs, out, 1, 1)
            if f != 3:
                block.conv_dw = nn.Conv2d(inputs, inputs, f, padding=f // 2, groups=inputs)
            found[out, f, side, inputs] = Fraction(summarize(block, (inputs, side, side)).multiply_adds, full)
    return found


def counted_in_full() -> int:
    """Multiply-adds of MobileNet V1 with a full 3×3 in the place of each depthwise separable one."""
    from torch import nn

    from striate.backbones.mobilenet_v1 import DepthwiseSeparable
    from striate.lectures.networks import counted
    from striate.network_summary import summarize

    network, _ = counted("mobilenet_v1")
    for block in network.modules():
        if isinstance(block, DepthwiseSeparable):
            filters = block.conv_dw
            inputs, out, stride = filters.in_channels, block.conv_pw.out_channels, filters.stride
            block.conv_dw = nn.Conv2d(inputs, out, 3, stride, 1, device="meta")  # type: ignore[assignment]
            block.bn1, block.act1, block.conv_pw = nn.Identity(), nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return summarize(network, (3, 224, 224)).multiply_adds


def draw_ratios(measured: dict[tuple[int, int, int, int], Fraction]) -> Drawing:
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes

    figure = new_figure(4.9, 3.4)
    axes = plain_axes(figure.add_subplot())
    for f, colour in zip(KERNELS, (BLUE, ORANGE, GREEN), strict=True):
        axes.plot(CHANNELS, [1 / out + 1 / f**2 for out in CHANNELS], color=colour, linewidth=1.4)
        axes.plot(CHANNELS, [float(measured[out, f, 28, 64]) for out in CHANNELS], "o", color=colour, markersize=5)
        axes.text(1150, 1 / f**2, f"{f}×{f}", va="center", fontsize=LETTERS)
    axes.set_xscale("log", base=2)
    axes.set_xticks(CHANNELS, [str(out) for out in CHANNELS])
    axes.set(ylim=(0, None), xlim=(7, 1800))
    axes.set_xlabel("output channels", fontsize=LETTERS)
    axes.set_ylabel("share of a full convolution's work", fontsize=LETTERS)
    return figure


def draw_split() -> Drawing:
    """What each of V1's 13 blocks spends on filtering and on mixing."""
    from striate.lectures.diagrams import LETTERS, new_figure, plain_axes
    from striate.lectures.networks import counted

    _, summary = counted("mobilenet_v1")
    filters = [row.multiply_adds / 1e6 for row in summary.rows if row.name.endswith("conv_dw")]
    mixing = [row.multiply_adds / 1e6 for row in summary.rows if row.name.endswith("conv_pw")]
    figure = new_figure(4.9, 3.4)
    axes = plain_axes(figure.add_subplot())
    places = range(1, len(filters) + 1)
    axes.bar(places, mixing, color=VIOLET, width=0.7, label="1×1 across channels")
    axes.bar(places, filters, bottom=mixing, color=BLUE, width=0.7, label="3×3 on each channel")
    axes.set_xticks(places)
    axes.set_xlabel("block", fontsize=LETTERS)
    axes.set_ylabel("multiply-adds (M)", fontsize=LETTERS)
    axes.set_ylim(0, 1.3 * max(mixing))
    axes.legend(frameon=False, fontsize=LETTERS, loc="upper right", ncols=2)
    return figure


def draw_blocks() -> Drawing:
    """Channels drawn as widths: a bottleneck of ResNet-50 and an inverted residual of MobileNet V2."""
    from torch import nn

    from striate.lectures.diagrams import LETTERS, new_figure
    from striate.lectures.networks import counted

    figure = new_figure(8.6, 3.3)
    for axes, (name, place, title) in zip(
        figure.subplots(1, 2),
        (
            ("resnet50", "layer1.1", "bottleneck: wide, narrow, wide"),
            ("mobilenet_v2", "features.3", "inverted residual: narrow, wide, narrow"),
        ),
        strict=True,
    ):
        block = counted(name)[0].get_submodule(place)
        layers = [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        maps = [layers[0].in_channels, *(layer.out_channels for layer in layers)]
        widest = max(maps)
        for row, count in enumerate(maps):
            colour = GREY if row in (0, len(maps) - 1) else BLUE
            axes.barh(row, count / widest, left=-count / widest / 2, height=0.34, color=colour, alpha=0.75)
            axes.text(0.6, row, f"{count} maps", va="center", fontsize=LETTERS)
        for row, layer in enumerate(layers):
            alone = "depthwise " if layer.groups > 1 else ""
            side = layer.kernel_size[0]
            last = row == len(layers) - 1
            after = ("; + x, then ReLU" if name == "resnet50" else "; + x, no activation") if last else ""
            axes.text(0.02, row + 0.5, f"{alone}{side}×{side}{after}", ha="left", va="center", fontsize=LETTERS)
            axes.annotate(
                "", (0, row + 0.8), (0, row + 0.2), arrowprops={"arrowstyle": "-|>", "color": GREY, "shrinkA": 0}
            )
        left, last = [-maps[row] / widest / 2 for row in (0, -1)], len(maps) - 1
        axes.plot((left[0] - 0.01, -0.62, -0.62), (0, 0, last), color=ORANGE, linewidth=1.3, solid_joinstyle="round")
        axes.annotate(
            "",
            (left[1], last),
            (-0.62, last),
            arrowprops={"arrowstyle": "-|>", "color": ORANGE, "shrinkA": 0, "shrinkB": 0},
        )
        axes.set(xlim=(-0.75, 1.05), ylim=(len(maps) - 0.6, -0.5))
        axes.set_title(title, fontsize=LETTERS + 1)
        axes.set_axis_off()
    return figure
