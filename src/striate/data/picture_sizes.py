"""Heights and widths of many pictures, from their headers alone, turned as `read_image` turns them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from striate.images import image_size
from striate.picture_headers import picture_header
from striate.quiet import quiet_c_libraries, quiet_pillow

HEAD = 64 * 1024  # bytes; where nearly every header, with its EXIF, ends
FEW = 64  # pictures that are not worth starting threads for
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def picture_sizes(images: Sequence[str | Path | Tensor]) -> list[tuple[int, int] | None]:
    """Of each picture (height, width) as `read_image` gives it, None where its header cannot be read.

    Args:
        images: paths, or pixels [C, H, W].
    """
    if len(images) <= FEW:
        return [_size(image) for image in images]
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:  # they mostly wait for the disk
        return list(pool.map(_size, images, chunksize=64))


def _size(image: str | Path | Tensor) -> tuple[int, int] | None:
    if isinstance(image, Tensor):
        return int(image.shape[1]), int(image.shape[2])
    try:
        if not os.path.isfile(image):  # a pipe would never end
            return None
        with open(image, "rb") as file:
            head = bytearray(file.read(HEAD))
    except (OSError, ValueError):
        return None
    kind, size, _ = picture_header(head)
    turned = any(mark in head for mark in (b"Exif\0\0", b"eXIf", b"EXIF")) or (kind == "webp" and len(head) == HEAD)
    if kind == "other" or size is None or turned:
        size = _with_pillow(image)
    return size if size is not None and min(size) > 0 else None


def _with_pillow(image: str | Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with quiet_pillow(), quiet_c_libraries(), Image.open(image) as opened:
            if opened.format in ("TIFF", "AVIF"):  # Pillow turns these while it decodes
                return image_size(image)
            swap = opened.getexif().get(0x0112) in _TURNED
            return (opened.width, opened.height) if swap else (opened.height, opened.width)
    except Exception:  # Pillow's readers raise whatever they please on damaged files
        return None
