"""Pictures of the report: training curves, and how drawings and photographs become part of one HTML file."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from striate.tasks.section import BLUE, GREEN, GREY, ORANGE, Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing
    from torch import Tensor

INK = "#010203"  # stands for the page's text colour while a drawing is made
THUMBNAIL = 240  # longest side in pixels
TINY = 64  # pictures up to this side stay as they are, and the page enlarges their pixels
MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def curves(history: Sequence[dict[str, Any]], best: str | None, mode: str = "max") -> list[Figure]:
    """Loss, the measure that decides, every other `val_*` measure and the learning rate, against two or more epochs.

    Args:
        mode: whether the measure that decides is best at its largest (`max`) or smallest (`min`).
    """
    if len(history) < 2:  # one dot is no curve
        return []
    measured = [key[4:] for row in history for key in row if key.startswith("val_")]
    others = [name for name in dict.fromkeys(measured) if name not in ("loss", best)]
    names: list[str] = ["loss", *([best] if best and best != "loss" else []), *others, "lr"]
    drawn = [curve(history, name, mode if name == best else None) for name in names]
    return [figure for figure in drawn if figure is not None]


def curve(history: Sequence[dict[str, Any]], name: str, mode: str | None = None) -> Figure | None:
    """One measure in training and validation, the best epoch of that which decides marked; None when no row has a
    number for it."""
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import MaxNLocator

    title = {"lr": "learning rate", "map": "mean average precision", "nll": "negative log-likelihood"}.get(
        name, name.replace("_", " ")
    )
    keys = {"lr": GREY} if name == "lr" else {f"train_{name}": ORANGE, f"val_{name}": BLUE}
    epochs = [row.get("epoch", i + 1) for i, row in enumerate(history)]
    lines = {key: [number(row.get(key)) for row in history] for key in keys}
    lines = {key: values for key, values in lines.items() if not all(map(math.isnan, values))}
    if not lines:
        return None
    drawing = Drawing(figsize=(4.6, 3.0), layout="constrained")
    axes = drawing.add_subplot()
    for key, values in lines.items():
        label = {"train": "training", "val": "validation"}.get(key.split("_")[0], title)
        marker = "o" if len(history) <= 30 else None
        axes.plot(epochs, values, color=keys[key], linewidth=1.8, marker=marker, markersize=3.5, label=label)
    caption = title.capitalize()
    if mode is not None and (values := lines.get(f"val_{name}")):
        worth = [-math.inf if math.isnan(value) else value if mode == "max" else -value for value in values]
        at = max(range(len(values)), key=worth.__getitem__)
        axes.plot(epochs[at], values[at], "o", color=GREEN, markersize=9, markerfacecolor="none", markeredgewidth=2)
        caption += f": best {values[at]:.4f} after epoch {epochs[at]}"
    axes.set(xlabel="epoch", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color=GREY, alpha=0.2, linewidth=0.6)
    if len(lines) > 1:
        axes.legend(frameon=False)
    last = ", ".join(f"{key.replace('_', ' ')} ends at {values[-1]:.4g}" for key, values in lines.items())
    return Figure(drawing, caption, f"Curve of {title} over {len(history)} epochs; {last}.")


def number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def embed(content: Drawing | bytes, alt: str, name: str) -> Markup:
    """A drawing as inline SVG in the page's own text colour and fonts, or the bytes of a picture as an <img>."""
    if isinstance(content, bytes):
        return Markup('<img src="{}" alt="{}">').format(data_uri(content), alt)
    return inline_svg(content, alt, name)


def inline_svg(drawing: Drawing, alt: str, name: str) -> Markup:
    """SVG without what a page must not have twice or at all: namespaces, metadata, equal ids; `name` is unique."""
    from matplotlib import rc_context

    wear_ink(drawing)
    buffer = io.StringIO()
    # text stays text (searchable, in the page's font); a fixed salt gives the same bytes for the same drawing
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "striate"}):
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \g<1>inherit-family", body)  # family of the page, below
    body = body.replace("inherit-family", "var(--sans)").replace(INK, "currentColor")
    opening = Markup('<svg role="img" aria-label="{}" viewBox="{}" style="max-width:{}px">').format(
        alt, box.group(1) if box else "0 0 400 300", round(float(width.group(1)) * 1.34) if width else 600
    )
    return opening + Markup(body)


def wear_ink(drawing: Drawing, ink: str = INK) -> None:
    """What is black, or wears INK already, becomes `ink`, so that the page decides."""
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D
    from matplotlib.spines import Spine
    from matplotlib.text import Text

    for axes in drawing.axes:
        for side in ("top", "right"):
            if side in axes.spines and not axes.images:
                axes.spines[side].set_visible(False)
    drawing.canvas.draw()  # ticks exist only now
    for artist in drawing.findobj():
        if isinstance(artist, Text | Line2D):
            if to_hex(artist.get_color()) in ("#000000", INK):
                artist.set_color(ink)
                if isinstance(artist, Line2D):
                    artist.set_markeredgecolor(ink)
        elif isinstance(artist, Spine):
            artist.set_edgecolor(ink)
            artist.set_linewidth(0.6)
        elif isinstance(artist, Axes):
            artist.tick_params(width=0.6, color=ink, which="both")


def data_uri(content: bytes) -> str:
    """PNG, JPEG, GIF, WebP or SVG bytes as a data: address; an image address runs no script, even in an SVG."""
    kind = next((name for magic, name in MAGIC.items() if content.startswith(magic)), "svg+xml")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(picture: Tensor | bytes) -> tuple[str, bool]:
    """A picture's data: address, and whether it is so small that its pixels should show.

    Args:
        picture: uint8 [3, H, W] or [1, H, W], or bytes as they are.
    """
    if isinstance(picture, bytes):
        return data_uri(picture), False
    from PIL import Image

    pixels = picture.cpu().movedim(0, 2).contiguous().numpy()  # [H, W, C]
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    tiny = max(image.size) <= TINY
    if tiny:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, "JPEG", quality=82)
    return data_uri(buffer.getvalue()), tiny
