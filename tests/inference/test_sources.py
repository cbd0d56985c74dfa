"""Every kind of source gives the pixels it holds, in order, or says what is wrong with it."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.data.sample import Sample
from striate.errors import DataError, ImageError, UsageError
from striate.inference.sources import Source, expand, natural_key, printable

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def write_png(path: Path, pixels: np.ndarray = PIXELS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(source: Source) -> np.ndarray:
    return source.load().permute(1, 2, 0).numpy()


def names_of(sources: object) -> list[str]:
    return [source.name for source in expand(sources)[0]]


@pytest.mark.parametrize(
    "kind", ["path", "str", "bytes", "pillow", "array", "float array", "tensor", "float tensor", "sample"]
)
def test_every_kind_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png")
    planes = torch.from_numpy(PIXELS).permute(2, 0, 1)
    given_as = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "pillow": Image.open(path),
        "array": PIXELS,
        "float array": PIXELS / 255,
        "tensor": planes,
        "float tensor": planes.float() / 255,
        "sample": Sample(path, 0, "a"),
    }[kind]
    found, is_single = expand(given_as)
    (source,) = found
    assert is_single
    assert source.load().dtype == torch.uint8
    assert (pixels_of(source) == PIXELS).all()


def test_grey_pictures_keep_one_channel() -> None:
    grey = PIXELS[..., 0]
    for picture in (grey, torch.from_numpy(grey)[None]):
        (source,) = expand(picture)[0]
        assert source.load().shape == (1, 5, 7)
        assert (source.load()[0].numpy() == grey).all()


@pytest.mark.parametrize(("mode", "colour", "shown"), [
    ("RGBA", (0, 0, 0, 0), (255, 255, 255)),  # transparent: composited on white
    ("1", 1, (255, 255, 255)),
    ("L", 77, (77, 77, 77)),
    ("CMYK", (0, 255, 255, 0), (255, 0, 0)),  # no cyan, all magenta and yellow: red
])  # fmt: skip
def test_pillow_images_of_other_modes(mode: str, colour: object, shown: tuple[int, int, int]) -> None:
    (source,) = expand(Image.new(mode, (4, 3), colour))[0]  # type: ignore[arg-type]
    pixels = source.load()
    assert pixels.shape == (3, 3, 4)
    assert pixels[:, 0, 0].tolist() == pytest.approx(shown, abs=2)


def test_pillow_image_is_turned_as_its_file_would_be(tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: a quarter turn clockwise
    Image.fromarray(PIXELS).save(path, exif=exif)
    for picture in (path, Image.open(path)):
        assert (pixels_of(next(expand(picture)[0])) == np.rot90(PIXELS, -1)).all()


def test_damaged_pillow_image_is_named(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.repeat(PIXELS, 50, axis=0))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ImageError, match=r"a\.png"):
        next(expand(Image.open(path))[0]).load()


def test_arrays_with_odd_memory_are_read_as_numpy_sees_them() -> None:
    flipped = PIXELS[:, ::-1]
    frozen = PIXELS.copy()
    frozen.flags.writeable = False
    assert (pixels_of(next(expand(flipped)[0])) == flipped).all()
    assert (pixels_of(next(expand(frozen)[0])) == PIXELS).all()


def test_batch_becomes_its_pictures() -> None:
    batch = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    found, is_single = expand(batch)
    found = list(found)
    assert not is_single
    assert [torch.equal(source.load(), picture) for source, picture in zip(found, batch, strict=True)] == [True, True]
    assert len({source.name for source in found}) == 2


@pytest.mark.parametrize(("picture", "message"), [
    (np.zeros((3, 8, 8), np.uint8), "transpose"),
    (np.zeros((8, 8, 4), np.uint8), "alpha"),
    (np.zeros((8, 8, 1), np.uint8), "grey"),
    (np.zeros((2, 8, 8, 3), np.uint8), "list of arrays"),
    (np.zeros((0, 8, 3), np.uint8), "shape"),
    (np.zeros((8, 8, 3), np.int64), "uint8"),
    (np.zeros((8, 8, 3), bool), "uint8"),
    (torch.zeros(8, 8, 3), "permute"),
    (torch.zeros(4, 8, 8), "shape"),
    (torch.zeros(8, 8), "shape"),
    (torch.zeros(3, 8, 0), "shape"),
    (torch.zeros(3, 8, 8, dtype=torch.int32), "uint8"),
    (17, "int"),
    (None, "NoneType"),
    ({"a": 1}, "dict"),
])  # fmt: skip
def test_what_cannot_be_a_picture_is_refused(picture: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand(picture)


@pytest.mark.parametrize("value", [1.01, -0.01, float("nan"), 255.0, float("inf")])
def test_float_pixels_outside_0_to_1_are_refused(value: float) -> None:
    pixels = np.zeros((4, 4, 3), np.float32)
    pixels[1, 2, 0] = value
    with pytest.raises(ImageError, match=r"expected 0\.\.1"):
        next(expand(pixels)[0]).load()


def test_folder_is_searched_to_its_depths_in_natural_order(tmp_path: Path) -> None:
    wanted = ["IMG2.png", "img10.PNG", "sub/a1.png", "sub/a9.png", "sub/a11.png", "z y/ü\n1.png"]
    for name in random.Random(0).sample(wanted, len(wanted)):
        write_png(tmp_path / "x.png").rename(_made(tmp_path / name))
    (tmp_path / "notes.txt").write_text("no picture")
    write_png(tmp_path / ".hidden.png")
    found, is_single = expand(tmp_path)
    assert not is_single
    assert [os.path.relpath(source.name, tmp_path) for source in found] == wanted


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_link_loops_end_and_linked_folders_are_walked_once(tmp_path: Path) -> None:
    write_png(tmp_path / "photos" / "a.png")
    write_png(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "self.png").symlink_to(tmp_path / "photos" / "self.png")
    found = list(expand(tmp_path / "photos")[0])
    assert [Path(source.name).name for source in found] == ["a.png", "b.png", "self.png"]
    with pytest.raises(DataError):  # a link that leads nowhere is told, not passed over
        found[2].load()


def test_pipes_named_as_pictures_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    write_png(tmp_path / "a.png")
    assert len(names_of(tmp_path)) == 1


def test_names_that_are_no_utf8_stay_printable(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    write_png(tmp_path / "a.png").rename(os.fsdecode(raw))
    (source,) = expand(tmp_path)[0]
    assert source.name.encode().endswith(rb"caf\xe9.png")  # the escape, spelt out
    assert source.load().shape == (3, 5, 7)


def test_patterns(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/b/2.png", "a/b/c/10.png", "3.png"):
        write_png(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("")
    found = names_of(str(tmp_path / "a" / "**" / "*"))
    assert [Path(name).name for name in found] == ["1.png", "2.png", "10.png"]
    with pytest.raises(DataError, match="no picture matches"):
        expand(str(tmp_path / "*.webp"))
    literal = write_png(tmp_path / "odd[1].png")  # a real file wins over the pattern it could be
    assert expand(str(literal))[1]


def test_what_is_not_there_is_named_with_its_neighbour(tmp_path: Path) -> None:
    write_png(tmp_path / "kitten.png")
    with pytest.raises(DataError, match=r'no such file\. Did you mean "kitten\.png"'):
        expand(tmp_path / "kiten.png")
    with pytest.raises(DataError, match="there is no folder"):
        expand(str(tmp_path / "nowhere" / "a.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture in this folder"):
        expand(tmp_path / "empty")
    for odd in ("", "a\0b"):
        with pytest.raises(DataError):
            expand(odd)


def test_a_missing_file_in_a_list_keeps_its_place(tmp_path: Path) -> None:
    good = write_png(tmp_path / "a.png")
    found = list(expand([good, tmp_path / "missing.png", PIXELS])[0])
    assert len(found) == 3
    with pytest.raises(DataError, match=r"missing\.png: no such file"):
        found[1].load()
    assert (pixels_of(found[2]) == PIXELS).all()


def test_lists_are_lazy() -> None:
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield PIXELS

    found, is_single = expand(endless())
    assert not is_single
    for _ in range(3):
        next(found)
    assert asked == 3


def test_bytes_that_are_no_picture_say_which() -> None:
    with pytest.raises(ImageError, match="picture 1"):
        list(expand([PIXELS, b"not a picture"])[0])[1].load()
    with pytest.raises(ImageError):
        next(expand(b"")[0]).load()


def test_url_is_fetched_only_when_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import striate.remote

    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    asked: list[str] = []
    monkeypatch.setattr(striate.remote, "fetch", lambda url: (asked.append(url), buffer.getvalue())[1])
    found, is_single = expand("HTTPS://example.org/a.png")
    assert is_single
    source = next(found)
    assert asked == []
    assert (pixels_of(source) == PIXELS).all()
    assert asked == ["HTTPS://example.org/a.png"]


def test_split_of_a_data_set_knows_its_labels() -> None:
    found, is_single = expand("digits:test")
    first = next(found)
    assert not is_single
    assert first.target in list("0123456789")
    assert first.load().shape[1:] == (8, 8)
    with pytest.raises(DataError, match="test"):
        expand("digits:tset")


@given(st.lists(st.text(min_size=1, max_size=12)))
def test_natural_order_is_a_total_order(names: list[str]) -> None:
    ordered = sorted(names, key=natural_key)
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered


def test_natural_order_counts() -> None:
    assert sorted(["img10.png", "img9.png", "img100.png", "IMG1.png"], key=natural_key) == [
        "IMG1.png", "img9.png", "img10.png", "img100.png"
    ]  # fmt: skip


@given(st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw))
def test_every_file_name_becomes_utf8(raw: bytes) -> None:
    assert printable(os.fsdecode(raw)).encode()
