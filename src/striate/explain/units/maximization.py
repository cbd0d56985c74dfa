"""A picture made to excite a unit or a class: activation maximisation by gradient ascent.

Erhan et al. 2009 ("Visualizing Higher-Layer Features of a Deep Network"); Simonyan et al. 2014 (arXiv:1312.6034,
section 2). What makes it look like anything is of Olah, Mordvintsev & Schubert 2017 ("Feature Visualization", Distill,
doi:10.23915/distill.00007): the picture is held as its Fourier spectrum, each frequency scaled by its inverse, in
colours decorrelated as in photographs, and is moved, turned and scaled a little at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from striate.data.transforms import Normalize
from striate.errors import UsageError
from striate.explain.explained import labels_of
from striate.explain.explanation import Explanation, Request
from striate.explain.layers import check_units, read_maps, readable_copy
from striate.explain.units.sheets import as_tile, number, webp
from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, RED, VIOLET, Figure, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from striate.model import Model

STEPS = 192
RATE = 0.05  # Adam's, as in the authors' Lucid
SIDE = 320  # pixels, of smaller pictures when shown
SHOWN = 4  # units or classes, where none is named
JITTER, TURN, SCALE = 0.05, 10.0, (0.85, 1.15)  # of a side; degrees, either way; times
REDIRECTED = 16  # steps in which a unit that is silent everywhere can still be woken
# the square root of the covariance of ImageNet's colours (Lucid, `color_correlation_svd_sqrt`)
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))

Score = Callable[[Tensor], Tensor]  # float [N, C, H, W], normalised → [N]: what is to become large


@dataclass(frozen=True)
class Maximized:
    """Attributes:
    pictures: float [N, C, H, W] in 0..1.
    curves: float [steps, N]: the score at each step, of the picture as it was moved for that step.
    before, after: float [N], of the first and the last picture, unmoved.
    """

    pictures: Tensor
    curves: Tensor
    before: Tensor
    after: Tensor


def maximize(
    score: Score,
    normalize: Callable[[Tensor], Tensor],
    count: int,
    channels: int,
    size: tuple[int, int],
    steps: int = STEPS,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Maximized:
    """Pictures that make `score` large.

    Args:
        score: normalised pictures [count, C, H, W] → [count]; the first is to excite the first, and so on.
        normalize: pixels in 0..255 → what the network takes.
        count, channels, size: of the pictures; height and width.
        seed: of the start and of all moves.
    """
    generator = torch.Generator().manual_seed(seed)
    spectrum = (0.01 * torch.randn(count, channels, *_half(size), 2, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], RATE)
    curves = []
    with torch.no_grad():
        before = score(normalize(255 * painted(spectrum, size)))
    for step in range(steps):
        pictures = moved(painted(spectrum, size), generator)
        with Redirecting(step < REDIRECTED):
            values = score(normalize(255 * pictures))
        optimizer.zero_grad()
        (-values.sum()).backward()
        optimizer.step()
        curves.append(values.detach().cpu())
        if step % 32 == 31:
            say(f"step {step + 1} of {steps}: {values.mean():.3g}")
    with torch.no_grad():
        final = painted(spectrum, size)
        after = score(normalize(255 * final))
    return Maximized(final, torch.stack(curves), before.cpu(), after.cpu())


def painted(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """A spectrum [N, C, H, W // 2 + 1, 2] as pictures [N, C, H, W] in 0..1."""
    height, width = size
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(size))
    scale = math.sqrt(height * width) / frequency  # [H, W // 2 + 1]; equal strength in every octave, as in photographs
    pixels = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=size, norm="ortho") / (4 * max(size))
    if pixels.shape[1] == 3:
        colours = torch.tensor(COLOURS)
        colours = colours / colours.norm(dim=0).max()
        pixels = torch.einsum("nchw,dc->ndhw", pixels, colours)
    return pixels.sigmoid()


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture shifted, turned and scaled a little, mirrored at its edges: so that no pattern too fine to be seen
    can be what excites."""
    count = len(pictures)
    turn, scale, x, y = torch.rand(4, count, generator=generator)
    angle = torch.deg2rad(TURN * (2 * turn - 1))
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * scale
    shift = 2 * JITTER * (2 * torch.stack((x, y), 1) - 1)  # the grid is 2 wide
    turned = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(count, 2, 2)
    grid = F.affine_grid(
        torch.cat((turned / scale[:, None, None], shift[:, :, None]), 2), list(pictures.shape), align_corners=False
    )
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)


class Redirecting(TorchFunctionMode):
    """As a context: where a picture gets no gradient at all through a ReLU, it gets what would raise the values below
    0, as in Lucid; else a unit that the first noise does not excite would never be."""

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.active = active

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.active and func in (F.relu, torch.relu, Tensor.relu):
            return _Redirected.apply(args[0])
        return func(*args, **dict(kwargs or {}))


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        plain = gradient.where(values > 0, 0.0)
        raising = gradient.where((values > 0) | (gradient < 0), 0.0)  # the loss falls where the gradient is below 0
        silent = plain.flatten(1).abs().amax(1) == 0
        return raising.where(silent.view(-1, *[1] * (gradient.ndim - 1)), plain)


def explain_maximize(model: Model, request: Request) -> Explanation:
    """Pictures made to excite classes or units. With `request.layer`, its `request.units` (the first four where none
    are named): the mean of a unit's map is raised. Else the classes of `request.label`; where none is named, four drawn
    by the seed; its output before any softmax is raised.

    `values`: `pictures` float [N, C, H, W] in 0..1, `names`, `curves` float [steps, N], `before`, `after` float [N].

    Raises:
        UsageError: no such class, layer or unit; a model that gives no score a class, when no layer is named.
    """
    steps = request.steps or STEPS
    preprocess = model.card.preprocess
    network = readable_copy(model.module).cpu()
    probe = torch.zeros(1, preprocess.channels, *preprocess.size)
    if request.layer:
        with torch.inference_mode():
            channels = read_maps(network, request.layer, probe).shape[1]
        units = check_units(request.units or range(min(SHOWN, channels)), channels, request.layer)
        names = [f"{request.layer}, unit {unit}" for unit in units]
        score = unit_score(network, request.layer, units)
    else:
        labels = classes_to_show(model, request)
        names = [model.classes[label] for label in labels]
        score = class_score(network, labels, len(model.classes), probe)
    found = maximize(
        score,
        Normalize(preprocess),
        len(names),
        preprocess.channels,
        preprocess.size,
        steps,
        request.seed,
        request.say,
    )
    scores = [
        f"{name}: from {number(before)} to {number(after)}"
        for name, before, after in zip(names, found.before.tolist(), found.after.tolist(), strict=True)
    ]
    pictures = [
        Figure(_shown(picture), score, f"The picture made for {score}.")
        for picture, score in zip(found.pictures, scores, strict=True)
    ]
    text = (
        f"Each began as grey noise and took {steps} steps uphill. It shows what the network answers to, not what "
        "pictures of it look like."
    )
    curve = Figure(
        draw_curves(names, found.curves),
        "The score at each step, of the picture as it was moved for that step.",
        f"Curves of the scores over the steps: {'; '.join(scores)}.",
        wide=True,
    )
    values = {"pictures": found.pictures, "names": names, "curves": found.curves}
    return Explanation(
        f"What {model.name} answers to",
        [Section("Pictures", text, pictures), Section("The way there", "", [curve])],
        values | {"before": found.before, "after": found.after},
        {"model": f"{model.card.architecture}, {model.task.name}", "steps": str(steps), "seed": str(request.seed)},
        ["Activation maximisation in Fourier space with decorrelated colours (Olah et al. 2017, Distill)."],
    )


def unit_score(network: nn.Module, layer: str, units: Sequence[int]) -> Score:
    """The mean of the map of unit n for picture n."""

    def score(images: Tensor) -> Tensor:
        maps = read_maps(network, layer, images)
        return maps[torch.arange(len(units)), list(units)].mean((1, 2))

    return score


def class_score(network: nn.Module, labels: Sequence[int], classes: int, probe: Tensor) -> Score:
    """The output for class `labels[n]` of picture n.

    Raises:
        UsageError: the outputs are not one number a class.
    """
    with torch.inference_mode():
        outputs = network(probe)
    if not isinstance(outputs, Tensor) or outputs.shape != (1, classes):
        raise UsageError("this model gives no single score a class: name a layer and its units instead")
    return lambda images: network(images)[torch.arange(len(labels)), list(labels)]


def classes_to_show(model: Model, request: Request) -> list[int]:
    """The class asked for, or some drawn by the seed."""
    if request.label is not None:
        return labels_of(request.label, model.classes)
    generator = torch.Generator().manual_seed(request.seed)
    return torch.randperm(len(model.classes), generator=generator)[:SHOWN].sort().values.tolist()


def draw_curves(names: Sequence[str], curves: Tensor) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(8, 3), layout="constrained")
    axes = drawing.add_subplot()
    colours = (BLUE, ORANGE, GREEN, RED, VIOLET, GREY)
    for at, (name, values) in enumerate(zip(names, curves.T.tolist(), strict=True)):
        axes.plot(range(1, len(values) + 1), values, color=colours[at % len(colours)], linewidth=1.5, label=name)
    axes.set(xlabel="step", ylabel="score")
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    return drawing


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return size[0], size[1] // 2 + 1


def _shown(picture: Tensor) -> bytes:
    pixels = (255 * picture).round().to(torch.uint8)
    return webp(as_tile(pixels, max(SIDE, *pixels.shape[1:])))
