"""Painting a photo in the style of another picture, by changing its pixels (Gatys, Ecker & Bethge 2016, CVPR,
arXiv:1508.06576): from coarse to fine, on any network with weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.backbones import Backbone
from striate.create.canvas import put_on_canvas, take_off_canvas
from striate.create.colour import luminance, match_colours, match_luminance, with_chroma_of
from striate.create.descent import Optimizer, descend
from striate.create.pictures import one_picture
from striate.create.progress import Progress
from striate.device import pick_device, pick_precision
from striate.errors import UsageError, did_you_mean
from striate.results import Styled
from striate.tasks.stylize.loss import StyleLoss
from striate.tasks.stylize.network import PerceptualNetwork, find_network
from striate.tasks.stylize.perception import Layers, Perception, Pooling, default_layers
from striate.tasks.stylize.pictures import as_uint8, scaled_to

SMALLEST = 192  # pixels: the first scale is at least so long; of smaller ones little of the photo is left
Colours = Literal["luminance", "histogram"]


@dataclass(frozen=True)
class Painting:
    """How to paint.

    Attributes:
        size: longer side of the result, in pixels.
        steps: of the optimiser at the last scale; earlier scales, each half as large, take as many.
        scales: how many; None: halves down to 192 pixels, three at most.
        strength: how much style counts against content: 1 as we like it, 0.1 faint, 10 wild.
        style_scale: size of the style pictures over that of the result: 2 for strokes twice as broad.
        smooth: how much smoothness counts (total variation), times its default; 0: not at all.
        keep_colours: the photo's own: `luminance` paints brightness alone, `histogram` recolours the style first.
        start: `content`, or `noise`.
        optimizer: `lbfgs`, whose loss never rises, or `adam`.
        pooling: see `striate.tasks.stylize.perception.Perception`.
        style_layers, content_layers: names of layers; None: chosen for the network.
        seed: of the noise.
        device, precision: `auto`: what is here; bf16 where the device has it natively.
        watch: told after each step.
    """

    size: int = 512
    steps: int = 60
    scales: int | None = None
    strength: float = 1.0
    style_scale: float = 1.0
    smooth: float = 1.0
    keep_colours: Colours | None = None
    start: Literal["content", "noise"] = "content"
    optimizer: Optimizer = "lbfgs"
    pooling: Pooling = "auto"
    style_layers: Sequence[str] | None = None
    content_layers: Sequence[str] | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    watch: Callable[[Progress], None] = field(default=lambda progress: None, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("steps", 1), ("scales", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UsageError(f"{name} must be a whole number from {least}, not {value!r}")
        for name in ("strength", "style_scale", "smooth"):
            value = getattr(self, name)
            if not value >= 0 or value == float("inf") or (value == 0 and name == "style_scale"):
                raise UsageError(
                    f"{name} must be a number {'above' if name == 'style_scale' else 'from'} 0, not {value!r}"
                )
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                told = ", ".join(str(word) for word in allowed if word is not None)
                raise UsageError(f"{name} must be one of {told}, not {getattr(self, name)!r}")

    def sizes(self) -> list[int]:
        """Longer sides from coarse to fine."""
        count = self.scales or 1
        if self.scales is None:
            while count < 3 and self.size >> count >= SMALLEST:
                count += 1
        return [max(32, round(self.size / 2**back)) for back in reversed(range(count))]


ALLOWED: dict[str, tuple[str | None, ...]] = {
    "keep_colours": (None, "luminance", "histogram"),
    "start": ("content", "noise"),
    "optimizer": ("lbfgs", "adam"),
    "pooling": ("auto", "average", "max"),
}


def stylize(
    content: Any,
    style: Any,
    *,
    network: str | Path | None = None,
    mix: Sequence[float] | None = None,
    accept_license: bool = False,
    **how: Any,
) -> Styled:
    """Paint `content` in the style of `style`, step by step, or at once by what `striate stylize train` taught.

    Args:
        content: a picture: path, URL, bytes, PIL image, array or tensor.
        style: a picture, several in a list, or the file of a trained style (`candy.safetensors`); pictures and the
            file of a network for any style.
        network: whose eyes compare them: see `striate.tasks.stylize.network.find_network`; SqueezeNet's when not given.
        mix: how much each of several styles counts.
        how: the fields of `Painting`; with a trained network `size`, and `strength` where it paints any style.

    >>> stylize("town.jpg", "starry_night.jpg", strength=2).save("town-starry.png")  # doctest: +SKIP

    Raises:
        UsageError: a setting that cannot be meant.
        ImageError: a picture that cannot be read.
        DataError: weights that cannot be found or do not fit.
    """
    file, styles = split_model_file(style if isinstance(style, list | tuple) else [style])
    if file is not None:
        from striate.create.painted import load_painter, paint_with

        machine = {name: how.pop(name) for name in ("device", "precision") if name in how}
        if unknown := set(how) - {"size", "strength"}:
            raise UsageError(f"{file} is trained: {', '.join(sorted(unknown))} can no longer be chosen")
        model = load_painter(file, machine.get("device", "auto"))
        shares = shares_of(mix, len(styles)) if styles else []
        looks = [one_picture(picture) for picture in styles]
        return paint_with(model, one_picture(content), looks, shares, **how, precision=machine.get("precision", "auto"))
    painting = painting_of(how)
    shares = shares_of(mix, len(styles))
    photo, *looks = (one_picture(picture) for picture in (content, *styles))
    return paint(photo, looks, shares, find_network(network, accept_license), painting)


def painting_of(how: dict[str, Any]) -> Painting:
    """Settings by name.

    Raises:
        UsageError: an unknown name.
    """
    known = [setting.name for setting in fields(Painting)]
    for name in how:
        if name not in known:
            raise UsageError(f'stylize has no setting "{name}" ({", ".join(known)}).{did_you_mean(name, known)}')
    return Painting(**how)


def split_model_file(styles: Sequence[Any]) -> tuple[str | Path | None, list[Any]]:
    """The model file among styles, None where all are pictures, and the pictures.

    Raises:
        UsageError: several model files.
    """
    files = [style for style in styles if isinstance(style, str | Path) and str(style).endswith(".safetensors")]
    if len(files) > 1:
        raise UsageError(f"{files[0]} and {files[1]}: one trained style at a time")
    return (files[0] if files else None), [style for style in styles if not files or style is not files[0]]


def shares_of(mix: Sequence[float] | None, count: int) -> list[float]:
    """What each style counts, summing to 1.

    Raises:
        UsageError: another number of shares than of styles, or none above zero.
    """
    if count == 0:
        raise UsageError("no style: name at least one picture whose style to take")
    if mix is None:
        return [1 / count] * count
    if len(mix) != count:
        raise UsageError(f"mix: {len(mix)} numbers for {count} styles; give one for each")
    if not all(0 <= share < float("inf") for share in mix) or sum(mix) == 0:
        raise UsageError("mix: numbers from 0, at least one of them above")
    return [share / sum(mix) for share in mix]


def paint(
    photo: Tensor, styles: Sequence[Tensor], shares: Sequence[float], perceptual: PerceptualNetwork, how: Painting
) -> Styled:
    """The work itself: photo and styles float [1, 3, H, W] in 0..1, of any size."""
    begin = time.perf_counter()
    device = pick_device(how.device)
    layers = layers_for(perceptual.backbone, how)
    perception = Perception(perceptual.backbone, perceptual.preprocess, (*layers.style, *layers.content), how.pooling)
    perception = perception.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    style_loss = StyleLoss(perception, layers, how.strength, how.smooth)
    losses: list[dict[str, float]] = []
    sizes = how.sizes()
    image = finished = first_canvas(photo, sizes[0], how)
    for scale, size in enumerate(sizes):
        target = scaled_to(photo, size).to(device)
        looks = [scaled_to(style, size * how.style_scale).to(device) for style in styles]
        image = F.interpolate(image.to(device), target.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        easel = Easel(style_loss, target, looks, shares, how)
        variable = put_on_canvas(image).requires_grad_(True)
        for step, total in enumerate(easel.improve(variable), start=1):
            losses.append({"size": size, "step": step, **easel.terms, "total": total})
            finished_now = partial(easel.finished, variable)
            how.watch(Progress(scale, len(sizes), size, step, how.steps, total, finished_now))
        image = take_off_canvas(variable.detach(), target.shape[-1])
        finished = easel.finished(variable)
    return Styled(as_uint8(finished), losses, time.perf_counter() - begin)


class Easel:
    """One scale: what the canvas is compared with there.

    Attributes:
        terms: of the loss where it was computed last.
    """

    def __init__(
        self, style_loss: StyleLoss, photo: Tensor, styles: list[Tensor], shares: Sequence[float], how: Painting
    ) -> None:
        self.style_loss, self.photo, self.styles, self.shares, self.how = style_loss, photo, styles, shares, how
        self.grey = how.keep_colours == "luminance"
        self.use_bf16 = pick_precision(how.precision, photo.device) == "bf16"
        self.terms: dict[str, float] = {}
        self._aim()

    def _aim(self) -> None:
        """What the canvas is compared with, as seen in today's precision."""
        photo, styles = self.photo, self.styles
        if self.grey:
            photo = luminance(photo)
            styles = [match_luminance(luminance(style), photo) for style in styles]
        elif self.how.keep_colours == "histogram":
            styles = [match_colours(style, photo) for style in styles]
        with self._precision():
            self.style_loss.aim(styles, self.shares)
            self.content = self.style_loss.content_of(photo)

    def improve(self, variable: Tensor) -> Iterator[float]:
        """Step by step, the loss after each. Where bf16 rounds too coarsely for L-BFGS to find a lower one, the steps
        that are left are taken in fp32; what those say is told once it is below what bf16 said last."""
        taken, last = 0, inf
        for last in descend(variable, self.loss, self.how.steps, self.how.optimizer):
            taken += 1
            yield last
        if self.use_bf16 and taken < self.how.steps:
            self.use_bf16 = False
            self._aim()
            further = descend(variable, self.loss, self.how.steps - taken, self.how.optimizer)
            yield from (total for total in further if total < last)

    def loss(self, variable: Tensor) -> Tensor:
        images = take_off_canvas(variable, self.photo.shape[-1])
        with self._precision():
            found = self.style_loss(luminance(images) if self.grey else images, self.content)
        self.terms = found.numbers()
        return found.total

    @torch.no_grad()
    def finished(self, variable: Tensor) -> Tensor:
        """The picture [1, 3, H, W], with the photo's chroma where that is to be kept."""
        images = take_off_canvas(variable, self.photo.shape[-1])
        return with_chroma_of(images, self.photo) if self.grey else images

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.photo.device.type, torch.bfloat16, enabled=self.use_bf16)


def first_canvas(photo: Tensor, size: int, how: Painting) -> Tensor:
    """The photo, or grey noise, at the first scale."""
    canvas = scaled_to(photo, size)
    if how.start == "content":
        return canvas
    noise = torch.randn(canvas.shape, generator=torch.Generator().manual_seed(how.seed))
    return (0.5 + 0.1 * noise).clamp(0, 1)


def layers_for(backbone: Backbone, how: Painting) -> Layers:
    """Those asked for, else those chosen for the network."""
    chosen = default_layers(backbone)
    style = chosen.style
    if how.style_layers:
        style = {name: 1 / len(how.style_layers) for name in how.style_layers}
    return Layers(style, tuple(how.content_layers) if how.content_layers else chosen.content)
