"""A small matrix of weights slides over the picture; at every place its weights are multiplied with the pixels below
them and added up, and the sums are the next picture.

Slid as it is, that is cross-correlation, `y[s,t] = Σ k[τ,γ]·x[s+τ,t+γ]`, which is what every deep-learning library
computes under the name of convolution. Convolution proper turns the kernel by half a turn first,
`(x*k)[i,j] = Σ x[m,n]·k[i-m+H,j-n+W]`; as the weights are learnt, either learns the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.lectures.cells import compared, rows_of
from striate.lectures.foundations import convolution_pictures as pictures
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import Section

PYTHON = """
import torch
from torch.nn import functional as F

image = torch.tensor([[0., 80, 40], [20, 40, 0], [0, 0, 40]])
kernel = torch.tensor([[0, .25], [.5, 1]])

correlated = F.conv2d(image[None, None], kernel[None, None])[0, 0]
convolved = F.conv2d(image[None, None], kernel.flip(0, 1)[None, None])[0, 0]
print(correlated)
print(convolved)  # [[45, 110], [40, 40]]
"""

# The worked examples, as printed
EIGHTS = [[2, 7, 1, 8], [2, 8, 1, 8], [2, 8, 4, 5], [9, 0, 4, 5]], [[3, 1], [4, 5]]
FLIPPED = [[0, 80, 40], [20, 40, 0], [0, 0, 40]], [[0, 0.25], [0.5, 1]]
EDGE = [[1, 0, -1]] * 3
HALVES = [[10] * 3 + [0] * 3] * 6
QUARTERS = [[10] * 3 + [0] * 3] * 3 + [[0] * 3 + [10] * 3] * 3
FLAT_EDGE = [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
AXES = [[0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, -2, 0, -2]]
UPRIGHT = [[-0.5, 1, -0.5]] * 3
LETTERS, GREEK = ["abc", "def", "ghi", "jkl"], ["αβ", "γδ"]
# what decides "axes or not" after pooling: an upright and a level line, w·(upright, level) + b > 0
DECISION = (1.0, 1.0, -3.5)


def correlate(image: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Cross-correlation, [H, W] with [h, w] → [⌊(H + 2p - h) / s⌋ + 1, …]."""
    return F.conv2d(image[None, None], kernel[None, None], stride=stride, padding=padding)[0, 0]


def convolve(image: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolution: the kernel is turned by half a turn, then slid."""
    return correlate(image, kernel.flip(0, 1), stride, padding)


def correlate_letters(image: list[str], kernel: list[str]) -> list[list[str]]:
    """The same on letters: each output is a sum of products, written out."""
    height, width = len(kernel), len(kernel[0])
    return [
        [
            "+".join(image[top + y][left + x] + kernel[y][x] for y in range(height) for x in range(width))
            for left in range(len(image[0]) - width + 1)
        ]
        for top in range(len(image) - height + 1)
    ]


def axes_or_not(image: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Both filters' maps, the maximum of each, and the decision's score: above zero means axes."""
    upright = torch.tensor(UPRIGHT, dtype=image.dtype)
    maps = correlate(image, upright), correlate(image, upright.T)
    pooled = torch.stack([F.max_pool2d(one[None], 2)[0, 0, 0] for one in maps])
    *weights, bias = DECISION
    return *maps, pooled, float(pooled @ torch.tensor(weights, dtype=image.dtype) + bias)


def volume() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A picture of three channels [3, 5, 5], two filters [2, 3, 3, 3], their biases [2], the answer [2, 3, 3]."""
    generator = torch.Generator().manual_seed(4)
    image = torch.randint(0, 3, (3, 5, 5), generator=generator).double()
    filters = torch.randint(-1, 2, (2, 3, 3, 3), generator=generator).double()
    biases = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return image, filters, biases, F.conv2d(image[None], filters, biases, stride=2, padding=1)[0]


def whole(values: list[list[float]] | list[list[int]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def checks() -> list[Check]:
    """Every worked example beside what is computed now."""
    eights = correlate(*map(whole, EIGHTS))
    upright, level, pooled, score = axes_or_not(whole(AXES))
    mirrored = whole(HALVES).flip(1)
    letters = correlate_letters(LETTERS, GREEK)
    _, filters, biases, stacked = volume()
    count = filters.numel() + biases.numel()
    kernel = whole(EIGHTS[1])
    return [
        Check("Cross-correlation begins", "61 59 …", rows_of(eights), eights[0, :2].tolist() == [61, 59]),
        compared("Convolution, kernel flipped, valid", [[45, 110], [40, 40]], convolve(*map(whole, FLIPPED))),
        compared("Left half 10, upright edge filter", [[0, 30, 30, 0]] * 4, correlate(whole(HALVES), whole(EDGE))),
        compared("Halves exchanged", [[0, -30, -30, 0]] * 4, correlate(mirrored, whole(EDGE))),
        compared(
            "Four quarters, level edge filter",
            [[0] * 4, [30, 10, -10, -30], [30, 10, -10, -30], [0] * 4],
            correlate(whole(QUARTERS), whole(FLAT_EDGE)),
        ),
        compared("Cartesian axes, upright filter", [[2, -2], [-1, 1]], upright),
        compared("Cartesian axes, level filter", [[-1, -0.5], [3.5, 4]], level),
        Check(
            "Max pooling, then a linear layer",
            "axes",
            f"max {pooled[0]:g} and {pooled[1]:g} → score {score:g}: {'axes' if score > 0 else 'not axes'}",
            score > 0,
            "The lecture does not print the layer's weights; ours are 1, 1 and −3½, which also reject a single line.",
        ),
        compared("Letters: the first sum", "aα+bβ+dγ+eδ", letters[0][0]),
        compared("Letters: the last sum", "hα+iβ+kγ+lδ", letters[-1][-1], "By the same rule; printed as “…”."),
        compared("Two 3×3×3 filters with their biases: weights", 56, count),
        Check(
            "The filters' maps stack into a volume",
            "3×3×2",
            "×".join(map(str, (*stacked.shape[1:], stacked.shape[0]))),
            tuple(stacked.shape) == (2, 3, 3),
        ),
        Check(
            "Flipping twice is not flipping",
            "x*k = x⋆flip(k)",
            f"largest difference {(convolve(whole(EIGHTS[0]), kernel.flip(0, 1)) - eights).abs().max():g}",
            bool(torch.equal(convolve(whole(EIGHTS[0]), kernel.flip(0, 1)), eights)),
        ),
    ]


def borders() -> list[tuple[str, int, int, Tensor]]:
    """Name, padding, stride and answer of a 3×3 kernel on 5×5 pixels: valid, same, full, strided."""
    image, kernel = border_example()
    cases = [("valid", 0, 1), ("same", 1, 1), ("full", 2, 1), ("strided", 1, 2)]
    return [(name, padding, stride, correlate(image, kernel, stride, padding)) for name, padding, stride in cases]


def border_example() -> tuple[Tensor, Tensor]:
    """5×5 small whole numbers, and a kernel that compares a pixel with its neighbours."""
    image = torch.randint(0, 4, (5, 5), generator=torch.Generator().manual_seed(1)).double()
    return image, whole([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])


def show(setting: Setting) -> Shown:
    """All worked examples, drawn; nothing here takes long."""
    flipped_image, flipped_kernel = map(whole, FLIPPED)
    edges = [
        ("left half 10, right half 0", whole(HALVES), whole(EDGE)),
        ("halves exchanged", whole(HALVES).flip(1), whole(EDGE)),
        ("four quarters", whole(QUARTERS), whole(FLAT_EDGE)),
    ]
    image, kernel = map(whole, EIGHTS)
    return Shown(
        tuple(checks()),
        (
            Section(
                "Slide, multiply, add",
                "The window's four pixels times the kernel's four weights: 2·3 + 7·1 + 2·4 + 8·5 = 61.",
                [
                    pictures.slide(image, kernel, correlate(image, kernel)),
                    pictures.sliding(image, kernel, correlate(image, kernel)),
                ],
            ),
            Section(
                "Convolution flips the kernel",
                "The same picture and kernel, both ways. Only a kernel that is its own half turn gives the same twice.",
                [
                    pictures.flip(
                        flipped_image,
                        flipped_kernel,
                        correlate(flipped_image, flipped_kernel),
                        convolve(flipped_image, flipped_kernel),
                    )
                ],
            ),
            Section(
                "Edges",
                "A filter whose weights sum to zero answers nothing where the picture is even, and most where the "
                "brightness changes in its direction. The sign tells from bright to dark from dark to bright.",
                [pictures.answered(name, one, filt, correlate(one, filt)) for name, one, filt in edges],
            ),
            Section(
                "Cartesian axes, or not",
                "Two filters look for an upright and for a level line, pooling keeps the strongest answer of each, and "
                "a linear layer decides whether both are there: a whole convolutional network, by hand.",
                [pictures.network(whole(AXES), whole(UPRIGHT), axes_or_not(whole(AXES)), DECISION)],
            ),
            Section("With letters", "", [pictures.letters(LETTERS, GREEK, correlate_letters(LETTERS, GREEK))]),
            Section(
                "What to do at the border",
                "Valid takes only places where the kernel fits; same pads by p = (f−1)/2, full by f−1; a stride leaves "
                "places out. The kernel here is [0 −1 0; −1 4 −1; 0 −1 0]: four times a pixel less its neighbours.",
                [pictures.bordered(border_example()[0], *case) for case in borders()],
            ),
            Section(
                "Many channels, many filters",
                "A filter is as deep as its input. Each of its slices meets its own channel, the sums and the filter's "
                "bias are added, and each filter gives one channel of the answer.",
                [pictures.channels(*volume())],
            ),
        ),
    )
