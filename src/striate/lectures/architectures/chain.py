"""Most networks that are taught are one line: [(Conv-ReLU)×N-Pool?]×M-(FC-ReLU)×K-softmax. Striate builds them from
exactly that line, and adds the classifier. Where batch norm stands, before or behind a pooling, is a letter's
difference; a perceptron of 784-256-128-10 is the line without convolutions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Figure, Section, Table

if TYPE_CHECKING:
    from striate.network_summary import Summary

PYTHON = """\
import striate

network = striate.create_model("(conv32-relu)x2-pool-(conv64-relu)x2-pool-fc128-relu", num_classes=10)
print(striate.summary(network, (1, 3, 32, 32)))
perceptron = striate.create_model("fc256-relu-fc128-relu", num_classes=10, in_chans=1)
print(f"784-256-128-10: {sum(p.numel() for p in perceptron.parameters()):,} parameters")
"""

# line, channels of the picture, its side
EXAMPLES = {
    "(conv32-relu)x2-pool-(conv64-relu)x2-pool-fc128-relu": (3, 32),
    "conv16-bn-relu-pool-conv32-bn-relu-pool-conv64-bn-relu-gap": (3, 32),
    "conv6k5p0-tanh-avgpool2-conv16k5p0-tanh-avgpool2-fc120-tanh-fc84-tanh": (1, 32),
}
MLP = "fc256-relu-fc128-relu"
GRAMMAR = (
    ("conv32", "3×3, stride 1, 32 filters, padding that keeps the size"),
    ("conv32k5s2p0", "kernel 5, stride 2, no padding"),
    ("pool, maxpool3s2, avgpool2", "max pooling 2×2; 3×3 with stride 2; average 2×2"),
    ("gap", "global average pooling: pictures of any size"),
    ("bn, lrn", "batch norm; local response norm"),
    ("relu, tanh, sigmoid, gelu, silu", "activations"),
    ("fc128, flatten, drop0.5", "dense; a map as a vector; dropout"),
    ("(conv32-relu)x2", "twice; groups nest"),
)


def show(setting: Setting) -> Shown:
    from striate.layers.sizes import dense_parameters
    from striate.lectures.diagrams import draw_volumes
    from striate.lectures.networks import counted, layers_of, numbered, volumes_of

    built = {
        line: counted(line, (side, side), in_chans=channels, image_size=(side, side))[1]
        for line, (channels, side) in EXAMPLES.items()
    }
    _, line = counted(MLP, (28, 28), in_chans=1, image_size=(28, 28))
    _, named = counted("mlp")
    by_sizes = dense_parameters((784, 256, 128, 10))
    largest = orders()
    as_lenet = built[list(EXAMPLES)[2]].parameters
    checks = (
        Check(
            "784-256-128-10",
            "235,146",
            f"{line.parameters:,} from the line, {named.parameters:,} by name, {by_sizes:,} by arithmetic",
            line.parameters == named.parameters == by_sizes == 235_146,
        ),
        Check(
            "LeNet-5 as a line",
            "61,706",
            f"{as_lenet:,}",
            as_lenet == 61_706,
        ),
        Check(
            "Conv-BN-ReLU-Pool and Conv-BN-Pool-ReLU",
            "two orders, both taught",
            f"the same values, largest difference {largest:g}",
            largest == 0,
            "ReLU never changes which of four values is the largest, so the cheaper order, pooling first, is free. With "
            "average pooling it would not be.",
        ),
    )
    sections = [
        Section("The grammar", "Layers are joined by -, repeated by (…)x3.", [], [Table(("word", "layer"), GRAMMAR)])
    ]
    for one, summary in built.items():
        figure = Figure(
            draw_volumes(numbered(volumes_of(summary)), 10),
            f"{summary.parameters:,} parameters, {summary.multiply_adds:,} multiply-adds.",
            f"The maps of {one} as solids.",
            wide=True,
        )
        sections.append(Section(one, "", [figure], [layers_of(_weighty(summary))]))
    return Shown(checks, tuple(sections))


def _weighty(summary: Summary) -> Summary:
    """Without layers that change neither a shape nor have parameters."""
    from dataclasses import replace

    kinds = ("Conv2d", "Linear", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")
    return replace(summary, rows=tuple(row for row in summary.rows if row.kind in kinds))


def orders() -> float:
    """The largest difference between the two orders of ReLU and max pooling, same weights, in evaluation mode."""
    import torch

    from striate.backbones import create_model

    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        first = create_model("conv16-bn-relu-pool-conv32-bn-relu-pool", num_classes=10).eval()
        second = create_model("conv16-bn-pool-relu-conv32-bn-pool-relu", num_classes=10).eval()
        second.load_state_dict(first.state_dict())
        images = torch.rand(4, 3, 32, 32)
        return float((first(images) - second(images)).abs().max())
