"""Videos in and out; PyAV makes the clips, so every frame is known by its colour."""

from __future__ import annotations

import struct
import sys
import weakref
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from striate.cli.drawn import Video
from striate.config import Preprocess
from striate.errors import DataError, MissingExtra, StriateError, UsageError
from striate.inference import video
from striate.inference.predictor import Predictor
from striate.inference.sources import expand
from striate.inference.video import VideoWriter, frames, is_video, read_clip
from striate.results import Classification, Detections, Failure, Result

av = pytest.importorskip("av")

COUNT, WIDTH, HEIGHT = 30, 96, 64


def picture(number: int) -> np.ndarray:
    """Grey that grows with the number, the top left corner red."""
    pixels = np.full((HEIGHT, WIDTH, 3), 20 + 7 * number, np.uint8)
    pixels[:16, :16] = (250, 20, 20)
    return pixels


def make(path: Path, codec: str = "libx264", rate: Any = 25, count: int = COUNT, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 10
        stream.bit_rate = 4_000_000  # so that every picture comes back as it was
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", movflags="faststart")


def number_of(pixels: torch.Tensor) -> int:
    """Which of the clip's pictures this is."""
    return round((float(pixels[:, 32:, 32:].float().mean()) - 20) / 7)


@pytest.mark.parametrize(
    ("ending", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".ts", "mpeg2video")]
)
def test_every_frame_once_in_order(ending: str, codec: str, tmp_path: Path) -> None:
    path = make(tmp_path / f"a{ending}", codec)
    found = list(frames(path))
    assert [number_of(frame.load()) for frame in found] == list(range(COUNT))
    assert [frame.number for frame in found] == list(range(COUNT))
    assert found[3].name == f"{path}#t=0.120s"
    assert found[0].load().shape == (3, HEIGHT, WIDTH)
    assert found[0].load().dtype == torch.uint8
    assert [number_of(frame.load()) for frame in frames(path, every=7)] == [0, 7, 14, 21, 28]


@pytest.mark.parametrize("rate", [25, 30000, Fraction(30000, 1001), 1])
def test_pace_is_read_from_the_header(rate: Any, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", rate=rate, count=5)
    assert read_clip(path) == (min(Fraction(rate), 240), False)


@pytest.mark.parametrize(
    (
        "matrix",
        "corner",
    ),  # the top left corner goes where ISO 14496-12 8.3.2's matrix says: (x, y) → (ax + cy, bx + dy)
    [((1, 0, 0, 1), (0, 0)), ((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
)
def test_turned_as_the_phone_was_held(
    matrix: tuple[int, ...], corner: tuple[int, int], clip: Path, tmp_path: Path
) -> None:
    a, b, c, d = matrix
    data = bytearray(clip.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[place : place + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    pixels = next(frames(tmp_path / "a.mp4")).load()
    assert pixels.shape == ((3, WIDTH, HEIGHT) if a == 0 else (3, HEIGHT, WIDTH))
    red = pixels[0].int() - pixels[1].int() > 100
    row, column = corner
    assert red[4 * row if row == 0 else -4, 4 * column if column == 0 else -4]
    assert red.sum() < 20 * 20


def test_frames_that_nobody_holds_are_freed(clip: Path) -> None:
    seen: list[weakref.ref[Any]] = []
    for frame in frames(clip):
        seen.append(weakref.ref(frame))
        del frame
        assert sum(reference() is not None for reference in seen) <= 1


def test_frames_long_past_are_read_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "HELD", 3 * HEIGHT * WIDTH * 4)
    path = tmp_path / "a.mp4"
    path.write_bytes(clip.read_bytes())
    found = list(frames(path))
    assert sum(frame._pixels is not None for frame in found) == 4
    assert [number_of(frame.load()) for frame in found] == list(range(COUNT))
    assert [number_of(found[index].load()) for index in (20, 3, 3, 11)] == [20, 3, 3, 11]
    make(path, count=5)
    with pytest.raises(DataError, match="frame 9 is no longer there"):
        found[9].load()


def test_as_sources(clip: Path, tmp_path: Path) -> None:
    found, is_single = expand(str(clip))
    sources = list(found)
    assert not is_single
    assert (len(sources), sources[1].name) == (COUNT, f"{clip}#t=0.040s")
    assert number_of(sources[9].load()) == 9
    one, is_single = expand(next(iter(frames(clip))))
    assert is_single
    assert number_of(next(one).load()) == 0
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    assert [source.name for source in expand(tmp_path)[0]] == [str(tmp_path / "a.png")]  # not named
    assert len(list(expand(str(tmp_path / "*"))[0])) == 1
    assert len(list(expand(str(tmp_path / "*.mp4"))[0])) == COUNT
    assert len(list(expand([tmp_path, tmp_path / "a.mp4"])[0])) == COUNT + 1


def cut(clip: Path, path: Path, share: float) -> Path:
    data = clip.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.mark.parametrize(("ending", "share"), [(".mp4", 0.8), (".mkv", 0.6)])
def test_a_video_that_breaks_off_keeps_what_came_before(ending: str, share: float, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if ending == ".mp4" else {}
    path = cut(make(tmp_path / f"whole{ending}", **options), tmp_path / f"cut{ending}", share)
    *sources, last = expand(path)[0]
    count = len(sources)
    assert [number_of(source.load()) for source in sources] == list(range(count))
    assert 5 <= count < COUNT
    with pytest.raises(DataError, match=rf"cut\{ending}: .*frame {count - 1} \(t={(count - 1) / 25:.3f}s\)"):
        last.load()


def test_a_recording_that_begins_in_the_middle(tmp_path: Path) -> None:
    data = make(tmp_path / "whole.ts", "mpeg2video").read_bytes()
    (tmp_path / "a.ts").write_bytes(data[188 * (len(data) // 188 // 4) :])  # a quarter of its packets is missing
    found = [number_of(frame.load()) for frame in frames(tmp_path / "a.ts")]
    assert found == list(range(COUNT - len(found), COUNT))
    assert len(found) >= 10


def test_flipped_bytes_are_an_error_or_pictures_never_a_crash(clip: Path, tmp_path: Path) -> None:
    random, told = np.random.default_rng(0), []
    whole = clip.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 12):
            data[place] = random.integers(256)
        (tmp_path / "a.mp4").write_bytes(data)
        try:
            assert sum(1 for _ in islice(frames(tmp_path / "a.mp4"), 1000)) <= 1000
        except DataError as error:
            told.append(str(error))
    assert told
    assert all(line.startswith(f"{tmp_path}/a.mp4: ") and "\n" not in line for line in told)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("content", [
    b"", b"not a video", bytes(5000), PLAYLIST, b"ffconcat version 1.0\nfile whole.mp4\n", b"\x89PNG\r\n\x1a\n\0",
])  # fmt: skip
def test_what_is_no_video_is_one_line(content: bytes, clip: Path, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    (tmp_path / "whole.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(DataError, match=r"a\.mp4: ") as told:
        expand(str(path))
    assert "\n" not in str(told.value)
    with pytest.raises(DataError):
        read_clip(path)
    sources = list(expand([path, clip])[0])  # one of several does not end the others
    assert len(sources) == 1 + COUNT
    assert capfd.readouterr() == ("", "")


def test_no_file_no_pictures_no_pyav(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="No such file"):
        next(frames(tmp_path / "none.mp4"))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(DataError, match="not a regular file"):
        next(frames(tmp_path / "folder.mp4"))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="only sound"):
        next(frames(tmp_path / "sound.mp4"))
    with pytest.raises(UsageError, match="every"):
        next(frames(clip, every=0))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"striate\[video\]"):
        next(frames(clip))
    with pytest.raises(MissingExtra, match=r"striate\[video\]"):
        VideoWriter(tmp_path / "a.mp4", 25)


def test_odd_names(clip: Path, tmp_path: Path) -> None:
    for name in ("ü ñ 🐱.MP4", "%03d.mp4", "a:b|c.mp4", "-i.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
        assert next(frames(tmp_path / name)).name == f"{tmp_path / name}#t=0.000s"
    assert not is_video("clip.mp4.txt")
    assert not is_video("a.gif")  # a picture: its first


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".avi", ".m4v"])
def test_written_and_read_back(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"a{ending}"
    with VideoWriter(path, 12) as writer:
        for number in range(COUNT):
            writer.add(Image.fromarray(picture(number)))
        assert not path.exists()
    found = list(frames(path))
    assert [number_of(frame.load()) for frame in found] == list(range(COUNT))
    colour = found[0].load()[:, 4:12, 4:12].float().mean((1, 2))
    assert torch.allclose(colour, torch.tensor([250.0, 20, 20]), atol=8)  # the same colours come back
    assert read_clip(path).rate == 12
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_odd_sizes_and_pictures_of_another_size(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for size in ((33, 17), (33, 17), (66, 34), (5, 99), (1, 1)):
            writer.add(Image.new("RGB", size, (200, 200, 200)))
    found = [frame.load() for frame in frames(tmp_path / "a.mp4")]
    assert [pixels.shape for pixels in found] == [(3, 18, 34)] * 5
    assert int(found[2][:, 1:16, 1:32].min()) > 180


def test_never_over_a_file_and_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        VideoWriter(path, 25)
    with pytest.raises(UsageError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.webm", 25)
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25, overwrite=True) as writer:  # noqa: PT012
        writer.add(Image.new("RGB", (64, 64)))
        raise KeyboardInterrupt
    with VideoWriter(path, 25, overwrite=True):
        pass  # no picture, no file
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.mp4", b"mine")]
    with pytest.raises(StriateError, match="could not be written"), VideoWriter(path / "b.mp4", 25) as writer:
        writer.add(Image.new("RGB", (64, 64)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 1)
    (tmp_path / "a.mkv.1.part").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    with pytest.raises(StriateError, match="could not be written"), VideoWriter(tmp_path / "a.mkv", 25) as writer:  # noqa: PT012
        for _ in range(9):
            writer.add(Image.fromarray(noise))
    assert list(tmp_path.iterdir()) == []


def boxes(prediction: torch.Tensor, source: Any, threshold: float | None = None) -> Result:
    rows = torch.tensor([[10, 10, 50, 40, 0.9, 0.0]])
    return Detections.of(source, ("thing",), rows)


def labels(prediction: torch.Tensor, source: Any, threshold: float | None = None) -> Result:
    return Classification(source, ("a", "b", "c"), prediction)


@pytest.mark.parametrize("decode", [boxes, labels])
def test_predicted_and_drawn_to_a_video(decode: Any, clip: Path, tmp_path: Path) -> None:
    path = cut(clip, tmp_path / "cut.mp4", 0.8)
    drawn = Video(tmp_path / "out.mp4", False, [str(path)])
    results: list[Result | Failure] = []
    with drawn.writer:
        task = SimpleNamespace(
            postprocess=lambda outputs, sizes, preprocess: list(outputs.float().cpu()), to_result=decode
        )
        predictor = Predictor(
            lambda images: images.float().mean((2, 3)).softmax(1),
            task,  # type: ignore[arg-type]
            Preprocess(fit="native"),
            torch.device("cpu"),
        )
        stream = predictor.stream(expand(str(path))[0], batch=4, workers=2)
        for result in stream:
            results.append(result)
            drawn.add(result)
    assert isinstance(results[-1], Failure)
    found = list(frames(drawn.finish()))  # type: ignore[arg-type]
    assert len(found) == len(results) - 1 > 5
    assert found[0].load().shape == next(frames(tmp_path / "out.mp4")).load().shape
    if decode is boxes:
        factor = found[0].load().shape[1] // HEIGHT  # small pictures are enlarged so that labels can be read
        assert found[0].load().shape == (3, factor * HEIGHT, factor * WIDTH)
        seen = [frame.load()[:, factor // 2 :: factor, factor // 2 :: factor] for frame in found]
        assert [number_of(frame[:, 10:, 22:]) for frame in seen][::5] == list(range(len(found)))[::5]


def test_a_video_is_drawn_of_one_video(clip: Path, tmp_path: Path) -> None:
    for sources in ([str(tmp_path)], [str(clip), str(clip)]):
        with pytest.raises(UsageError, match="of one video"):
            Video(tmp_path / "out.mp4", False, sources)
