"""Convolution is linear, so it is a matrix: `x*h = Ax`, where every row of A holds the kernel, one step further on.

In one dimension A is banded, with equal numbers along every diagonal (Toeplitz); for pictures, unrolled row by row, it
is a Toeplitz matrix of Toeplitz blocks (doubly blocked). A is nearly empty and its few numbers repeat: that is what a
convolutional layer saves over a dense one. Its transpose carries gradients back, and is transposed convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.lectures.cells import matrix, sheet, told, word, written
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure, Section, Table

PYTHON = """
import torch
from striate.lectures.foundations.toeplitz import doubly_blocked

image, kernel = torch.rand(6, 7, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)
A = doubly_blocked(kernel, (6, 7))  # [8·8, 6·7]: full convolution
by_matrix = (A @ image.flatten()).view(8, 8)

flipped = kernel.flip(0, 1)[None, None]
by_library = torch.nn.functional.conv2d(image[None, None], flipped, padding=(2, 1))[0, 0]
print((by_matrix - by_library).abs().max())  # rounding
"""

HUES = (ORANGE, GREEN, VIOLET, BLUE)
EXACT = 1e-12  # of float64 sums of a few products around 1


def toeplitz(kernel: Tensor, size: int) -> Tensor:
    """A of full convolution in one dimension, [size + h - 1, size] for a kernel [h]: A[i, j] = k[i - j]."""
    rows = size + len(kernel) - 1
    offset = torch.arange(rows)[:, None] - torch.arange(size)  # [rows, size]
    inside = (offset >= 0) & (offset < len(kernel))
    return torch.where(inside, kernel[offset.clamp(0, len(kernel) - 1)], 0)


def doubly_blocked(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """A of full convolution of a picture unrolled row by row, [(H + h - 1)(W + w - 1), H W] for a kernel [h, w].

    Block (i, j) is the Toeplitz matrix of the kernel's row i - j, and zero where there is no such row.
    """
    height, width = size
    blocks = torch.stack([toeplitz(row, width) for row in kernel])  # [h, W + w - 1, W]
    index = toeplitz(torch.arange(1, len(kernel) + 1), height)  # [H + h - 1, H]: the kernel's row, from 1; 0: none
    blocks = torch.cat((torch.zeros_like(blocks[:1]), blocks))[index]  # [H + h - 1, H, W + w - 1, W]
    return blocks.transpose(1, 2).reshape(index.shape[0] * blocks.shape[2], height * width)


def full(image: Tensor, kernel: Tensor) -> Tensor:
    """Full convolution by the library: [H, W] and [h, w] → [H + h - 1, W + w - 1]."""
    (height, width), turned = kernel.shape, kernel.flip(0, 1)[None, None]
    return F.conv2d(image[None, None], turned, padding=(height - 1, width - 1))[0, 0]


def differences(seed: int = 0) -> dict[str, float]:
    """Largest difference between the matrix and the library, by what is compared; random numbers in -1..1."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64) * 2 - 1

    line, short = random(20), random(5)
    by_library = F.conv1d(line[None, None], short.flip(0)[None, None], padding=4)[0, 0]
    image, kernel = random(9, 12), random(3, 4)
    matrix_ = doubly_blocked(kernel, (9, 12))
    answer = full(image, kernel)
    back = F.conv_transpose2d(answer[None, None], kernel.flip(0, 1)[None, None], padding=(2, 3))[0, 0]
    photo = random(28, 28).float()
    return {
        "1-D, 20 numbers, kernel of 5": float((toeplitz(short, 20) @ line - by_library).abs().max()),
        "2-D, 9×12 pixels, kernel 3×4": float((matrix_ @ image.flatten() - answer.flatten()).abs().max()),
        "transposed, against conv_transpose2d": float((matrix_.T @ answer.flatten() - back.flatten()).abs().max()),
        "2-D, 28×28 in single precision": float(
            (doubly_blocked(kernel.float(), (28, 28)) @ photo.flatten() - full(photo, kernel.float()).flatten())
            .abs()
            .max()
        ),
    }


def show(setting: Setting) -> Shown:
    """Both matrices with their numbers, a larger one as a pattern, and how equal they are."""
    found = differences()
    line, short = torch.tensor([4.0, 1, 3, 0, 2]), torch.tensor([1.0, 2, 3])
    by_matrix = toeplitz(short, 5) @ line
    by_library = F.conv1d(line[None, None], short.flip(0)[None, None], padding=2)[0, 0]
    checks = [
        Check(
            "x*h = Ax, small whole numbers",
            told(by_library[None]),
            told(by_matrix[None]),
            bool(torch.equal(by_matrix, by_library)),
        )
    ]
    for what, difference in found.items():
        limit = 1e-5 if "single" in what else EXACT
        checks.append(Check(what, "equal to rounding", f"largest difference {difference:.1e}", difference < limit))
    rows = [savings(side, 3) for side in (8, 28, 224)]
    return Shown(
        tuple(checks),
        (
            Section(
                "In one dimension",
                "Full convolution of five numbers with three: seven answers. Each column is the kernel, one row lower.",
                [one_dimension(short, line)],
            ),
            Section(
                "In two dimensions",
                "The picture is unrolled row by row. Each colour is one row of the kernel, as a Toeplitz block; the "
                "blocks themselves repeat along the diagonals.",
                [two_dimensions(torch.tensor([[1.0, 2], [3, 4]]), (3, 3)), pattern((10, 10))],
            ),
            Section(
                "What is saved",
                "A dense layer of the same shape learns every entry; the convolution learns the kernel.",
                tables=[
                    Table(
                        ["picture", "kernel", "A", "entries of A", "not zero", "share", "different numbers"],
                        rows,
                        "Valid convolution, as a matrix",
                    )
                ],
            ),
        ),
    )


def savings(side: int, kernel: int) -> list[str | int]:
    """How much of A is there at all, for valid convolution of a square picture."""
    answers, pixels = (side - kernel + 1) ** 2, side**2
    filled = answers * kernel**2
    share = f"{100 * filled / (answers * pixels):.3g} %"
    size = f"{answers:,}×{pixels:,}"
    return [f"{side}×{side}", f"{kernel}×{kernel}", size, answers * pixels, filled, share, kernel**2]


def one_dimension(kernel: Tensor, line: Tensor) -> Figure:
    """A, x and the answer, every number shown; the kernel's numbers have a colour each."""
    band = toeplitz(kernel, len(line))
    drawing, axes = sheet(14.4, len(band) + 1.8)
    coloured(axes, toeplitz(torch.arange(1, len(kernel) + 1), len(line)), band, 0.5, 1.1)
    word(axes, 3, 0.6, "A", 11)
    matrix(axes, line[:, None], 6.4, 2.1, title="x", colour=BLUE)
    word(axes, 8.4, 4.6, "=", 14)
    matrix(axes, (band @ line)[:, None], 9.4, 1.1, title="x*h", colour=GREY)
    for index, value in enumerate(kernel.tolist()):
        matrix(axes, [[value]], 11.6, 3.1 + index, colour=HUES[index], largest=value)
    word(axes, 12.1, 2.72, "h", 11)
    return Figure(drawing, "Equal colours are equal numbers.", "The banded Toeplitz matrix of h = 1, 2, 3.")


def two_dimensions(kernel: Tensor, size: tuple[int, int]) -> Figure:
    """The doubly blocked matrix with its numbers, blocks apart."""
    blocks = doubly_blocked(kernel, size)
    numbering = torch.arange(1, kernel.numel() + 1).view(kernel.shape)
    which = (doubly_blocked(numbering, size) + kernel.shape[1] - 1) // kernel.shape[1]  # the kernel's row, from 1
    drawing, axes = sheet(13.2, len(blocks) + 2.4)
    coloured(axes, which, blocks, 0.5, 1.1)
    step = (size[1] + kernel.shape[1] - 1, size[1])
    for row in range(0, len(blocks) + 1, step[0]):
        axes.plot([0.5, 0.5 + blocks.shape[1]], [1.1 + row] * 2, color=GREY, linewidth=1.6)
    for column in range(0, blocks.shape[1] + 1, step[1]):
        axes.plot([0.5 + column] * 2, [1.1, 1.1 + len(blocks)], color=GREY, linewidth=1.6)
    word(axes, 5, 0.6, f"A, {len(blocks)}×{blocks.shape[1]}", 10.5)
    for row, values in enumerate(kernel.tolist()):
        for column, value in enumerate(values):
            matrix(axes, [[value]], 10.6 + column, 3 + row, colour=HUES[row], largest=float(kernel.max()))
    word(axes, 11.6, 2.6, "h", 11)
    caption = f"Full convolution of 3×3 pixels with 2×2 weights, {written(int((blocks != 0).sum()))} entries not zero."
    return Figure(drawing, caption, "The doubly blocked Toeplitz matrix of the kernel 1 2 / 3 4.")


def pattern(size: tuple[int, int]) -> Figure:
    """A larger A as a picture: every colour one of the kernel's nine weights."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure as Drawing
    from numpy import ma

    which = doubly_blocked(torch.arange(1, 10).view(3, 3), size)
    drawing = Drawing(figsize=(4.4, 6.1), layout="constrained")
    axes = drawing.add_subplot()
    hues = [
        *(shade(ORANGE, at) for at in range(3)),
        *(shade(GREEN, at) for at in range(3)),
        *(shade(VIOLET, at) for at in range(3)),
    ]
    axes.imshow(ma.masked_equal(which.numpy(), 0), cmap=ListedColormap(hues), interpolation="nearest")
    axes.set(xlabel="pixels of the picture", ylabel="pixels of the answer")
    filled = float((which != 0).float().mean())
    return Figure(
        drawing,
        f"The same for 10×10 pixels and 3×3 weights: {len(which)}×{which.shape[1]}, {filled:.1%} filled. "
        "Three bands of three diagonals.",
        "The pattern of a doubly blocked matrix: bands of diagonals.",
    )


def shade(colour: str, step: int) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    red, green, blue, _ = to_rgba(colour)
    return red, green, blue, (0.5, 1.0, 0.7)[step]


def coloured(axes, which: Tensor, values: Tensor, left: float, top: float) -> None:
    """A matrix whose cells take the colour of a number 1, 2, …; 0: pale."""
    for y, row in enumerate(values.tolist()):
        for x, value in enumerate(row):
            hue = HUES[int(which[y, x]) - 1] if which[y, x] else GREY
            largest = float(values.max()) if which[y, x] else 1.0
            matrix(axes, [[value]], left + x, top + y, colour=hue, largest=largest, size=10 if value else 8)
