"""How large the answer is, and how many numbers are learnt, follows from four whole numbers: size n, kernel f, padding
p and stride s give `⌊(n+2p−f)/s⌋+1` places along a side; f·f·c_in·c_out weights and c_out biases do it.

Where the stride does not fit evenly the last pixels are never seen, and it should be said. The counts do not know the
picture's size: that is why a convolutional layer has thousands of weights where a dense one would have billions.
"""

from __future__ import annotations

from striate.layers.sizes import (
    conv_output,
    conv_parameters,
    dense_parameters,
    exact_output,
    pool_output,
    uneven_stride,
)
from striate.lectures.cells import compared, matrix, sheet, window, word
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure, Section, Table

PYTHON = """
from striate.layers.sizes import conv_output, conv_parameters, dense_parameters, uneven_stride

print(conv_output(32, kernel=5, stride=1, padding=2))    # 32
print(uneven_stride(7, kernel=3, stride=3))              # (7 + 2·0 - 3) / 3 + 1 = 2.33
print(conv_output(227, kernel=11, stride=4))             # 55: AlexNet's first layer
print(conv_parameters(11, in_channels=3, out_channels=96))  # 34,944
print(dense_parameters((224 * 224 * 3, 55 * 55 * 96), bias=False))  # 43.7 billion
print(dense_parameters((784, 256, 128, 10)))             # 235,146
"""

# what, (n, f, s, p), channels out, printed
SIZES = (
    ("32×32×3, ten 5×5 filters, stride 1, pad 2", (32, 5, 1, 2), 10, "32×32×10"),
    ("32×32×3, six 5×5 filters", (32, 5, 1, 0), 6, "28×28×6"),
    ("227×227×3, 96 filters 11×11, stride 4 (AlexNet)", (227, 11, 4, 0), 96, "55×55×96"),
    ("5×5, kernel 4×4, pad 2", (5, 4, 1, 2), None, "6×6"),
    ("5×5, kernel 3×3, stride 2, pad 1", (5, 3, 2, 1), None, "3×3"),
)


def checks() -> list[Check]:
    """Every printed size and count beside what `striate.layers.sizes` says."""
    found = []
    for what, (size, kernel, stride, padding), channels, printed in SIZES:
        side = conv_output(size, kernel, stride, padding)
        ours = f"{side}×{side}" + (f"×{channels}" if channels else "")
        found.append(compared(what, printed, ours))
    alexnet_dense = dense_parameters((224 * 224 * 3, 55 * 55 * 96), bias=False)
    hidden = dense_parameters((200 * 200, 40_000), bias=False)
    exact = exact_output(7, 3, stride=3)
    return [
        *found,
        Check(
            "7×7, 3×3, stride 3: (7−3)/3+1",
            "2.33, does not fit",
            f"{exact:.2f}, floored to {conv_output(7, 3, 3)}",
            f"{exact:.2f}" == "2.33",
            uneven_stride(7, 3, stride=3) or "",
        ),
        compared(
            "Pooling 2×2, stride 2, of 28×28",
            "14",
            str(pool_output(28, 2)),
            "⌊(n−f)/s⌋+1; the size is ours, the formula is printed.",
        ),
        compared("Two 3×3×3 filters: parameters", "56", f"{conv_parameters(3, 3, 2):,}"),
        compared("AlexNet’s first layer: parameters", "34,944", f"{conv_parameters(11, 3, 96):,}"),
        Check(
            "The same as a dense layer: weights",
            "about 43.7·10⁹",
            f"{alexnet_dense:,} = {alexnet_dense / 1e9:.1f}·10⁹",
            f"{alexnet_dense / 1e9:.1f}" == "43.7",
            "The printed figure takes 224×224×3 inputs; with the 227×227 that give 55×55 it is "
            f"{dense_parameters((227 * 227 * 3, 55 * 55 * 96), bias=False) / 1e9:.1f}·10⁹.",
        ),
        compared("MLP 784-256-128-10: parameters", "235,146", f"{dense_parameters((784, 256, 128, 10)):,}"),
        Check(
            "200×200 pixels to 40,000 hidden units: weights",
            "about 2·10⁹",
            f"{hidden:,} = {hidden / 1e9:.1f}·10⁹",
            round(hidden / 1e9) == 2,
            "1.6 billion, which the lecture rounds to one digit.",
        ),
    ]


def show(setting: Setting) -> Shown:
    """The table of cases, the stride that does not fit, and counts of dense against convolutional layers."""
    rows: list[list[str | int]] = []
    for what, (size, kernel, stride, padding), _, printed in SIZES:
        side = conv_output(size, kernel, stride, padding)
        rows.append(
            [
                what,
                f"({size} + 2·{padding} − {kernel}) / {stride} + 1 = {exact_output(size, kernel, stride, padding):g}",
                side,
                printed,
            ]
        )
    rows.append(["7×7, 3×3, stride 3", "(7 + 2·0 − 3) / 3 + 1 = 2.33", conv_output(7, 3, 3), "2.33: does not fit"])
    return Shown(
        tuple(checks()),
        (
            Section(
                "Does the stride fit?",
                "A kernel of 3 on 7 pixels. With stride 3 the second place ends at pixel 6; the seventh is never seen: "
                f"{uneven_stride(7, 3, stride=3)}.",
                [strides(7, 3, stride) for stride in (1, 2, 3)],
            ),
            Section(
                "Thousands instead of billions",
                "Numbers learnt, on a scale where every line is ten times the last.",
                [counts()],
            ),
            Section("Every case", tables=[Table(["layer", "⌊(n + 2p − f) / s⌋ + 1", "side", "printed"], rows)]),
        ),
    )


def strides(size: int, kernel: int, stride: int) -> Figure:
    """All places along one row of pixels, and the pixels that none of them sees."""
    places = conv_output(size, kernel, stride)
    exact = exact_output(size, kernel, stride)
    drawing, axes = sheet(size + 2.4, size + 2.6)
    seen = (places - 1) * stride + kernel
    rows = [[("" if x < seen and y < seen else "×") for x in range(size)] for y in range(size)]
    matrix(axes, rows, 1.2, 1.2, colour=BLUE)
    for y in range(size):
        for x in range(size):
            if x >= seen or y >= seen:
                matrix(axes, [[""]], 1.2 + x, 1.2 + y, colour=RED)
    hues = (ORANGE, VIOLET, GREEN, BLUE, RED)
    for place in range(places):
        nudge = 0.1 * place if stride < kernel else 0.0
        window(axes, 1.2 + place * stride, 1.2 + nudge, kernel, kernel, hues[place])
    word(axes, 1.2 + size / 2, 0.6, f"stride {stride}: ({size} − {kernel}) / {stride} + 1 = {exact:.3g}", 11)
    ends = f"{places} places a side" + ("" if seen == size else "; a row and a column unseen (×)")
    word(axes, 1.2 + size / 2, size + 1.9, ends, 9.5, GREY if seen == size else RED)
    return Figure(
        drawing, "", f"Stride {stride} on 7 pixels with a kernel of 3: {places} places; {size - seen} unseen."
    )


def counts() -> Figure:
    """Bars on a logarithmic scale."""
    from matplotlib.figure import Figure as Drawing

    bars = [
        ("two 3×3×3 filters", conv_parameters(3, 3, 2), BLUE),
        ("AlexNet’s first layer, 96 filters 11×11×3", conv_parameters(11, 3, 96), BLUE),
        ("MLP 784-256-128-10", dense_parameters((784, 256, 128, 10)), ORANGE),
        ("200×200 pixels, dense to 40,000", dense_parameters((40_000, 40_000), bias=False), ORANGE),
        ("AlexNet’s first layer, dense", dense_parameters((224 * 224 * 3, 55 * 55 * 96), bias=False), ORANGE),
    ]
    drawing = Drawing(figsize=(8.6, 3.1), layout="constrained")
    axes = drawing.add_subplot()
    names, values, hues = zip(*bars, strict=True)
    axes.barh(names, values, color=hues, height=0.62)
    for row, value in enumerate(values):
        axes.text(value * 1.35, row, f"{value:,}", va="center", fontsize=10)
    axes.set(xscale="log", xlim=(10, 3e13), xlabel="numbers learnt")
    axes.invert_yaxis()
    axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return Figure(
        drawing,
        "Convolutional in blue, dense in orange.",
        "; ".join(f"{n}: {v:,}" for n, v, _ in bars) + ".",
        wide=True,
    )
