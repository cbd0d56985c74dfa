"""AlexNet made LeNet's plan large: five convolutions and three dense layers, 60 million parameters, 1.2 million
photographs (Krizhevsky, Sutskever & Hinton, NIPS 2012). Rectifiers instead of tanh let it learn several times faster,
dropout and augmentation kept it from learning its pictures by heart, and local response normalisation (section 3.3)
let strong maps quiet their neighbours. It halved nothing less than the field: 15.3 % top-5 error, where the next best
had 26.2 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from striate.network_summary import Summary

PYTHON = """\
import striate

for name in ("alexnet", "alexnet_original"):  # one column, as torchvision has it; two columns with LRN, as published
    network = striate.create_model(name)
    table = striate.summary(network, (1, 3, 224, 224))
    first = next(row for row in table.rows if row.kind == "Conv2d")
    print(f"{name}: {table.parameters:,} parameters, first layer {first.output[1:]}, {first.parameters:,} of them")
"""


def show(setting: Setting) -> Shown:
    from striate.lectures.diagrams import draw_bars, draw_volumes
    from striate.lectures.networks import counted, layers_of, numbered, volumes_of

    (_, today), (network, published) = counted("alexnet"), counted("alexnet_original")
    learnt = [row for row in published.rows if row.parameters]
    first = learnt[0]
    inputs, outputs = 3 * 224 * 224, first.output[1] * first.output[2] * first.output[3]
    neurons = sum(row.output[1] * (row.output[2] * row.output[3] if len(row.output) == 4 else 1) for row in learnt)
    norms = sum(row.kind == "LocalResponseNorm" for row in published.rows)
    checks = (
        Check("parameters, one column", "61,100,840", f"{today.parameters:,}", today.parameters == 61_100_840),
        Check(
            "parameters, as the lectures round them",
            "about 60 million",
            f"{published.parameters:,}",
            round(published.parameters, -7) == 60_000_000,
            "The network as published, in two columns.",
        ),
        Check("layers with weights", "8", str(len(learnt)), len(learnt) == 8),
        Check(
            "first layer: 96 filters of 11×11×3, stride 4",
            "55×55×96",
            "×".join(map(str, (*first.output[2:], first.output[1]))),
            tuple(first.output[1:]) == (96, 55, 55),
            "(224 + 2·2 - 11) / 4 + 1 = 55.25, floored; the lectures take 227 pixels without padding: exactly 55.",
        ),
        Check("its parameters", "34,944", f"{first.parameters:,}", first.parameters == 34_944),
        Check(
            "weights of a dense layer in its place",
            "about 43.7·10⁹",
            f"{inputs * outputs / 1e9:.1f}·10⁹",
            f"{inputs * outputs / 1e9:.1f}" == "43.7",
            f"{inputs:,} pixels times {outputs:,} outputs.",
        ),
        Check(
            "neurons (the paper's abstract)",
            "650,000",
            f"{neurons:,}",
            abs(neurons - 650_000) < 10_000,
            "Outputs of the eight layers.",
        ),
        Check("local response norms", "after layers 1 and 2", f"{norms} in the network", norms == 2),
    )
    volumes = Figure(
        draw_volumes(numbered(volumes_of(today)), width=11.5),
        "One column (torchvision's): convolutions in blue, poolings in green, dense layers in orange.",
        "The maps of AlexNet as solids, from 224×224×3 to 1,000 scores.",
        wide=True,
    )
    kinds = _shares(published)
    shares = Figure(
        draw_bars(
            list(kinds),
            {
                "parameters (M)": [value[0] / 1e6 for value in kinds.values()],
                "multiply-adds (M)": [value[1] / 1e6 for value in kinds.values()],
            },
            "{:,.1f}".format,
            [BLUE, ORANGE],
        ),
        "Convolutions do nearly all of the work with few of the parameters; dense layers the reverse.",
        "Bars: parameters and multiply-adds of convolutions against dense layers.",
        wide=True,
    )
    compared = Table(
        ("", "alexnet (2014)", "alexnet_original (2012)"),
        [
            ["maps of the convolutions", *(_widths(one) for one in (today, published))],
            ["local response norm", "none", "after convolutions 1 and 2"],
            ["groups of convolutions 1 to 5", "1, 1, 1, 1, 1", ", ".join(map(str, _groups(network)))],
            ["parameters", today.parameters, published.parameters],
            ["multiply-adds", today.multiply_adds, published.multiply_adds],
        ],
    )
    return Shown(
        checks,
        (
            Section("The network", "", [volumes], [layers_of(published)]),
            Section("Where its numbers are", "", [shares]),
            Section(
                "Two columns, or one",
                "The paper's network ran on two GPUs: in convolutions 2, 4 and 5 each sees only its own half of the "
                "maps, which is a convolution in two groups.",
                [],
                [compared],
            ),
        ),
    )


def _shares(summary: Summary) -> dict[str, tuple[int, int]]:
    """Parameters and multiply-adds, by kind of layer."""
    kinds = {"Conv2d": "convolutions", "Linear": "dense layers"}
    return {
        name: (
            sum(row.parameters for row in summary.rows if row.kind == kind),
            sum(row.multiply_adds for row in summary.rows if row.kind == kind),
        )
        for kind, name in kinds.items()
    }


def _widths(summary: Summary) -> str:
    return ", ".join(str(row.output[1]) for row in summary.rows if row.kind == "Conv2d")


def _groups(network: object) -> list[int]:
    from torch import nn

    assert isinstance(network, nn.Module)
    return [layer.groups for layer in network.modules() if isinstance(layer, nn.Conv2d)]
