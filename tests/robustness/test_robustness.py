"""Robustness of a model whose answers are known: it looks at mean brightness and nothing else."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import striate.robustness.measure as room
from striate.cli import main
from striate.config import ModelCard, Preprocess
from striate.data.corruptions import CORRUPTIONS
from striate.errors import DataError, UsageError
from striate.model import Model

CLASSES = ["dark", "light"]


class Brightness(nn.Module):
    """Light where the mean is above one half."""

    def forward(self, images: Tensor) -> Tensor:
        over = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-9 * over, 9 * over], dim=1)


def brightness_model(classes: list[str] = CLASSES, channels: int = 3) -> Model:
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    preprocess = Preprocess(size=(16, 16), channels=channels, mean=zeros, std=ones)  # type: ignore[arg-type]
    card = ModelCard(task="classify", architecture="brightness", classes=classes, preprocess=preprocess)
    return Model(Brightness(), card, device="cpu")


def write_photos(folder: Path, classes: list[str] = CLASSES) -> Path:
    """Six pictures of a class, about 40 and about 200 bright, with a grain that no disturbance turns over."""
    for name, level in zip(classes, (40, 200), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            grain = np.random.default_rng(number).integers(-9, 10, (16, 16, 3))
            Image.fromarray((level + grain).astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_only_lighting_breaks_a_model_of_brightness(photos: Path) -> None:
    model = brightness_model()
    found = model.robustness(str(photos))
    assert list(found.curves) == list(CORRUPTIONS)
    assert found.metric == "accuracy"
    assert found.clean.value == model.evaluate(str(photos))["accuracy"] == 1
    assert found.count == 12
    # 200 x (1 - s) falls below 127.5 from s = 0.4 on; 40 + 255 s rises above it from 0.4 on: that class is lost
    assert found["darker"].values == [1, 0.5, 0.5, 0.5, 0.5]
    assert found["lighter"].values == [1, 1, 1, 0.5, 0.5]
    assert found["darker"].kept == pytest.approx(0.6)
    for name in set(CORRUPTIONS) - {"darker", "lighter"}:
        assert found[name].values == [1] * 5, name
        assert found[name].kept == 1
    assert found.weakest.name == "darker"
    assert found.sentence == (
        "darker costs most: by 80 %, accuracy falls from 1.00 to 0.50; over all its strengths 60 % is kept"
    )


def test_the_example_is_disturbed_as_it_was_judged(photos: Path) -> None:
    found = brightness_model().robustness(str(photos))
    assert found.clean.right is True
    for curve in found.curves.values():
        for grade in curve.grades:
            said = "light" if grade.picture.double().mean() > 127.5 else "dark"
            assert grade.result.caption().startswith(said)
            assert grade.right == (said == found.clean.result.source.target)


def test_a_grey_model_is_judged_too(photos: Path) -> None:
    found = brightness_model(channels=1).robustness(str(photos), only=["noise", "darker"], strengths=2)
    assert found.clean.picture.shape == (1, 16, 16)
    assert found["darker"].strengths == [0.5, 0.8]
    assert found["darker"].values == [0.5, 0.5]


def test_neither_batch_nor_cache_nor_company_changes_a_number(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Corner(nn.Module):
        """Depends on single pixels, so that any other noise, place or direction would show."""

        def forward(self, images: Tensor) -> Tensor:
            part = images[:, :, :5, :5].mean((1, 2, 3)) - images[:, :, 5:10, 5:10].mean((1, 2, 3))
            return torch.stack([part, -part], dim=1)

    model = brightness_model()
    model.module = Corner()
    reference = model.robustness(str(photos))
    monkeypatch.setattr(room, "automatic_batch", lambda size, device: 5)
    assert model.robustness(str(photos)).to_dict() == reference.to_dict()
    monkeypatch.setattr("striate.data.loaders.CACHE_BYTES", 0)
    assert model.robustness(str(photos)).to_dict() == reference.to_dict()
    alone = model.robustness(str(photos), only=["occlusion"])
    assert alone["occlusion"].values == reference["occlusion"].values
    assert any(
        reference.to_dict()["disturbances"][n] != model.robustness(str(photos), seed=1).to_dict()["disturbances"][n]
        for n in ("noise", "shift")
    )


def test_json_says_all_and_holds_no_nan(photos: Path) -> None:
    found = brightness_model().robustness(str(photos), only=["blur", "rotation"], strengths=3)
    said = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(said["disturbances"]) == ["rotation", "blur"]  # in the order of the table
    assert said["disturbances"]["rotation"]["strengths"] == pytest.approx([16.666667, 35, 60])
    assert said["split"] in ("train", "val")
    assert said["sentence"] == "nothing tried costs anything: undisturbed, accuracy is 1.00"


def test_nothing_right_has_nothing_to_keep(photos: Path) -> None:
    class Contrary(Brightness):
        def forward(self, images: Tensor) -> Tensor:
            return -super().forward(images)

    model = brightness_model()
    model.module = Contrary()
    found = model.robustness(str(photos), only=["darker"])
    assert found.clean.value == 0
    assert found["darker"].kept is None
    assert found.clean.right is False
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert found.figure()


def test_limit_draws_from_all_classes_and_is_the_same_each_time(photos: Path) -> None:
    model = brightness_model()
    found = model.robustness(str(photos), only=["darker"], limit=7)
    assert found.count == 7
    assert 0 < found["darker"].values[-1] < 1  # both classes are among them
    assert found.to_dict() == model.robustness(str(photos), only=["darker"], limit=7).to_dict()
    assert model.robustness(str(photos), only=["darker"], limit=999).count == 12


def test_unreadable_pictures_are_told_and_left_out(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "dark" / "0.png").write_bytes(b"no picture")
    model = brightness_model()
    for _ in range(2):
        found = model.robustness(str(photos), only=["darker"])
        assert found.count == 11
        assert len(found.skipped) == 1
        assert "0.png" in found.skipped[0]
        monkeypatch.setattr("striate.data.loaders.CACHE_BYTES", 0)


def test_what_cannot_be_meant_is_refused_before_reading(tmp_path: Path) -> None:
    model, nowhere = brightness_model(), str(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r'no disturbance "rotatoin".*Did you mean "rotation"\?'):
        model.robustness(nowhere, only=["rotatoin"])
    with pytest.raises(UsageError, match="no disturbance is named"):
        model.robustness(nowhere, only=[])
    for strengths in (0, -1, 11):
        with pytest.raises(UsageError, match="strengths must be a number from 1 to 10"):
            model.robustness(nowhere, strengths=strengths)
    with pytest.raises(UsageError, match="limit must be at least 1"):
        model.robustness(nowhere, limit=0)
    with pytest.raises(DataError):
        model.robustness(nowhere)


def test_data_without_readable_pictures(photos: Path) -> None:
    for file in photos.glob("*/*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 12 pictures could be read"):
        brightness_model().robustness(str(photos), only=["blur"])


def test_other_splits_are_refused_by_name(photos: Path) -> None:
    with pytest.raises(DataError, match='no split "test"'):
        brightness_model().robustness(str(photos), "test")


@pytest.mark.parametrize("strengths", [1, 5])
def test_no_words_of_the_picture_overlap_or_leave_it(tmp_path: Path, strengths: int) -> None:
    classes = ["an endlessly long name of a class, with $x_1$ in it", "the other \\frac name, hardly any shorter"]
    photos = write_photos(tmp_path / "photos", classes)
    found = brightness_model(classes).robustness(str(photos), strengths=strengths)
    figure = found.figure("a model in a folder with a long name " * 8)
    assert len(figure.axes) == 10 * (2 + strengths)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    pixels = figure.bbox
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= pixels.width
        assert box.y0 >= 0
        assert box.y1 <= pixels.height
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    inked = [axes.get_tightbbox().padded(-1) for axes in figure.axes]  # type: ignore[union-attr]
    for one, other in itertools.product(inked, boxes):
        assert not one.overlaps(other)


def striate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["robustness", *arguments])
    captured = capsys.readouterr()
    return int(stop.value.code or 0), captured.out, captured.err


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that stands for the model of brightness, which no model file can hold; also the current folder."""
    monkeypatch.setattr(Model, "load", classmethod(lambda cls, path, device: brightness_model()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.safetensors").touch()
    return "m.safetensors"


def test_command_prints_a_table_and_draws(model_file: str, photos: Path, capsys, tmp_path: Path) -> None:
    code, out, err = striate(capsys, model_file, str(photos), "--only", "darker", "noise", "--strengths", "2")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split() == ["disturbance", "strengths", "none", "1", "2", "kept"]
    assert lines[2].split()[-5:] == ["1.000", "1.000", "1.000", "100", "%"]  # noise comes first in the table
    assert lines[3].split()[-5:] == ["1.000", "0.500", "0.500", "50", "%"]
    assert lines[4].startswith("darker costs most: by 80 %")
    assert Image.open(tmp_path / "robustness.png").width > 1400
    assert err.splitlines()[-2:] == ["wrote robustness.png", f"next: striate evaluate {model_file} {photos}"]
    code, _, err = striate(capsys, model_file, str(photos))
    assert code == 2
    assert "robustness.png exists already" in err
    code, out, _ = striate(capsys, model_file, str(photos), "--overwrite", "--json", "--only", "blur", "--limit", "2")
    assert code == 0
    assert json.loads(out)["count"] == 2


def test_command_writes_a_folder(model_file: str, photos: Path, capsys, tmp_path: Path) -> None:
    command = (model_file, str(photos), "--out", "o", "--picture", "p.svg", "--only", "shift", "--seed", "3")
    assert striate(capsys, *command)[0] == 0
    assert json.loads((tmp_path / "o" / "robustness.json").read_text())["seed"] == 3
    assert (tmp_path / "o" / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert not (tmp_path / "robustness.png").exists()
    (tmp_path / "p.svg").unlink()
    code, _, err = striate(capsys, *command)
    assert code == 2
    assert "o/robustness.png exists already" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "rotatoin"), 'Did you mean "rotation"?'),
        (("--picture", "p.tif"), "not a format to draw in"),
        (("--picture", "p"), "not a format to draw in"),
        (("--strengths", "0"), "from 1 to 10"),
        (("--limit", "0"), "limit must be at least 1"),
        (("--strengths", "many"), "many"),
    ],
)
def test_command_refuses_in_one_line(
    arguments: tuple[str, ...], words: str, model_file: str, photos: Path, capsys, tmp_path: Path
) -> None:
    code, out, err = striate(capsys, model_file, str(photos), *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*.png"))
