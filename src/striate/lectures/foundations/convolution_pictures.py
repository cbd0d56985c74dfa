"""Drawings of A1: every number that goes in, and every number that comes out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from striate.lectures.cells import animation, arrow, matrix, rows_of, sheet, window, word, written
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, VIOLET, Figure


def slide(image: Tensor, kernel: Tensor, answer: Tensor, at: tuple[int, int] = (0, 0)) -> Figure:
    """Picture, kernel and answer in a row, the window at one place."""
    return Figure(
        slid(image, kernel, answer, at, len(answer) ** 2),
        "The window over the picture, the kernel, and the sum that it gives.",
        f"A picture {one_line(image)}, the kernel {one_line(kernel)}, and the answer {one_line(answer)}.",
    )


def sliding(image: Tensor, kernel: Tensor, answer: Tensor) -> Figure:
    """The same, moving: one frame a place."""
    height, width = answer.shape

    def frame(number: int):
        return slid(image, kernel, answer, divmod(number, width), number + 1)

    return Figure(
        animation(frame, height * width, 650, hold=4),
        "The same, place by place.",
        "Animation: the window moves over the picture and the answer fills up.",
    )


def slid(image: Tensor, kernel: Tensor, answer: Tensor, at: tuple[int, int], known: int):
    """The drawing of one step: answers after the first `known` are not there yet."""
    (height, width), (rows, columns) = image.shape, kernel.shape
    drawing, axes = sheet(width + columns + answer.shape[1] + 4.6, height + 1.9)
    x, middle = 0.5, 1 + height / 2
    y, left = at
    matrix(axes, image, x, 1, title="picture x")
    window(axes, x + left, 1 + y, columns, rows)
    x += width + 0.8
    word(axes, x, middle, "⋆", 16)
    x += 0.8
    matrix(axes, kernel, x, middle - rows / 2, title="kernel k", colour=ORANGE)
    x += columns + 0.8
    word(axes, x, middle, "=", 14)
    x += 0.8
    shown = [
        [value if index * answer.shape[1] + column < known else "" for column, value in enumerate(row)]
        for index, row in enumerate(answer.tolist())
    ]
    top = middle - len(answer) / 2
    matrix(axes, shown, x, top, title="answer y", colour=GREEN, largest=float(answer.abs().max()))
    window(axes, x + left, top + y, 1, 1)
    pixels = image[y : y + rows, left : left + columns].flatten().tolist()
    sum_ = " + ".join(f"{written(a)}·{written(b)}" for a, b in zip(pixels, kernel.flatten().tolist(), strict=True))
    word(axes, 0.5, height + 1.5, f"{sum_} = {written(float(answer[y, left]))}", 10, align="left")
    return drawing


def flip(image: Tensor, kernel: Tensor, correlated: Tensor, convolved: Tensor) -> Figure:
    """Cross-correlation above, convolution below, with the kernel as each uses it."""
    drawing, axes = sheet(16.4, 9.4)
    for top, name, used, answer, sign in (
        (1.2, "cross-correlation", kernel, correlated, "⋆"),
        (5.9, "convolution", kernel.flip(0, 1), convolved, "∗"),
    ):
        word(axes, 0.4, top + 1.5, name, 10.5, align="left")
        matrix(axes, image, 5.0, top, colour=BLUE, title="picture" if top < 2 else "")
        word(axes, 8.5, top + 1.5, sign, 16)
        matrix(axes, used, 9.1, top + 0.5, colour=ORANGE, title="as it is" if top < 2 else "turned by half a turn")
        word(axes, 12.1, top + 1.5, "=", 14)
        matrix(axes, answer, 13.2, top + 0.5, colour=GREEN)
    arrow(axes, (10.1, 3.9), (10.1, 5.7), ORANGE)
    return Figure(
        drawing,
        "The kernel’s last weight meets the first pixel of the window when it is flipped.",
        f"Cross-correlated: {one_line(correlated)}. Convolved: {one_line(convolved)}.",
        wide=True,
    )


def answered(name: str, image: Tensor, kernel: Tensor, answer: Tensor) -> Figure:
    """A case in a row: picture, filter, answer."""
    drawing, axes = sheet(17.2, 7.4)
    matrix(axes, image, 0.5, 1.0, title=name)
    word(axes, 7.2, 4, "⋆", 16)
    matrix(axes, kernel, 7.9, 2.5, title="filter")
    word(axes, 11.6, 4, "=", 14)
    matrix(axes, answer, 12.4, 2, title="answer", largest=30)
    caption = f"{name[0].upper()}{name[1:]}. Blue is positive, orange negative."
    return Figure(drawing, caption, f"Edge filter, {name}: {one_line(answer)}.")


def network(
    image: Tensor,
    upright: Tensor,
    found: tuple[Tensor, Tensor, Tensor, float],
    decision: tuple[float, float, float],
) -> Figure:
    """Picture → two maps → two maxima → one score."""
    first, second, pooled, score = found
    drawing, axes = sheet(21.2, 9.4)
    matrix(axes, image, 0.4, 2.7, title="picture")
    for top, name, kernel, answer, maximum in (
        (1.2, "upright filter", upright, first, pooled[0]),
        (5.7, "level filter", upright.T, second, pooled[1]),
    ):
        arrow(axes, (4.6, 4.7), (5.7, top + 1.5))
        matrix(axes, kernel, 6.0, top, title=name)
        word(axes, 9.6, top + 1.5, "→", 13)
        matrix(axes, answer, 10.2, top + 0.5, title="answer", largest=4)
        word(axes, 13.2, top + 1.5, "max →", 9.5)
        matrix(axes, [[float(maximum)]], 14.2, top + 1, largest=4)
        arrow(axes, (15.4, top + 1.5), (16.6, 4.7))
    *_, bias = decision
    sum_ = f"{written(float(pooled[0]))} + {written(float(pooled[1]))} {written(bias).replace('−', '− ')}"
    word(axes, 18.9, 4.1, f"{sum_} = {written(score)}", 10)
    word(axes, 18.9, 5.2, "> 0: axes" if score > 0 else "≤ 0: not axes", 12, GREEN if score > 0 else ORANGE)
    return Figure(
        drawing,
        "Convolution, max pooling, a linear layer.",
        f"The upright filter answers {one_line(first)}, the level one {one_line(second)}; the score is {score:g}.",
        wide=True,
    )


def letters(image: Sequence[str], kernel: Sequence[str], answer: Sequence[Sequence[str]]) -> Figure:
    """The symbolic example: sums written out."""
    drawing, axes = sheet(18.2, 5.7)
    matrix(axes, [list(row) for row in image], 0.5, 1.1, title="picture")
    word(axes, 4.2, 3.1, "⋆", 16)
    matrix(axes, [list(row) for row in kernel], 4.9, 2.1, title="filter", colour=ORANGE)
    word(axes, 7.6, 3.1, "=", 14)
    for y, row in enumerate(answer):
        for x, text in enumerate(row):
            matrix(axes, [[""]], 8.3 + 4.7 * x, 1.6 + y, colour=GREEN, cell=0.0)
            word(axes, 10.6 + 4.9 * x, 2.1 + y, text, 11)
    window(axes, 0.5, 1.1, 2, 2)
    window(axes, 8.3, 1.62, 4.6, 0.96)
    return Figure(drawing, "", "; ".join(", ".join(row) for row in answer) + ".", wide=True)


def bordered(image: Tensor, name: str, padding: int, stride: int, answer: Tensor) -> Figure:
    """The padded picture with the kernel at its first place (and, with a stride, its second), and the answer."""
    drawing, axes = sheet(17.6, 10.2)
    size = 5 + 2 * padding
    left = top = (9 - size) / 2 + 0.4
    top += 0.6
    matrix(axes, F.pad(image[None], [padding] * 4)[0], left, top)
    window(axes, left + padding, top + padding, 5, 5, GREY)
    for place in range(min(stride, 2)):
        window(axes, left + stride * place, top, 3, 3, (ORANGE, VIOLET)[place])
        window(axes, 13.4 - len(answer) / 2 + place, 5.5 - len(answer) / 2, 1, 1, (ORANGE, VIOLET)[place])
    matrix(axes, answer, 13.4 - len(answer) / 2, 5.5 - len(answer) / 2, largest=float(answer.abs().max()))
    word(axes, 8.8, 0.45, f"{name}: p = {padding}, s = {stride}, 5×5 → {len(answer)}×{len(answer)}", 10.5)
    return Figure(
        drawing,
        f"{name.capitalize()}: the picture in grey"
        + (", zeros around it" if padding else "")
        + ", the kernel’s first place in orange"
        + (", its second in violet." if stride > 1 else "."),
        f"{name}: {one_line(answer)}.",
    )


def channels(image: Tensor, filters: Tensor, biases: Tensor, answer: Tensor) -> Figure:
    """Three channels, two filters of three slices, every partial sum of one window."""
    drawing, axes = sheet(25.6, 26.2, unit=0.36)
    padded = F.pad(image, [1] * 4)
    y, x = 1, 1  # the window that is followed, in the answer
    hues = (ORANGE, VIOLET)
    for channel in range(3):
        top = 1.2 + 8.4 * channel
        matrix(axes, padded[channel], 0.4, top, title=f"channel {channel + 1}, padded", largest=4, size=9)
        window(axes, 0.4 + 2 * x, top + 2 * y, 3, 3, GREEN)
        for which, hue in enumerate(hues):
            place = 8.8 + 5.7 * which
            title = f"filter {which + 1}, slice {channel + 1}"
            matrix(axes, filters[which, channel], place, top + 1.2, title=title, largest=2, size=9)
            pixels = padded[channel, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
            part = float((pixels * filters[which, channel]).sum())
            word(axes, place + 1.5, top + 4.8, f"window · slice = {written(part)}", 9.5, hue)
    for which, hue in enumerate(hues):
        top = 3.4 + 9.4 * which
        matrix(axes, answer[which], 21.0, top, title=f"answer of filter {which + 1}", size=9)
        window(axes, 21.0 + x, top + y, 1, 1, hue)
        parts = [float((padded[c, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3] * filters[which, c]).sum()) for c in range(3)]
        bias = float(biases[which])
        sum_ = " + ".join(written(part) if part >= 0 else f"({written(part)})" for part in parts)
        word(axes, 22.5, top + 3.7, f"{sum_} + bias {written(bias)}", 9.5, hue)
        word(axes, 22.5, top + 4.6, f"= {written(float(answer[which, y, x]))}", 9.5, hue)
    return Figure(
        drawing,
        "Stride 2, padding 1: 5×5×3 becomes 3×3×2. The green window meets the slices of both filters.",
        f"Answers {one_line(answer[0])} and {one_line(answer[1])}.",
        wide=True,
    )


def one_line(values: Tensor) -> str:
    return rows_of(values).replace("\n", " / ")
