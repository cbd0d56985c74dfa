"""Drawings as files: PNG on white for slides, and small ones for the index in dark ink and in light ink."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from striate.report.figures import INK, MAGIC, wear_ink

if TYPE_CHECKING:
    from PIL.Image import Image

    from striate.tasks.section import Figure

INKS = {"light": INK, "dark": "#e6e9ee"}  # the page's two text colours (report/style.css.j2)
WIDTH, HEIGHT = 480, 300  # pixels, at most; shown at half that on the index
SLIDE = 160  # dots an inch of a drawing on its own


def file_of(figure: Figure) -> tuple[str, bytes]:
    """A figure's ending and bytes: as they are, or a drawing as PNG on white."""
    content = figure.content
    if isinstance(content, bytes):
        ending = next((name for magic, name in MAGIC.items() if content.startswith(magic)), "svg")
        return ending, content
    return "png", drawn(content, INK, SLIDE, white=True)


def thumbnails(source: Any) -> dict[str, bytes]:
    """Small PNGs by the page's mode, of a drawing, of picture bytes, or of uint8 [1 or 3, H, W]."""
    from PIL import Image

    if hasattr(source, "savefig"):
        dots = min(WIDTH / source.get_figwidth(), HEIGHT / source.get_figheight())
        return {name: small(Image.open(io.BytesIO(drawn(source, ink, dots)))) for name, ink in INKS.items()}
    if not isinstance(source, bytes):
        pixels = source.cpu().movedim(0, 2).numpy()
        picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        if max(picture.size) < 100:
            picture = picture.resize((picture.width * 8, picture.height * 8), Image.Resampling.NEAREST)
    else:
        try:
            picture = Image.open(io.BytesIO(source))
        except OSError:  # an SVG
            return {}
    content = small(picture.convert("RGB"))
    return dict.fromkeys(INKS, content)


def drawn(drawing: Any, ink: str, dots: float, white: bool = False) -> bytes:
    wear_ink(drawing, ink)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=dots, transparent=not white, facecolor="white" if white else "none")
    return buffer.getvalue()


def small(picture: Image) -> bytes:
    """At most WIDTH × HEIGHT, in 64 colours."""
    picture = picture.copy()
    picture.thumbnail((WIDTH, HEIGHT))
    method = 2 if picture.mode == "RGBA" else None  # FASTOCTREE alone keeps transparency
    buffer = io.BytesIO()
    picture.quantize(64, method=method).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
