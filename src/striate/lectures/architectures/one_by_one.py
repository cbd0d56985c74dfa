"""A 1×1 convolution looks at one place and mixes its channels: the same small dense layer at every pixel, a product of
matrices (Lin, Chen & Yan 2014). Read the other way, a dense layer on a map of h × w is a convolution with a kernel of
h × w, and a classifier written so takes larger pictures and gives a map of scores (Long, Shelhamer & Darrell, CVPR
2015). Nothing is learnt anew: the weights are only laid out differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure, Section, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

PYTHON = """\
import torch, striate
from striate.tasks.detect.sliding import fully_convolutional

conv, x = torch.nn.Conv2d(192, 32, 1, bias=False), torch.rand(1, 192, 28, 28)
product = conv.weight[:, :, 0, 0] @ x.flatten(2)  # [32, 192] times [192, 784]
print("1x1 against a product:", float((conv(x).flatten(2) - product).abs().max()))
lenet = striate.create_model("lenet5", num_classes=10, in_chans=1).eval()
everywhere, image = fully_convolutional(lenet), torch.rand(1, 1, 48, 64)
print("scores of a 48 x 64 picture:", tuple(everywhere(image).shape))
print("first window:", float((everywhere(image)[..., 0, 0] - lenet(image[..., :32, :32])).abs().max()))
"""

DENSE = {"lenet5": (1, 32, 32), "alexnet": (3, 224, 224), "vgg11": (3, 224, 224)}


def show(setting: Setting) -> Shown:
    difference, rounding = by_product()
    rows, largest = dense_as_convolution()
    shape = (1, 10, 4, 6)
    checks = (
        Check(
            "a 1×1 convolution against a product of matrices",
            "the same",
            f"largest difference {difference:g}",
            difference == 0,
            "Exactly: whole numbers, 192 channels to 32 at 28×28 places, so that no sum is rounded. With real numbers "
            f"in float32 {rounding:.1g}, since the sums are taken in another order.",
        ),
        Check(
            "28×28×192 by 1×1 to 32 channels",
            "28×28×32",
            "×".join(map(str, shrink())),
            shrink() == (28, 28, 32),
        ),
        Check(
            "dense layers as convolutions",
            "the same scores",
            f"largest difference {largest:.1g} of the scores' deviation",
            largest < 1e-4,
            ", ".join(DENSE) + ": random weights and a random picture of each network's own size, float32.",
        ),
        Check(
            "on a larger picture",
            "a map of scores",
            "×".join(map(str, larger()[1:])),
            larger() == shape,
            "LeNet-5 on 44×52: windows of 32 pixels at every fourth place, (44 - 32) / 4 + 1 = 4 and "
            "(52 - 32) / 4 + 1 = 6.",
        ),
    )
    return Shown(
        checks,
        (
            Section(
                "One pixel, all channels",
                "Each place is a column of channels; the 1×1 convolution multiplies every column by the same matrix.",
                [
                    Figure(
                        draw_product(),
                        "A convolution's weights [32, 192, 1, 1] are a matrix [32, 192]; a map [192, 28, 28] is a "
                        "matrix [192, 784].",
                        "A matrix times a wide matrix equals a wide matrix, columns marked.",
                        wide=True,
                    )
                ],
            ),
            Section(
                "Dense layers, laid out as kernels",
                "A dense layer after a map of h × w × C has a weight for every place and channel; as a kernel "
                "of h × w it fits the map in exactly one place. On a larger map it fits in many.",
                [
                    Figure(
                        draw_layout(),
                        "Left: a dense layer on a map as large as its kernel: one place. Right: on a larger map.",
                        "A kernel on a map of its own size, and on a larger map with several places.",
                        wide=True,
                    )
                ],
                [Table(("network", "dense layer", "as a kernel", "weights", "largest difference"), rows)],
            ),
        ),
    )


def by_product() -> tuple[float, float]:
    """The largest difference of a 1×1 convolution and a product of matrices: whole numbers, and real ones."""
    import torch
    from torch.nn import functional as F

    generator = torch.Generator().manual_seed(0)
    weights, maps = (
        torch.randint(-9, 10, shape, generator=generator).double() for shape in ((32, 192, 1, 1), (1, 192, 28, 28))
    )

    def apart(weights: Tensor, maps: Tensor) -> float:
        product = weights[:, :, 0, 0] @ maps.flatten(2)
        return float((F.conv2d(maps, weights).flatten(2) - product).abs().max())

    real = torch.rand((32, 192, 1, 1), generator=generator) - 0.5, torch.rand((1, 192, 28, 28), generator=generator)
    return apart(weights, maps), apart(*real)


def shrink() -> tuple[int, ...]:
    """Height, width and channels of what a 1×1 convolution of 32 filters makes of 28×28×192."""
    from torch import nn

    from striate.network_summary import summarize

    output = summarize(nn.Conv2d(192, 32, 1), (192, 28, 28)).rows[0].output
    return (*output[2:], output[1])


def dense_as_convolution() -> tuple[list[list[str | int | float]], float]:
    """A row for every dense layer, and the largest difference of scores, over their deviation."""
    import torch
    from torch import nn

    from striate.backbones import create_model
    from striate.tasks.detect.sliding import fully_convolutional

    rows: list[list[str | int | float]] = []
    largest = 0.0
    for name, shape in DENSE.items():
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            network = create_model(name, num_classes=10, in_chans=shape[0]).eval()
            image = torch.rand(1, *shape)
            convolutional = fully_convolutional(network).eval()
            scores = network(image)
            apart = float((convolutional(image)[..., 0, 0] - scores).abs().max() / scores.std())
        largest = max(largest, apart)
        dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        kernels = [layer for layer in convolutional.layers if isinstance(layer, nn.Conv2d)][-len(dense) :]
        for layer, kernel in zip(dense, kernels, strict=True):
            told = f"{layer.in_features:,} → {layer.out_features:,}"
            side = "×".join(map(str, (*kernel.kernel_size, kernel.in_channels)))
            rows.append([name, told, f"{layer.out_features:,} of {side}", kernel.weight.numel(), f"{apart:.1g}"])
    return rows, largest


def larger() -> tuple[int, ...]:
    """Shape of LeNet-5's scores on a picture of 44×52."""
    import torch

    from striate.backbones import create_model
    from striate.tasks.detect.sliding import fully_convolutional

    with torch.inference_mode():
        network = fully_convolutional(create_model("lenet5", num_classes=10, in_chans=1)).eval()
        return tuple(network(torch.rand(1, 1, 44, 52)).shape)


def draw_product() -> Drawing:
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, WASH, new_figure

    figure = new_figure(9.4, 2.5)
    axes = figure.add_subplot()

    def matrix(left: float, width: float, height: float, colour: str, told: str) -> None:
        for face, line, opacity in ((colour, "none", WASH), ("none", colour, 1)):
            axes.add_patch(
                Rectangle(
                    (left, -height / 2), width, height, facecolor=face, edgecolor=line, alpha=opacity, linewidth=1
                )
            )
        axes.text(left + width / 2, -1.22, told, ha="center", va="top", fontsize=LETTERS)

    def column(left: float, height: float, colour: str) -> None:
        axes.add_patch(Rectangle((left, -height / 2), 0.12, height, facecolor=colour, edgecolor="none", alpha=0.85))

    matrix(0, 2.0, 0.7, ORANGE, "weights\n32 × 192")
    matrix(2.6, 3.4, 2.0, BLUE, "maps, a column a place\n192 × 784")
    matrix(6.8, 3.4, 0.7, GREEN, "maps out, a column a place\n32 × 784")
    for place in (0.5, 1.6, 2.6):
        column(2.6 + place, 2.0, BLUE)
        column(6.8 + place, 0.7, GREEN)
    axes.text(2.3, 0, "·", ha="center", va="center", fontsize=18)
    axes.text(6.4, 0, "=", ha="center", va="center", fontsize=16)
    axes.set(xlim=(-0.1, 10.3), ylim=(-1.75, 1.1))
    axes.set_axis_off()
    return figure


def draw_layout() -> Drawing:
    """LeNet-5's C5, 5×5 on 16 maps: on 5×5 places, and on the 8×10 that a picture of 44×52 has."""
    from matplotlib.patches import Rectangle

    from striate.lectures.diagrams import LETTERS, WASH, new_figure

    figure = new_figure(8.6, 3.2)
    axes = figure.add_subplot()

    def grid(left: int, rows: int, columns: int) -> None:
        for row in range(rows + 1):
            axes.plot((left, left + columns), (row, row), color=GREY, linewidth=0.7, alpha=0.7)
        for column in range(columns + 1):
            axes.plot((left + column, left + column), (0, rows), color=GREY, linewidth=0.7, alpha=0.7)

    grid(0, 5, 5)
    axes.add_patch(Rectangle((0, 0), 5, 5, facecolor=ORANGE, alpha=WASH, edgecolor=ORANGE))
    axes.text(2.5, 2.5, "120 kernels\nof 5×5×16", ha="center", va="center", fontsize=LETTERS)
    axes.text(2.5, 5.5, "picture of 32×32: map 5×5\none place, 120 numbers", ha="center", va="top", fontsize=LETTERS)
    grid(9, 8, 10)
    for left, top, colour in ((9, 0, ORANGE), (11, 2, BLUE), (14, 3, GREEN)):
        axes.add_patch(Rectangle((left, top), 5, 5, facecolor=colour, alpha=WASH, edgecolor=colour))
        axes.add_patch(Rectangle((left, top), 5, 5, facecolor="none", edgecolor=colour, linewidth=1.2))
    axes.text(14, 8.5, "picture of 44×52: map 8×10\n4×6 places, 120 maps", ha="center", va="top", fontsize=LETTERS)
    for row in range(4):
        for column in range(6):
            colour = {(0, 0): ORANGE, (2, 2): BLUE, (3, 5): GREEN}.get((row, column), GREY)
            corner = (22 + 0.9 * column, 2 + 0.9 * row)
            axes.add_patch(Rectangle(corner, 0.9, 0.9, facecolor=colour, alpha=0.55, edgecolor="white", linewidth=0.8))
    axes.annotate("", (21.7, 3.8), (19.4, 3.8), arrowprops={"arrowstyle": "-|>", "color": GREY})
    axes.text(24.7, 6.1, "a number for each place", ha="center", va="top", fontsize=LETTERS)
    axes.set(xlim=(-0.5, 28), ylim=(10.4, -0.3), aspect="equal")
    axes.set_axis_off()
    return figure
