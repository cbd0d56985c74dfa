"""Kind, size and alpha of a picture from its header, so that limits hold before anything is decoded."""

from __future__ import annotations


def picture_header(data: bytearray) -> tuple[str, tuple[int, int] | None, bool]:
    """What the header of an encoded picture says.

    Returns:
        `jpeg`, `png`, `webp` or `other`; (height, width) as stored, before any EXIF turn, None where the header does
        not say or the picture is an animated WebP; whether there may be alpha.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg", _jpeg_size(data), False
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) > 33:
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        colour_type = data[25]
        pixels_at = data.find(b"IDAT", 33)
        alpha = colour_type in (4, 6) or data.find(b"tRNS", 33, pixels_at) >= 0
        return "png", (height, width), alpha
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) > 30:
        return "webp", *_webp_header(data)
    return "other", None, False


def _jpeg_size(data: bytearray) -> tuple[int, int] | None:
    """(height, width) from the start-of-frame segment; None where the segments are not in order."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _webp_header(data: bytearray) -> tuple[tuple[int, int] | None, bool]:
    """(height, width) and alpha of a still WebP (RFC 9649); no size for an animation: Pillow decodes one frame only."""
    chunk = bytes(data[12:16])
    if chunk == b"VP8X":
        flags = data[20]
        width, height = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        return (None if flags & 0x02 else (height, width)), bool(flags & 0x10)
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1), bool(bits >> 28 & 1)
    if chunk == b"VP8 ":
        return (int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF), False
    return None, False
