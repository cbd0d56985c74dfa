"""`read_image()`: the one door through which pictures come in, whatever their format.

JPEG, PNG and still WebP go through torchcodec, which also turns them as EXIF says and lets other threads run; all
else, and what torchcodec refuses, goes through Pillow. Both refuse a truncated picture, also a JPEG that only lacks its
end marker: whether rows before it are missing cannot be known.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.errors import ImageError
from striate.picture_headers import picture_header
from striate.quiet import quiet_c_libraries, quiet_pillow

MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs: half a gigabyte of RGB
MAX_BYTES = 256 * 2**20

# fmt: off
PICTURE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".ico", ".tga", ".pcx", ".avif", ".heic", ".heif", ".jp2", ".qoi", ".sgi",
))
# fmt: on

# What Pillow may try. Left out: formats that start other programs (EPS) and those nobody keeps photos in.
_PILLOW_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "DIB"),
    *("ICO", "JPEG2000", "PPM", "QOI", "SGI", "TIFF"),
)
_NO_MAGIC = {".tga": "TGA", ".pcx": "PCX"}  # no signature to know them by, so only the name can say it
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_EXIF_ORIENTATION = 0x0112


class _Refused(Exception):
    """Why this picture is not taken, without its name."""


def read_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Tensor:
    """The pixels of a picture file: uint8 [3, H, W], RGB, turned as its EXIF says.

    Grey becomes three equal channels, alpha is laid on white, 16 bits are scaled down to 8, of an animation the first
    frame is taken. Float pictures (TIFF) must lie in 0..1. The strides may be channels-last.

    Args:
        source: a path, or the encoded bytes.
        max_pixels: height times width; judged by the header, before anything is decoded.
        max_bytes: of the file.

    Raises:
        ImageError: missing, empty, truncated, too large, or not a picture; the message begins with the path.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = _encoded(source, max_bytes)
        return _decode(data, name, max_pixels)
    except _Refused as reason:
        raise ImageError(f"{_printable(name)}: {reason}") from None
    except MemoryError:
        raise ImageError(f"{_printable(name)}: not enough memory to decode it; make the picture smaller") from None


def image_size(source: str | Path | bytes) -> tuple[int, int]:
    """Height and width as `read_image` gives them. The picture is decoded: only that shows that it can be.

    Raises:
        ImageError: as `read_image`.
    """
    height, width = read_image(source).shape[1:]
    return height, width


def _printable(name: str) -> str:
    """A name that any terminal takes: bytes that are no UTF-8 and line breaks are escaped."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n").replace("\r", "\\r")


def _encoded(source: str | Path | bytes, max_bytes: int) -> bytearray:
    """The bytes of the file: a bytearray, which torch can look at without a warning or a copy."""
    if isinstance(source, bytes):
        if len(source) > max_bytes:
            raise _Refused(f"{len(source):,} bytes, the limit is {max_bytes:,}; make it smaller or raise max_bytes")
        data = bytearray(source)
    else:
        try:
            status = os.stat(source)
            if stat.S_ISDIR(status.st_mode):
                raise _Refused("is a folder; name a picture in it")
            if not stat.S_ISREG(status.st_mode):  # a pipe or device may never end
                raise _Refused("is not a regular file; save the picture to one")
            if status.st_size > max_bytes:
                raise _Refused(f"{status.st_size:,} bytes, the limit is {max_bytes:,}; make it smaller")
            data = bytearray(status.st_size)
            with open(source, "rb", buffering=0) as file:
                del data[file.readinto(data) or 0 :]
        except FileNotFoundError:
            raise _Refused("no such file; check the path") from None
        except PermissionError:
            raise _Refused("may not be read; check its permissions") from None
        except OSError as error:
            raise _Refused(f"could not be read ({error.strerror}); check the path and the disk") from None
        except ValueError:  # a NUL in the name
            raise _Refused("is no valid path") from None
    if not data:
        raise _Refused("is empty; copy it again from where it came, or remove it")
    return data


def _decode(data: bytearray, name: str, max_pixels: int) -> Tensor:
    """uint8 [3, H, W]: torchcodec for the usual, Pillow for the rest."""
    kind, size, alpha = picture_header(data)
    codec = _torchcodec()
    if size is not None and codec is not None:
        _check_pixels(*size, max_pixels)
        pixels = torch.frombuffer(data, dtype=torch.uint8)
        try:
            with quiet_c_libraries():
                image = _with_torchcodec(codec, kind, pixels, alpha)
            if image.ndim == 3:
                return _on_white(image) if alpha else image
        except RuntimeError:  # Pillow is more patient, and says more clearly what is wrong
            pass
    return _decode_with_pillow(data, name, max_pixels)


def _with_torchcodec(codec: ModuleType, kind: str, encoded: Tensor, alpha: bool) -> Tensor:
    """uint8 [3 or 4, H, W], turned as EXIF says."""
    if kind == "jpeg":
        return codec.decode_jpeg(encoded)
    decode = codec.decode_png if kind == "png" else codec.decode_webp
    return decode(encoded, mode="RGB_ALPHA" if alpha else "RGB")


@functools.cache
def _torchcodec() -> ModuleType | None:
    """torchcodec's decoders, where they can be loaded."""
    try:
        import torchcodec.decoders
    except (ImportError, OSError, RuntimeError):  # not installed, or built for another torch
        return None
    return torchcodec.decoders


def _check_pixels(height: int, width: int, max_pixels: int) -> None:
    if height * width > max_pixels:
        raise _Refused(f"{width} x {height} pixels, the limit is {max_pixels:,}; make it smaller or raise max_pixels")
    if height * width == 0:
        raise _Refused("its header says that it has no pixels; it is damaged")


def _on_white(image: Tensor) -> Tensor:
    """uint8 [4, H, W] → uint8 [3, H, W]: colour * alpha + white * (1 - alpha), rounded."""
    alpha = image[3:].to(torch.int32)
    if int(alpha.min()) == 255:
        return image[:3]
    return ((image[:3] * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)


def _decode_with_pillow(data: bytearray, name: str, max_pixels: int) -> Tensor:
    from PIL import Image

    Image.init()
    extra = "TGA" if data[-18:] == _TGA_FOOTER else _NO_MAGIC.get(os.path.splitext(name)[1].lower())
    formats = [kind for kind in (*_PILLOW_FORMATS, extra) if kind in Image.OPEN]  # not every Pillow has AVIF
    try:
        with quiet_pillow(), quiet_c_libraries():
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_pixels(image.height, image.width, max_pixels)
                image.load()
                rgb = _to_rgb(image)
            return _turned(rgb, image)
    except (_Refused, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise _Refused(_what_else(data)) from None
    except Image.DecompressionBombError:
        raise _Refused("has more pixels than Pillow takes; make it smaller") from None
    except Exception as error:  # Pillow's readers raise SyntaxError, struct.error, IndexError … on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Refused(f"is damaged or truncated ({reason}); copy it again from where it came, or remove it") from None


def _what_else(data: bytearray) -> str:
    """What a file is that nobody could read."""
    head = bytes(data[:64])
    if head[4:8] == b"ftyp" and any(brand in head[8:] for brand in (b"heic", b"heix", b"mif1", b"hevc")):
        return "is HEIC, which needs a licence to decode; convert it to JPEG or PNG"
    if head[:4] == b"%PDF":
        return "is a PDF; export its pages as PNG"
    if head[:5].lower() in (b"<!doc", b"<html"):
        return "is a web page, not a picture; download the picture itself"
    if head[:4] == b"<svg" or (head[:5] == b"<?xml" and b"<svg" in data[:1024]):
        return "is an SVG drawing; export it as PNG"
    if not any(data):
        return "holds only zeros; copy it again from where it came, or remove it"
    return "is not a picture, or one damaged beyond recognition; save it as JPEG or PNG, or remove it"


def _to_rgb(image: Any) -> Tensor:
    """Any PIL image → uint8 [3, H, W]."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        grey = np.asarray(image)
        if mode == "F":
            if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
                raise _Refused("holds floats outside 0..1; save it with 8 or 16 bits per pixel")
            grey = np.rint(grey * 255)
        else:
            if grey.min() < 0 or grey.max() > 65535:
                raise _Refused("holds 32-bit values outside 0..65535; save it with 8 or 16 bits per pixel")
            grey = (grey.astype(np.uint32) + 128) // 257  # 65535 → 255
        return torch.from_numpy(grey.astype(np.uint8)).expand(3, -1, -1).contiguous()
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(_as_tensor(image.convert("RGBA")))
    return _as_tensor(image.convert("RGB"))


def _as_tensor(image: Any) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # [H, W, C] → [C, H, W]


# EXIF orientation → (swap height and width, then these axes are flipped), EXIF 2.32 table 4.6.4
_TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}


def _turned(image: Tensor, pillow_image: Any) -> Tensor:
    """As EXIF says. After `load()`, formats that Pillow turns by itself (TIFF, AVIF) say no orientation any more."""
    try:
        orientation = pillow_image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF: the pixels are still good
        return image
    swap, flips = _TURNS.get(orientation, (False, ())) if isinstance(orientation, int) else (False, ())
    image = image.transpose(1, 2) if swap else image
    return image.flip(flips) if flips else image
