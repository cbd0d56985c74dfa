"""Pooling keeps one number of each window: its largest, or its mean. It has no weights and treats every channel alone.

The map gets smaller and the answer less particular about where something is: while a feature moves within its window
the maximum stays the same, which is called location invariance.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.lectures.cells import compared, matrix, sheet, window, word
from striate.lectures.foundations.kernels import KERNELS, filtered, photograph
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

PYTHON = """
import torch
from torch.nn.functional import avg_pool2d, max_pool2d

image = torch.tensor([[1., 2, 5, 3], [3, 0, 1, 2], [2, 1, 3, 4], [1, 1, 2, 0]])[None]
print(max_pool2d(image, kernel_size=2, stride=2))  # [[3, 5], [2, 4]]
print(avg_pool2d(image, kernel_size=2, stride=2))
print(max_pool2d(image, kernel_size=3, stride=2, padding=1))
"""

IMAGE = [[1, 2, 5, 3], [3, 0, 1, 2], [2, 1, 3, 4], [1, 1, 2, 0]]
HUES = (ORANGE, BLUE, GREEN, VIOLET)


def example() -> Tensor:
    """The lecture's picture, float64 [1, 4, 4]."""
    return torch.tensor([IMAGE], dtype=torch.float64)


def moved(shift: int) -> Tensor:
    """An 8×8 map, float64 [1, 8, 8], of two strong answers, moved right by `shift` places."""
    values = torch.zeros(1, 8, 8, dtype=torch.float64)
    values[0, 2, shift], values[0, 5, 4 + shift] = 9, 7
    return values


def unchanged(window_: int) -> dict[str, float]:
    """Share of outputs that one pixel's shift of a real map changes by less than a tenth of its spread.

    The map is the edge strength of the photograph; shifted maps are compared at the same places.
    """
    photo = photograph()
    across, down = filtered(photo, KERNELS["Sobel"].weights), filtered(photo, KERNELS["Sobel"].weights.T)
    edges = (across**2 + down**2).sqrt()
    here, there = edges[None, :252, 1:253], edges[None, :252, :252]
    pools = {
        "not pooled": lambda x: x,
        "max": lambda x: F.max_pool2d(x, window_),
        "mean": lambda x: F.avg_pool2d(x, window_),
    }
    limit = 0.1 * float(edges.std())
    return {name: float(((pool(here) - pool(there)).abs() < limit).double().mean()) for name, pool in pools.items()}


def checks() -> list[Check]:
    """The printed answer, and location invariance on the small map."""
    image = example()
    answers = [F.max_pool2d(moved(shift), 2) for shift in (0, 1, 2)]
    two_channels = torch.cat((image, -image))
    apart = torch.cat((F.max_pool2d(image, 2), F.max_pool2d(-image, 2)))
    return [
        compared("2×2, stride 2, max", [[3, 5], [2, 4]], F.max_pool2d(image, 2)[0]),
        Check(
            "A move within the window: the answer",
            "does not change",
            "the same" if torch.equal(answers[0], answers[1]) else "another",
            bool(torch.equal(answers[0], answers[1])),
        ),
        Check(
            "A move into the next window: the answer",
            "moves by one",
            "moved by one" if torch.equal(answers[0].roll(1, 2), answers[2]) else "another",
            bool(torch.equal(answers[0].roll(1, 2), answers[2])),
            "Invariance has an end: the window’s width.",
        ),
        Check(
            "Channels are pooled each for itself",
            "[C, H, W] → [C, H/2, W/2]",
            "equal to channel by channel" if torch.equal(F.max_pool2d(two_channels, 2), apart) else "mixed",
            bool(torch.equal(F.max_pool2d(two_channels, 2), apart)),
        ),
    ]


def show(setting: Setting) -> Shown:
    """The printed example both ways, pooling with overlap and padding, and how little a shift changes."""
    image = example()
    pooled = {size: unchanged(size) for size in (2, 4, 8)}
    rows = [[f"{size}×{size}", *(f"{100 * value:.0f} %" for value in found.values())] for size, found in pooled.items()]
    return Shown(
        tuple(checks()),
        (
            Section(
                "Max and average",
                "",
                [
                    pooled_drawing("max, 2×2, stride 2", image, F.max_pool2d(image, 2)),
                    pooled_drawing("average, 2×2, stride 2", image, F.avg_pool2d(image, 2)),
                    overlapping(image),
                ],
            ),
            Section(
                "Location invariance",
                "Two features move to the right. After one place they are still within their windows and the pooled "
                "map is the same to the last number; after two it has moved by one.",
                [shifts()],
            ),
            Section(
                "On a photograph",
                "Edge strength of the cameraman, moved by one pixel: the share of outputs that stay within a tenth of "
                "the map’s spread.",
                tables=[Table(["window", *next(iter(pooled.values()))], rows)],
            ),
        ),
    )


def pooled_drawing(name: str, image: Tensor, answer: Tensor) -> Figure:
    """Windows in colours, and what is kept of each."""
    drawing, axes = sheet(10.2, 6.0)
    for row in range(2):
        for column in range(2):
            hue = HUES[2 * row + column]
            part = image[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            matrix(axes, part, 0.6 + 2 * column, 1.2 + 2 * row, colour=hue, largest=6)
            matrix(axes, [[f"{float(answer[0, row, column]):g}"]], 7.0 + column, 2.2 + row, colour=hue)
            window(axes, 0.6 + 2 * column, 1.2 + 2 * row, 2, 2, hue)
    word(axes, 5.8, 3.2, "→", 16)
    word(axes, 5.1, 0.5, name, 10.5)
    return Figure(drawing, "", f"{name}: {answer[0].tolist()}.")


def overlapping(image: Tensor) -> Figure:
    """3×3 windows, stride 2, padding 1: they overlap, and the border counts as nothing."""
    answer = F.max_pool2d(image, 3, stride=2, padding=1)
    drawing, axes = sheet(12.2, 8.0)
    padded = [["−∞"] * 6, *(["−∞", *row, "−∞"] for row in IMAGE), ["−∞"] * 6]
    for y, row in enumerate(padded):
        for x, value in enumerate(row):
            border = isinstance(value, str)
            matrix(
                axes, [[value]], 0.6 + x, 1.2 + y, colour=GREY if border else BLUE, largest=6, size=8 if border else 10
            )
    for (y, x), hue in zip(((0, 0), (0, 2), (2, 0), (2, 2)), HUES, strict=True):
        window(axes, 0.6 + x + 0.06 * (x + y), 1.2 + y + 0.06 * (x + y), 3, 3, hue)
        matrix(axes, [[float(answer[0, y // 2, x // 2])]], 9.0 + x // 2, 3.2 + y // 2, colour=hue, largest=6)
    word(axes, 7.8, 4.2, "→", 16)
    word(axes, 6.1, 0.5, "max, 3×3, stride 2, padding 1", 10.5)
    return Figure(drawing, "Padding never wins: it counts as −∞.", f"Max pooling with overlap: {answer[0].tolist()}.")


def shifts() -> Figure:
    """Three positions of the map and what max pooling makes of each."""
    drawing, axes = sheet(28.4, 14.8, unit=0.34)
    for index, shift in enumerate((0, 1, 2)):
        left = 0.6 + 9.4 * index
        values = moved(shift)
        matrix(axes, values[0], left, 1.3, title=("here", "one to the right", "two to the right")[index], size=8.5)
        for y in range(0, 8, 2):
            for x in range(0, 8, 2):
                axes.plot(
                    [left + x, left + x + 2, left + x + 2], [1.3 + y, 1.3 + y, 1.3 + y + 2], color=GREY, linewidth=1.1
                )
        word(axes, left + 4, 9.8, "↓ max, 2×2", 9.5, GREY)
        same = torch.equal(F.max_pool2d(moved(0), 2), F.max_pool2d(values, 2))
        matrix(axes, F.max_pool2d(values, 2)[0], left + 2, 10.3, colour=GREEN if same else ORANGE, size=8.5)
    caption = "Green: the same answer as at first; orange: moved on."
    return Figure(drawing, caption, "Three maps, the feature moving right, and their pooled answers.", wide=True)
