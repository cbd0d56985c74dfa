"""Painting a photo in the style of another picture, by changing its pixels (Gatys, Ecker & Bethge 2016, CVPR,
arXiv:1508.06576): from coarse to fine, on any network with weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.backbones import Backbone
from striate.create.canvas import put_on_canvas, take_off_canvas
from striate.create.colour import luminance, match_colours, match_luminance, with_chroma_of
from striate.create.descent import Optimizer, descend
from striate.create.likeness import Likeness
from striate.create.network import Seeing, find_network
from striate.create.perception import Layers, Perception, Pooling, default_layers
from striate.create.pictures import as_uint8, one_picture, scaled_to
from striate.create.styled import Progress, Styled
from striate.device import pick_device, pick_precision
from striate.errors import UsageError

SMALLEST = 128  # pixels: the first scale is at least so long
Colours = Literal["luminance", "histogram"]


@dataclass(frozen=True)
class Painting:
    """How to paint.

    Attributes:
        size: longer side of the result, in pixels.
        steps: of the optimiser at the last scale; earlier scales, each half as large, take as many.
        scales: how many; None: halves down to 128 pixels, three at most.
        strength: how much style counts against content: 1 as we like it, 0.1 faint, 10 wild.
        style_scale: size of the style pictures over that of the result: 2 for strokes twice as broad.
        variation: how much smoothness counts, times its default; 0: not at all.
        keep_colours: the photo's own: `luminance` paints brightness alone, `histogram` recolours the style first.
        start: `content`, or `noise`.
        optimizer: `lbfgs`, whose loss never rises, or `adam`.
        pooling: see `striate.create.perception.Perception`.
        style_layers, content_layers: names of layers; None: chosen for the network.
        seed: of the noise.
    """

    size: int = 512
    steps: int = 100
    scales: int | None = None
    strength: float = 1.0
    style_scale: float = 1.0
    variation: float = 1.0
    keep_colours: Colours | None = None
    start: Literal["content", "noise"] = "content"
    optimizer: Optimizer = "lbfgs"
    pooling: Pooling = "auto"
    style_layers: Sequence[str] | None = None
    content_layers: Sequence[str] | None = None
    seed: int = 0
    watch: Callable[[Progress], None] = field(default=lambda progress: None, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("size", 32), ("steps", 1), ("scales", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UsageError(f"{name} must be a whole number from {least}, not {value!r}")
        for name in ("strength", "style_scale", "variation"):
            value = getattr(self, name)
            if not value >= 0 or value == float("inf") or (value == 0 and name == "style_scale"):
                raise UsageError(f"{name} must be a number above 0, not {value!r}")
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
    device: str = "auto",
    precision: str = "auto",
    accept_license: bool = False,
    **how: Any,
) -> Styled:
    """Paint `content` in the style of `style`; or let a network of `striate stylize --train` do it at once.

    Args:
        content: a picture: path, URL, bytes, PIL image, array or tensor.
        style: a picture, several in a list, or the file of a trained style (`candy.safetensors`).
        network: whose eyes compare them: see `striate.create.network.find_network`; SqueezeNet's when not given.
        mix: how much each of several styles counts.
        how: the fields of `Painting`; with the file of a style, `size` alone.

    >>> stylize("town.jpg", "starry_night.jpg", strength=2).save("town-starry.png")  # doctest: +SKIP

    Raises:
        UsageError: a setting that cannot be meant.
        ImageError: a picture that cannot be read.
        DataError: weights that cannot be found or do not fit.
    """
    if isinstance(style, str | Path) and str(style).endswith(".safetensors"):
        from striate.create.style_file import paint_with

        if unknown := set(how) - {"size"}:
            raise UsageError(f"{style} is trained already: {', '.join(sorted(unknown))} can no longer be chosen")
        return paint_with(style, content, device=device, precision=precision, **how)
    painting = Painting(**how)
    styles = list(style) if isinstance(style, list | tuple) else [style]
    shares = shares_of(mix, len(styles))
    photo, *paintings = (one_picture(picture) for picture in (content, *styles))
    seeing = find_network(network, accept_license)
    return paint(photo, paintings, shares, seeing, painting, device, precision)


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
    photo: Tensor,
    styles: Sequence[Tensor],
    shares: Sequence[float],
    seeing: Seeing,
    how: Painting,
    device: str = "auto",
    precision: str = "auto",
) -> Styled:
    """The work itself: photo and styles float [1, 3, H, W] in 0..1, of any size."""
    begin = time.perf_counter()
    where = pick_device(device)
    layers = layers_for(seeing.backbone, how)
    perception = Perception(seeing.backbone, seeing.preprocess, (*layers.style, *layers.content), how.pooling)
    likeness = Likeness(
        perception.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
        layers,
        how.strength,
        how.variation,
    )
    use_bf16 = pick_precision(precision, where) == "bf16"
    photo, styles = photo.to(where), [style.to(where) for style in styles]
    image: Tensor | None = None
    losses: list[dict[str, float]] = []
    sizes = how.sizes()
    for scale, size in enumerate(sizes):
        target = scaled_to(photo, size)
        if image is not None:
            begun = F.interpolate(image, target.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        elif how.start == "noise":
            generator = torch.Generator().manual_seed(how.seed)
            begun = (0.5 + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1).to(where)
        else:
            begun = target
        seen, looks = _colours(target, [scaled_to(style, size * how.style_scale) for style in styles], how)
        with torch.autocast(where.type, torch.bfloat16, enabled=use_bf16):
            likeness.aim(looks, shares)
            kept = likeness.content_of(seen)
        width = target.shape[-1]
        variable = put_on_canvas(begun).requires_grad_(True)
        told: dict[str, float] = {}

        def loss_of(variable: Tensor, width: int = width, kept: dict[str, Tensor] = kept) -> Tensor:
            images = take_off_canvas(variable, width)
            if how.keep_colours == "luminance":
                images = luminance(images)
            with torch.autocast(where.type, torch.bfloat16, enabled=use_bf16):
                found = likeness(images, kept)
            told.update(found.numbers())
            return found.total

        def now(variable: Tensor = variable, width: int = width, target: Tensor = target) -> Tensor:
            with torch.no_grad():
                images = take_off_canvas(variable, width)
                return with_chroma_of(images, target) if how.keep_colours == "luminance" else images

        for step, total in enumerate(descend(variable, loss_of, how.steps, how.optimizer), start=1):
            losses.append({"size": size, "step": step, **told, "total": total})
            how.watch(Progress(scale, len(sizes), size, step, how.steps, total, lambda now=now: as_uint8(now())))
        image = take_off_canvas(variable.detach(), width)
        finished = now()
    return Styled(as_uint8(finished), losses, time.perf_counter() - begin)


def layers_for(backbone: Backbone, how: Painting) -> Layers:
    """Those asked for, else those chosen for the network."""
    chosen = default_layers(backbone)
    style = chosen.style
    if how.style_layers:
        style = {name: 1 / len(how.style_layers) for name in how.style_layers}
    return Layers(style, tuple(how.content_layers) if how.content_layers else chosen.content)


def _colours(photo: Tensor, styles: list[Tensor], how: Painting) -> tuple[Tensor, list[Tensor]]:
    """What content and styles are compared by."""
    if how.keep_colours == "luminance":
        grey = luminance(photo)
        return grey, [match_luminance(luminance(style), grey) for style in styles]
    if how.keep_colours == "histogram":
        return photo, [match_colours(style, photo) for style in styles]
    return photo, styles
