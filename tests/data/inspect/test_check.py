"""`check_dataset` on sets whose every fault was put there by hand, and the command line around it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.inspect.check import check_dataset
from striate.data.inspect.near_duplicates import look_hash, near_groups
from striate.data.inspect.suggestions import listed
from striate.data.sample import Dataset, Sample
from striate.images import read_image


def photo(seed: int, height: int = 60, width: int = 80, grey: bool = False) -> np.ndarray:
    """Smooth, unlike any other seed: uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image.convert("L").convert("RGB") if grey else image)


def save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def dataset(splits: dict[str, list[tuple[object, object, str]]], classes: tuple[str, ...] = ("cat", "dog")) -> Dataset:
    made = {split: [Sample(*row) for row in rows] for split, rows in splits.items()}  # type: ignore[arg-type]
    return Dataset("here", "folder", "classify", classes, made)


def test_every_fault_is_found_and_told(tmp_path: Path) -> None:
    train = [(save(tmp_path, f"{n}.png", photo(n)), n % 2, f"{n}.png") for n in range(8)]
    copy = save(tmp_path, "copy.bmp", photo(0))  # the same pixels in another format: a leak
    twice = save(tmp_path, "twice.png", photo(1))  # within the split, same label
    other = save(tmp_path, "other.png", photo(2))  # the other label
    tiny = save(tmp_path, "tiny.png", photo(50, 7, 9))
    grey = save(tmp_path, "grey.png", photo(51, grey=True))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    train += [(twice, 1, "twice.png"), (other, 1, "other.png"), (tiny, 0, "tiny.png"), (grey, 0, "grey.png")]
    train += [(broken, 0, "broken.jpg"), (tmp_path / "gone.png", 0, "gone.png")]
    val = [(copy, 0, "copy.bmp"), (save(tmp_path, "v.png", photo(9)), None, "v.png")]
    report = check_dataset(dataset({"train": train, "val": val}), workers=2)

    assert report.pictures["train"] == {"pictures": 14, "readable": 12, "unlabelled": 0}
    assert report.pictures["val"] == {"pictures": 2, "readable": 2, "unlabelled": 1}
    assert report.classes == {"cat": {"train": 6, "val": 1}, "dog": {"train": 6, "val": 0}}
    assert report.sizes["height"] == {"min": 7, "median": 60.0, "max": 60}
    assert report.common_sizes == {"60x80": 13, "7x9": 1}
    assert [place["name"] for place in report.unreadable] == ["broken.jpg", "gone.png"]
    assert "broken.jpg" in report.unreadable[0]["reason"]
    assert report.leaks == [["train: 0.png", "val: copy.bmp"]]
    assert report.duplicates == [["train: 1.png", "train: twice.png"], ["train: 2.png", "train: other.png"]]
    assert report.conflicts == [["train: 2.png", "train: other.png"]]
    assert report.tiny == ["train: tiny.png"]
    assert report.grey_in_colour == ["train: grey.png"]
    told = "\n".join(report.suggestions)
    assert "1 picture of val also stands in train: the validation score will flatter; remove it." in told
    assert "2 pictures cannot be read" in told
    assert "no val picture of dog" in told
    json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_a_sound_set_gets_no_suggestion() -> None:
    rows = [(torch.from_numpy(photo(n)).permute(2, 0, 1), n % 2, f"train/{n}") for n in range(60)]
    report = check_dataset(dataset({"train": rows[:40], "val": rows[40:]}), near=True)
    assert report.suggestions == []
    assert report.imbalance == 1
    assert report.modes == {"colour": 60, "grey": 0}


def test_imbalance_and_empty_classes() -> None:
    rows = [(torch.from_numpy(photo(n)).permute(2, 0, 1), int(n >= 100), str(n)) for n in range(105)]
    uneven = check_dataset(dataset({"train": rows}))
    assert uneven.imbalance == 20
    assert any("cat has 20 times as many train pictures as dog" in line for line in uneven.suggestions)
    empty = check_dataset(dataset({"train": rows[:100]}))
    assert empty.to_dict()["imbalance"] is None
    assert any("no train picture of dog" in line for line in empty.suggestions)


def test_several_labels_count_once_each_and_their_order_is_no_conflict() -> None:
    pixels = torch.from_numpy(photo(0)).permute(2, 0, 1)
    rows = [(pixels, (0, 1), "a"), (pixels, (1, 0), "b"), (pixels, (), "c")]
    report = check_dataset(dataset({"train": rows[:2]}))
    assert report.classes == {"cat": {"train": 2}, "dog": {"train": 2}}
    assert report.conflicts == []
    assert check_dataset(dataset({"train": rows})).conflicts == [["train: a", "train: b", "train: c"]]


def test_grey_with_one_channel_equals_grey_with_three() -> None:
    grey = torch.from_numpy(photo(3, grey=True)).permute(2, 0, 1)
    report = check_dataset(dataset({"train": [(grey, 0, "three"), (grey[:1], 0, "one")]}))
    assert report.duplicates == [["train: three", "train: one"]]


def test_near_duplicates_are_scaled_and_saved_again_pictures_not_flat_ones(tmp_path: Path) -> None:
    rows = [(save(tmp_path, f"{number}.png", photo(number, 240, 320)), number % 2, str(number)) for number in range(40)]
    Image.fromarray(photo(0, 240, 320)).resize((160, 120)).save(tmp_path / "small.jpg", quality=60)
    Image.fromarray(photo(1, 240, 320)).save(tmp_path / "again.jpg", quality=40)
    rows += [(tmp_path / "small.jpg", 0, "small"), (tmp_path / "again.jpg", 1, "again")]
    for level in (0, 100, 101, 255):
        flat = np.full((100, 100, 3), level, np.uint8)
        flat[0, level % 90] = 99
        rows.append((save(tmp_path, f"flat{level}.png", flat), 0, f"flat{level}"))
    report = check_dataset(dataset({"train": rows}), near=True)
    assert report.near_duplicates == [["train: 0", "train: small"], ["train: 1", "train: again"]]
    assert report.duplicates == []


def test_near_groups_equal_brute_force() -> None:
    draw = random.Random(0)
    base = [draw.getrandbits(128) for _ in range(30)]
    looks = [(value, f"{n}") for n, value in enumerate(base)]
    for n, value in enumerate(base):
        flipped = value
        for bit in draw.sample(range(128), n % 6):
            flipped ^= 1 << bit
        looks.append((flipped, f"{n}'"))
    pairs = {
        (looks[i][1], looks[j][1])
        for i in range(60)
        for j in range(i + 1, 60)
        if bin(looks[i][0] ^ looks[j][0]).count("1") <= 3
    }
    assert {tuple(group) for group in near_groups(looks)} == pairs  # by construction no group has three


def test_real_photos_are_not_taken_for_one_another(shared_data) -> None:
    files = sorted((shared_data("hymenoptera")).rglob("val/*/*.jpg"))[:60]
    looks = [(look, str(path)) for path in files if (look := look_hash(read_image(path))) is not None]
    assert len(looks) == len(files) == 40  # all have contrast enough
    assert near_groups(looks) == []


def test_listed_cuts_long_lists() -> None:
    assert listed(list("abcdefg"), most=3) == "a, b, c and 4 more"
    assert listed(["a", "b"]) == "a, b"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("striate.data").open_dataset  # noqa: B018
    for number in range(24):
        split = "train" if number < 16 else "val"
        save(tmp_path, f"pets/{split}/{'cat' if number % 2 else 'dog'}/{number}.png", photo(number))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pets"


def run(*arguments: str) -> int:
    from striate.cli import run as run_command

    return run_command(["data", *arguments])


def test_check_command_prints_json_and_draws_a_sheet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "pets", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["classes"] == {"cat": {"train": 8, "val": 4}, "dog": {"train": 8, "val": 4}}
    assert Image.open("runs/data/pets/contact-sheet.png").format == "PNG"
    assert run("check", "pets") == 0
    captured = capsys.readouterr()
    assert "cat" in captured.out
    assert "wrote runs/data/pets/contact-sheet.png" in captured.err
    assert "next: striate train pets" in captured.err


def test_check_command_never_replaces_a_file_of_the_user(folder: Path) -> None:
    from striate.errors import UsageError

    Path("mine.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="--overwrite"):
        run("check", "pets", "--sheet", "mine.png")
    assert Path("mine.png").read_bytes() == b"mine"
    assert run("check", "pets", "--sheet", "mine.png", "--overwrite") == 0
    assert Image.open("mine.png").format == "PNG"


def test_check_command_ends_with_4_when_nothing_can_be_read(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.write_bytes(b"not a picture")
    from striate.errors import DataError

    try:
        code = run("check", "pets")
    except DataError as error:  # the reader may refuse such a folder itself
        code = error.exit_code
    assert code == 4


@pytest.mark.parametrize("split", ["train", "val"])
def test_show_command_draws_what_the_network_sees(folder: Path, split: str) -> None:
    pytest.importorskip("striate.train.recipes")
    assert run("show", "pets", "--split", split, "--count", "6", "--size", "32", "--out", "seen.png") == 0
    assert Image.open("seen.png").width > 6 * 128


def test_show_command_names_the_splits_there_are(folder: Path) -> None:
    pytest.importorskip("striate.train.recipes")
    from striate.errors import UsageError

    with pytest.raises(UsageError, match=r'no split "trian".*Did you mean "train"'):
        run("show", "pets", "--split", "trian")
