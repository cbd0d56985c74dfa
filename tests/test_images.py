"""Pictures in: values against Pillow, and two thousand damaged files."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate import images
from striate.errors import ImageError
from striate.images import image_size, read_image


def photo(height: int = 41, width: int = 60) -> Image.Image:
    """Smooth colours, all different in the four corners, so that turns and swapped channels show."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), 255 - (x + y) * 255 / (width + height - 2)], -1)
    return Image.fromarray(rgb.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    """[3, H, W] int, the independent truth."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).astype(int)


def off_by(image: torch.Tensor, expected: np.ndarray) -> int:
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == expected.shape
    return int(np.abs(image.numpy().astype(int) - expected).max())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "ICO", "TGA", "PCX", "QOI", "SGI"])
def test_lossless_formats_give_the_pixels_themselves(kind, tmp_path):
    file = tmp_path / f"photo.{kind.lower()}"
    photo(32, 32).save(file)
    assert off_by(read_image(file), np.asarray(photo(32, 32)).transpose(2, 0, 1)) == 0
    assert image_size(str(file)) == (32, 32)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"subsampling": 0}), ("WEBP", {}), ("AVIF", {})],
)
def test_lossy_formats_agree_with_pillow(kind, options):
    data = encoded(photo(), kind, quality=90, **options)
    assert off_by(read_image(data), by_pillow(data)) <= 4


@pytest.mark.parametrize("with_torchcodec", [True, False])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_exactly_once(kind, orientation, with_torchcodec, monkeypatch):
    if not with_torchcodec:
        monkeypatch.setattr(images, "_torchcodec", lambda: None)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    upright = np.asarray(photo()).astype(int)
    turns = {  # EXIF 2.32: where row 0 and column 0 of the stored picture belong
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[:, ::-1].transpose(1, 0, 2),
    }
    expected = turns[orientation].transpose(2, 0, 1)
    assert np.abs(read_image(data).numpy() - expected).mean() < 4  # the wrong turn is off by 60 and more
    assert image_size(data) == expected.shape[1:]


@pytest.mark.parametrize("with_torchcodec", [True, False])
def test_every_mode_becomes_rgb_as_pillow_says(with_torchcodec, monkeypatch):
    if not with_torchcodec:
        monkeypatch.setattr(images, "_torchcodec", lambda: None)
    for mode, kind in itertools.product(("1", "L", "P", "RGB"), ("PNG", "BMP", "TIFF", "GIF")):
        data = encoded(photo().convert(mode), kind)
        assert off_by(read_image(data), by_pillow(data)) == 0, (mode, kind)
    for mode, kind in [("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("YCbCr", "TIFF")]:
        data = encoded(photo().convert(mode), kind)
        assert off_by(read_image(data), by_pillow(data)) <= 4, (mode, kind)


@pytest.mark.parametrize("with_torchcodec", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TGA"])
def test_alpha_is_laid_on_white(kind, with_torchcodec, monkeypatch, tmp_path):
    if not with_torchcodec:
        monkeypatch.setattr(images, "_torchcodec", lambda: None)
    image = photo().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    file = tmp_path / f"alpha.{kind.lower()}"
    image.save(file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB")).transpose(2, 0, 1).astype(int)
    assert off_by(read_image(file), expected) <= 1


@pytest.mark.parametrize("with_torchcodec", [True, False])
def test_transparent_colours_without_an_alpha_channel_are_white(with_torchcodec, monkeypatch):
    if not with_torchcodec:
        monkeypatch.setattr(images, "_torchcodec", lambda: None)
    half = Image.new("L", (8, 4), 10)
    half.paste(200, (4, 0, 8, 4))
    cases = [
        encoded(half, "PNG", transparency=10),
        encoded(half.convert("RGB"), "PNG", transparency=(10, 10, 10)),
        encoded(half.convert("P"), "PNG", transparency=10),
        encoded(half.convert("P"), "GIF", transparency=10),
        encoded(Image.merge("LA", (half, half.point(lambda value: 255 * (value > 100)))), "PNG"),
    ]
    for data in cases:
        image = read_image(data)
        assert image[:, 0, 0].tolist() == [255] * 3
        assert image[:, 0, 7].tolist() == [200] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    grey = read_image(encoded(Image.fromarray(values), kind))
    assert off_by(grey, np.stack([np.rint(values / 257)] * 3).astype(int)) <= 1
    assert int(grey.min()) == 0
    assert int(grey.max()) == 255


def test_sixteen_bit_colour_png_is_scaled():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = (7).to_bytes(4) + (5).to_bytes(4) + bytes([16, 2, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert off_by(read_image(data), np.rint(values.astype(float) / 257).astype(int).transpose(2, 0, 1)) <= 1


def test_floats_within_one_are_scaled_and_others_refused():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    image = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert off_by(image, np.stack([np.rint(values * 255)] * 3).astype(int)) == 0
    for wrong in (values * 300, values - 0.5, np.full((2, 2), np.nan, np.float32)):
        with pytest.raises(ImageError, match=r"<bytes>: .*8 or 16 bits"):
            read_image(encoded(Image.fromarray(wrong), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind):
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    image = read_image(encoded(red, kind, save_all=True, append_images=[blue, blue]))
    assert image.shape == (3, 10, 20)
    assert (image.float().mean((1, 2)) - torch.tensor([255.0, 0, 0])).abs().max() < 3


def test_wrong_suffix_does_not_matter(tmp_path):
    file = tmp_path / "really-a.png"
    file.write_bytes(encoded(photo(), "JPEG"))
    assert read_image(file).shape == (3, 41, 60)


def test_limits_hold_before_decoding(tmp_path):
    header = (50_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + b"IHDR" + header + zlib.crc32(b"IHDR" + header).to_bytes(4)
    file = tmp_path / "bomb.png"
    file.write_bytes(bomb + (4).to_bytes(4) + b"IDAT" + bytes(8))
    with pytest.raises(ImageError, match=r"bomb\.png: 50000 x 50000 pixels, the limit is 178,956,970"):
        read_image(file)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        data = encoded(Image.new("RGB", (200, 100)), kind)
        assert read_image(data, max_pixels=20_000).shape == (3, 100, 200)
        with pytest.raises(ImageError, match="limit is 19,999"):
            read_image(data, max_pixels=19_999)
        with pytest.raises(ImageError, match="bytes, the limit is"):
            read_image(data, max_bytes=len(data) - 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (bytes(5000), "only zeros"),
        (b"%PDF-1.7 " + bytes(100), "is a PDF"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"hello, I am a text file with a long enough body" * 9, "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(content, said, tmp_path):
    file = tmp_path / "thing.jpg"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=said) as error:
        read_image(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_paths_that_cannot_be_read(tmp_path):
    for path, said in [(tmp_path / "no.png", "no such file"), (tmp_path, "is a folder"), ("a\0b", "valid path")]:
        with pytest.raises(ImageError, match=said):
            read_image(path)
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="not a regular file"):  # and does not wait for ever
        read_image(pipe)
    locked = tmp_path / "locked.png"
    locked.write_bytes(encoded(photo(), "PNG"))
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root may read anything
        with pytest.raises(ImageError, match="permissions"):
            read_image(locked)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("QOI", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
    ],
)
def test_a_truncated_picture_is_refused_never_half_grey(kind, options):
    data = encoded(photo(), kind, **options)
    whole = read_image(data)
    refused = 0
    for cut in range(0, len(data), max(1, len(data) // 60)):
        try:
            image = read_image(data[:cut])
        except ImageError:
            refused += 1
        else:  # only what carries no pixels was cut off
            assert torch.equal(image, whole), f"{cut} of {len(data)} bytes"
    assert refused > 40


def test_a_jpeg_without_its_end_marker_is_refused():
    data = encoded(photo(), "JPEG")
    assert data[-2:] == b"\xff\xd9"
    with pytest.raises(ImageError, match="truncated"):
        read_image(data[:-2])


def test_libraries_say_nothing_on_stderr_and_python_still_can(capfd):
    data = bytearray(encoded(photo(), "JPEG"))
    data[-40:-20] = bytes(20)  # libjpeg: "Corrupt JPEG data"
    with contextlib.suppress(ImageError):
        read_image(bytes(data))
    print("still here", file=sys.stderr)
    ctypes.CDLL(None).perror(b"C too")
    assert capfd.readouterr().err.splitlines()[0] == "still here"


def test_threads_leave_the_warning_filters_as_they_were():
    data = encoded(photo().convert("P"), "GIF")
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(data) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_photos_agree_with_pillow(shared_data):
    files = sorted(shared_data("hymenoptera").rglob("*.jpg"))[::10]
    assert len(files) > 5
    for file in files:
        assert off_by(read_image(file), by_pillow(file.read_bytes())) <= 4, file


# --- two thousand damaged files, in a process of their own so that a crash is seen -----------------------------------


def damaged(count: int):
    """(suffix, bytes): whole pictures truncated, flipped, spliced, overwritten; bombs; zeros; noise."""
    random = np.random.default_rng(0)
    small = photo(24, 33)
    animation = {"save_all": True, "append_images": [small.rotate(90), small.rotate(180)]}
    seeds = [
        ("jpg", encoded(small, "JPEG")),
        ("jpg", encoded(small, "JPEG", progressive=True)),
        ("jpg", encoded(small.convert("CMYK"), "JPEG")),
        ("png", encoded(small, "PNG")),
        ("png", encoded(small.convert("P"), "PNG", transparency=3)),
        ("png", encoded(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)), "PNG")),
        ("webp", encoded(small, "WEBP")),
        ("webp", encoded(small.convert("RGBA"), "WEBP", lossless=True)),
        ("webp", encoded(small, "WEBP", **animation)),
        ("gif", encoded(small, "GIF", **animation)),
        ("bmp", encoded(small, "BMP")),
        ("tif", encoded(small, "TIFF", compression="tiff_lzw")),
        ("tif", encoded(small, "TIFF", compression="jpeg")),
        ("ppm", encoded(small, "PPM")),
        ("ico", encoded(small, "ICO")),
        ("tga", encoded(small, "TGA")),
        ("avif", encoded(small, "AVIF")),
        ("jp2", encoded(small, "JPEG2000")),
        ("qoi", encoded(small, "QOI")),
    ]
    black = encoded(Image.new("L", (3000, 3000)), "PNG")  # 9 million pixels in 9 kB
    for number in range(count):
        suffix, whole = seeds[number % len(seeds)]
        data = bytearray(whole)
        kind = number // len(seeds) % 8
        if kind == 0:
            del data[random.integers(len(data)) :]
        elif kind == 1:
            for _ in range(random.integers(1, 12)):
                data[random.integers(len(data))] ^= 1 << random.integers(8)
        elif kind == 2:  # damage where the sizes are
            for _ in range(4):
                data[random.integers(min(64, len(data)))] = random.integers(256)
        elif kind == 3:
            start = random.integers(len(data))
            data[start : start + random.integers(1, 200)] = bytes(
                random.integers(0, 256, random.integers(200)).tolist()
            )
        elif kind == 4:
            start = random.integers(len(data))
            data[start : start + random.integers(1, 400)] = bytes(min(400, len(data) - start))
        elif kind == 5:
            suffix = seeds[random.integers(len(seeds))][0]
        elif kind == 6:
            other = seeds[random.integers(len(seeds))][1]
            data = data[: random.integers(len(data))] + other[random.integers(len(other)) :]
        elif number % 4 == 0:
            data = bytearray(random.integers(0, 256, random.integers(2000)).astype(np.uint8).tobytes())
        elif number % 4 == 1:
            data = bytearray(random.integers(3000))
        elif number % 4 == 2:  # a header that promises terabytes
            data[16:24] = random.integers(0, 256, 8).astype(np.uint8).tobytes()
        else:
            data = bytearray(black if number % 40 == 3 else whole[:40] + whole)
        yield suffix, bytes(data)


def hostile_run(count: int, folder: str) -> None:
    """Decode or refuse each; prints counts and how far the memory grew after a first quarter."""
    outcome = {"files": 0, "decoded": 0, "refused": 0, "named badly": 0}
    grown = first = 0
    for number, (suffix, data) in enumerate(damaged(count)):
        file = Path(folder, f"{number}.{suffix}")
        file.write_bytes(data)
        outcome["files"] += 1
        try:
            image = read_image(file, max_pixels=20_000_000)
        except ImageError as error:
            named = str(error).startswith(f"{file}: ") and "\n" not in str(error)
            outcome["refused" if named else "named badly"] += 1
        else:
            assert image.dtype == torch.uint8
            assert image.ndim == 3
            assert image.shape[0] == 3
            outcome["decoded"] += 1
        file.unlink()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        first = resident if number == count // 4 else first
        grown = max(grown, resident - first) if first else 0
    print(json.dumps(outcome | {"grown_mib": round(grown / 2**20, 1)}))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_two_thousand_damaged_files_are_decoded_or_refused(tmp_path):
    command = f"import test_images; test_images.hostile_run(2000, {str(tmp_path)!r})"
    paths = [str(Path(__file__).parent), *sys.path]
    run = subprocess.run(
        [sys.executable, "-c", command],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stderr == ""  # nothing that C libraries or Pillow had to remark
    outcome = json.loads(run.stdout)
    print(outcome)
    assert outcome["files"] == outcome["decoded"] + outcome["refused"] == 2000
    assert outcome["refused"] > 600
    assert outcome["decoded"] > 200
    assert outcome["grown_mib"] < 100
