"""Before weights were learnt they were designed: averages that smooth, differences that find edges, lines and corners.

Kernels that smooth sum to one, so that an even picture stays what it is; kernels that find something sum to zero, so
that an even picture gives nothing. The first layer of a trained network learns much the same.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.lectures.cells import compared, matrix, sheet, word, written
from striate.lectures.page import Check, Setting, Shown
from striate.tasks.section import BLUE, GREY, ORANGE, Figure, Section, Table

PYTHON = """
import torch
from skimage.data import camera
from torch.nn.functional import conv2d

photo = torch.from_numpy(camera())[None, None].double() / 255
sobel = torch.tensor([[-1., 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64) / 8
across = conv2d(photo, sobel[None, None])      # upright edges
down = conv2d(photo, sobel.T[None, None])      # level edges
strength = (across**2 + down**2).sqrt()
print(strength.mean(), strength.max())
"""


class Kernel(NamedTuple):
    """Whole numbers as printed, what they are divided by, and what the kernel is for."""

    numbers: list[list[float]]
    divisor: int
    purpose: str

    @property
    def weights(self) -> Tensor:
        return torch.tensor(self.numbers, dtype=torch.float64) / self.divisor


KERNELS = {
    "box 5×5": Kernel([[1.0] * 5] * 5, 25, "average of K×K pixels, each 1/K²"),
    "tent 3×3": Kernel([[1, 2, 1], [2, 4, 2], [1, 2, 1]], 16, "average with weights that fall off"),
    "binomial 5×5": Kernel(
        [[1, 4, 6, 4, 1], [4, 16, 24, 16, 4], [6, 24, 36, 24, 6], [4, 16, 24, 16, 4], [1, 4, 6, 4, 1]],
        256,
        "nearly a Gaussian",
    ),
    "sharpen": Kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], 1, "the picture plus what smoothing takes away"),
    "Sobel": Kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], 8, "upright edges, smoothed along the edge"),
    "corner": Kernel([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], 4, "corners: a second difference both ways"),
    "upright edge": Kernel([[1, 0, -1]] * 3, 1, "bright left of dark"),
    "level edge": Kernel([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], 1, "bright above dark"),
    "level line": Kernel([[-1], [2], [-1]], 1, "a thin level line"),
    "upright line": Kernel([[-1, 2, -1]], 1, "a thin upright line"),
    "line at 45°": Kernel([[-1, -1, 2], [-1, 2, -1], [2, -1, -1]], 1, "a thin line that rises"),
    "line at 135°": Kernel([[2, -1, -1], [-1, 2, -1], [-1, -1, 2]], 1, "a thin line that falls"),
}
SMOOTH = ("box 5×5", "tent 3×3", "binomial 5×5", "sharpen")  # sum to one
LINES = ("level line", "upright line", "line at 45°", "line at 135°")


def gaussian(sigma: float, radius: int) -> Tensor:
    """Weights of a Gaussian [2 radius + 1, 2 radius + 1] that sum to one."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    one = torch.exp(-(steps**2) / (2 * sigma**2))
    return torch.outer(one, one) / one.sum() ** 2


def filtered(picture: Tensor, weights: Tensor) -> Tensor:
    """A picture [H, W] under a kernel, as large as before: its edge pixels are repeated outwards."""
    height, width = weights.shape
    padded = F.pad(picture[None, None], [width // 2] * 2 + [height // 2] * 2, mode="replicate")
    return F.conv2d(padded, weights[None, None])[0, 0]


def drawn_lines() -> dict[str, Tensor]:
    """Four pictures [15, 15] of one thin line each, by the detector that it is for."""
    blank = torch.zeros(15, 15, dtype=torch.float64)
    level, eye = blank.clone(), torch.eye(15, dtype=torch.float64)
    level[7] = 1
    return dict(zip(LINES, (level, level.T, eye.flip(1), eye), strict=True))


def line_answers() -> dict[str, dict[str, float]]:
    """line → detector → mean positive answer along the line, per unit of the kernel's positive weight."""
    found: dict[str, dict[str, float]] = {}
    for name, picture in drawn_lines().items():
        on = picture > 0
        found[name] = {}
        for detector in LINES:
            weights = KERNELS[detector].weights
            answer = filtered(picture, weights)[on].clamp(min=0).mean() / weights.clamp(min=0).sum()
            found[name][detector] = float(answer)
    return found


def checks() -> list[Check]:
    """What each kernel must do, and how they hang together."""
    one = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64)
    tent, binomial = KERNELS["tent 3×3"].weights, KERNELS["binomial 5×5"].weights
    twice = F.conv2d(tent[None, None], tent.flip(0, 1)[None, None], padding=2)[0, 0]
    second = torch.tensor([1.0, -2, 1], dtype=torch.float64)
    answers = line_answers()
    best = {name: max(row, key=lambda detector: row[detector]) for name, row in answers.items()}
    ours = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    difference = torch.tensor([-1.0, 0, 1], dtype=torch.float64)
    sums = {name: float(kernel.weights.sum()) for name, kernel in KERNELS.items()}
    return [
        Check(
            "Kernels that smooth or sharpen sum to",
            "1",
            ", ".join(written(sums[name]) for name in SMOOTH),
            all(abs(sums[name] - 1) < 1e-12 for name in SMOOTH),
        ),
        Check(
            "Kernels that detect sum to",
            "0",
            ", ".join(written(sums[name]) for name in KERNELS if name not in SMOOTH),
            all(abs(sums[name]) < 1e-12 for name in KERNELS if name not in SMOOTH),
        ),
        compared(
            "1/256 · binomial 5×5 = outer product of 1 4 6 4 1, times 256",
            KERNELS["binomial 5×5"].numbers,
            torch.outer(one, one),
        ),
        Check(
            "The tent convolved with itself is the binomial",
            "1/16 ∗ 1/16 → 1/256",
            f"largest difference {float((twice - binomial).abs().max()):.0e}",
            bool(torch.allclose(twice, binomial, atol=1e-15)),
        ),
        compared("Sobel · 8 = 1 2 1 down times −1 0 1 across", KERNELS["Sobel"].numbers, torch.outer(ours, difference)),
        compared(
            "Corner · 4 = 1 −2 1 down times 1 −2 1 across", KERNELS["corner"].numbers, torch.outer(second, second)
        ),
        Check(
            "The line detector that answers most",
            "the one of the line’s direction",
            "; ".join(f"{name} → {found}" for name, found in best.items()),
            all(name == found for name, found in best.items()),
        ),
    ]


def photograph() -> Tensor:
    """The cameraman of scikit-image, grey [256, 256] in 0..1 (of 512×512)."""
    from skimage.data import camera

    return F.avg_pool2d(torch.from_numpy(camera().copy())[None].double() / 255, 2)[0]


def show(setting: Setting) -> Shown:
    """Every kernel with its numbers and what it makes of a photograph."""
    photo = photograph()
    answers = line_answers()
    across, down = (filtered(photo, KERNELS["Sobel"].weights), filtered(photo, KERNELS["Sobel"].weights.T))
    panels = [result(name, kernel, photo) for name, kernel in KERNELS.items()]
    extra = [
        picture("photograph", photo, "The cameraman, 256×256.", False),
        picture("Gaussian, σ = 3", filtered(photo, gaussian(3, 9)), "Gaussian smoothing, σ = 3 pixels.", False),
        picture(
            "Gaussian, σ = 3, taken away", photo - filtered(photo, gaussian(3, 9)), "The photograph less that.", True
        ),
        picture("Sobel, both ways", (across**2 + down**2).sqrt(), "Strength of the edge: √(across² + down²).", False),
    ]
    return Shown(
        tuple(checks()),
        (
            Section(
                "Each kernel and what it makes of a photograph",
                "Blue is a positive answer, orange a negative one; answers of smoothing kernels are grey as the photo.",
                panels,
            ),
            Section("Smoothing, and what it takes away", "", extra),
            Section(
                "Which line?",
                "Mean answer along a thin line, over what the detector could answer at most. The level and the "
                "upright one are as printed, one pixel wide: they take a slanted line for a row of "
                "dots, and answer it too, but less.",
                tables=[
                    Table(
                        ["the picture shows", *LINES],
                        [[name, *(row[detector] for detector in LINES)] for name, row in answers.items()],
                    )
                ],
            ),
        ),
        notes=("The photograph is the cameraman that scikit-image carries (CC0).",),
    )


def result(name: str, kernel: Kernel, photo: Tensor) -> Figure:
    """The kernel's numbers beside its answer to the photograph."""
    drawing, axes = sheet(13.2, 7.6, unit=0.36)
    rows, columns = len(kernel.numbers), len(kernel.numbers[0])
    left, top = 2.9 - columns / 2, 4.0 - rows / 2
    matrix(axes, kernel.numbers, left, top, size=10)
    word(axes, 2.9, 0.5, name, 11)
    if kernel.divisor > 1:
        word(axes, 2.9, top + rows + 0.55, f"times 1/{kernel.divisor}", 9.5, GREY)
    inset = drawing.add_axes((5.9 / 13.2, 0.3 / 7.6, 7.0 / 13.2, 7.0 / 7.6))
    paint(inset, filtered(photo, kernel.weights), signed=name not in SMOOTH)
    return Figure(drawing, f"{name}: {kernel.purpose}.", f"The photograph under the kernel {name}.")


def picture(name: str, values: Tensor, caption: str, signed: bool) -> Figure:
    """One picture without a frame."""
    drawing, axes = sheet(7.6, 8.2, unit=0.42)
    word(axes, 3.8, 0.45, name, 10.5)
    paint(drawing.add_axes((0.3 / 7.6, 0.3 / 8.2, 7.0 / 7.6, 7.0 / 8.2)), values, signed)
    return Figure(drawing, caption, caption)


def paint(axes, values: Tensor, signed: bool) -> None:
    """Grey in 0..1, or orange to blue around zero; the strongest hundredth is cut off."""
    from matplotlib.colors import LinearSegmentedColormap

    axes.axis("off")
    if signed:
        limit = float(values.abs().flatten().quantile(0.99)) or 1.0
        ramp = LinearSegmentedColormap.from_list("signed", [ORANGE, "#fafafa", BLUE])
        axes.imshow(values, cmap=ramp, vmin=-limit, vmax=limit, interpolation="nearest")
    else:
        axes.imshow(values, cmap="gray", vmin=0, vmax=min(1.0, float(values.max())), interpolation="nearest")
