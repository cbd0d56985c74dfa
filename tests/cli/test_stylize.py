"""`striate stylize` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.create.networks import photo, small_file

import striate
from striate.cli import main


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photo, two styles, a folder of photos and a network."""
    where = tmp_path_factory.mktemp("desk")
    (where / "photos").mkdir()
    for seed, name in enumerate(("town.png", "stars.png", "waves.png", "photos/a.png", "photos/b.png", "photos/c.png")):
        Image.fromarray(photo(seed, 70, 80).permute(1, 2, 0).numpy()).save(where / name)
    small_file(where, "conv6-relu-pool-conv8-relu-pool-conv10-relu-pool-conv12-relu")
    return where


@pytest.fixture(autouse=True)
def at_the_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)


def typed(words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["stylize", *words.split()])
    return int(stop.value.code or 0)


SEEN = "--network seeing.safetensors --device cpu"


def test_a_photo_is_painted(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"town.png stars.png {SEEN} --size 40 --steps 3 --json --overwrite") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["losses"][-1]["step"] == 3
    assert "wrote town-stars.png" in told.err
    assert "next: striate stylize train stars.png --content PHOTOS" in told.err
    assert striate.read_image(desk / "town-stars.png").shape == (3, 35, 40)


def test_several_styles_previews_and_nothing_overwritten(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"town.png stars.png waves.png --mix 0.7 0.3 {SEEN} --size 40 --steps 5 --out mixed.jpg"
    assert typed(f"{words} --preview previews --preview-every 2") == 0
    assert [path.name for path in sorted((desk / "previews").iterdir())] == [
        "1-40px-0002.jpg",
        "1-40px-0004.jpg",
        "1-40px-0005.jpg",
    ]
    before = (desk / "mixed.jpg").read_bytes()
    capsys.readouterr()
    assert typed(words) == 2
    assert "mixed.jpg exists already" in capsys.readouterr().err
    assert typed(f"{words.replace('mixed', 'other')} --preview previews") == 2
    assert "previews holds files already" in capsys.readouterr().err
    assert (desk / "mixed.jpg").read_bytes() == before
    assert typed(f"{words} --seed 1 --overwrite --strength 5") == 0
    assert (desk / "mixed.jpg").read_bytes() != before


TEACH = f"--content photos {SEEN} --epochs 1 --batch 2 --size 64 --width 4"


def test_a_network_is_taught_and_paints(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"train stars.png {TEACH} --name stars") == 0
    assert "next: striate stylize PHOTO runs/stylize/stars/model.safetensors" in capsys.readouterr().err
    assert typed(f"train stars.png {TEACH} --name stars") == 2
    file = "runs/stylize/stars/model.safetensors"
    assert typed(f"town.png {file} --device cpu --out fast.png") == 0
    assert striate.read_image(desk / "fast.png").shape == (3, 70, 80)
    capsys.readouterr()
    assert typed(f"photos {file} --device cpu --out painted --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["unreadable"]) == (3, 0)
    names = [path.name for path in sorted((desk / "painted").iterdir())]
    assert names == ["00001-a.jpg", "00002-b.jpg", "00003-c.jpg"]
    assert typed(f"photos {file} --device cpu --out painted") == 2
    assert typed("train --resume runs/stylize/stars") == 0


def test_any_style_is_taught_and_paints(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(f"train photos stars.png --model any_style {TEACH} --name any") == 0
    assert "next: striate stylize PHOTO STYLE runs/stylize/any/model.safetensors" in capsys.readouterr().err
    file = "runs/stylize/any/model.safetensors"
    assert typed(f"town.png stars.png {file} --device cpu --out any.png") == 0
    assert typed(f"town.png {file} --device cpu --out none.png") == 2
    assert "name a picture that has it" in capsys.readouterr().err


def test_a_video_is_painted_frame_by_frame(desk: Path) -> None:
    av = pytest.importorskip("av")
    from striate.inference.video import VideoWriter

    assert typed(f"train waves.png {TEACH} --name waves") == 0
    with VideoWriter(desk / "clip.mp4", 5) as film:
        for seed in range(3):
            film.add(Image.fromarray(photo(seed, 48, 64).permute(1, 2, 0).numpy()))
    assert typed("clip.mp4 runs/stylize/waves/model.safetensors --device cpu --out painted.mp4") == 0
    with av.open(str(desk / "painted.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 3


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("", 2, "what to paint, and like what?"),
        ("town.png", 2, "what to paint, and like what?"),
        (f"town.png none.png {SEEN}", 4, "none.png: no such file"),
        ("town.png stars.png --network none.pth --out new.txt", 2, "not a picture format"),
        ("town.png stars.png --network none.pth --out new.png", 2, "--network none.pth: neither a file nor the name"),
        ("town.png stars.png --network town.png --out new.png", 2, "does not say which network"),
        (f"town.png stars.png {SEEN} --mix 1 2", 2, "2 numbers for 1 styles"),
        (f"town.png stars.png {SEEN} --size 3", 2, "size must be a whole number from 32"),
        (f"town.png stars.png {SEEN} --smooth -1", 2, "smooth must be a number from 0"),
        (f"town.png stars.png {SEEN} --keep-colours all", 2, "keep-colours"),
        (f"town.png stars.png {SEEN} --style-layers conv99 --out new.png", 2, '"conv99" is no layer'),
        (f"town.png stars.png {SEEN} --out town.doc --steps 1 --size 32", 2, "not a picture format"),
        (f"town.png stars.png {SEEN} --preview new --preview-every 0 --out new.png", 2, "--preview-every must be"),
        ("town.png seeing.safetensors", 4, "paints nothing"),
        ("town.png none.safetensors", 4, "no such model file"),
        (f"train stars.png {SEEN}", 2, "with --content"),
        ("train --content photos", 2, "which style?"),
        (f"train stars.png waves.png --mix 1 --content photos {SEEN}", 2, "1 numbers for 2 styles"),
        (f"train stars.png --content none {SEEN}", 4, "no such folder of pictures"),
        (f"--train stars.png --content-folder photos {SEEN}", 2, "striate stylize train STYLE --content PHOTOS"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(
    words: str, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(words) == code
    error = capsys.readouterr().err
    assert told in error
    assert error.startswith("striate: ")
    assert len(error.strip().splitlines()) == 1


def test_without_weights_it_says_where_to_put_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    assert typed("town.png stars.png --device cpu --out none.png") == 4
    error = capsys.readouterr().err.strip()
    assert "squeezenet1_0" in error
    assert str(tmp_path) in error
    assert [line.startswith("striate: ") for line in error.splitlines()] == [
        False,
        True,
    ]  # the first says what it fetches


def test_squeezenets_weights_see(shared_file, desk: Path) -> None:
    seen = shared_file("squeezenet1_0-imagenet.safetensors")
    assert typed(f"town.png stars.png --network {seen} --device cpu --size 64 --steps 4 --out real.png") == 0
    painted, town = striate.read_image(desk / "real.png").float(), striate.read_image(desk / "town.png").float()
    assert torch.isfinite(painted).all()
    assert (painted.mean((1, 2)) - town.mean((1, 2))).abs().max() > 1
