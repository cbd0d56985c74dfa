"""Results print, draw, save and become JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.errors import UsageError
from striate.inference.sources import Source
from striate.results import Classification, Failure, as_pillow, visible

PICTURE = torch.arange(3 * 8 * 8, dtype=torch.uint8).view(3, 8, 8)


def classification(probabilities: list[float], target: str | tuple[str, ...] | None = None, **others) -> Classification:
    classes = ("cat", "dog", "bird", "fish")[: len(probabilities)]
    return Classification(Source("a.png", PICTURE, target), classes, torch.tensor(probabilities), **others)


def test_best_labels_first_and_ties_in_class_order() -> None:
    result = classification([0.25, 0.125, 0.5, 0.125])
    assert result.top(9) == [("bird", 0.5), ("cat", 0.25), ("dog", 0.125), ("fish", 0.125)]
    assert (result.label, result.confidence, result.labels) == ("bird", 0.5, ("bird",))


def test_several_labels_hold_from_their_thresholds_on() -> None:
    result = classification([0.25, 0.75, 0.5], thresholds=[0.25, 0.875, 0.5])
    assert result.labels == ("bird", "cat")  # 0.25 reaches 0.25, 0.75 does not reach 0.875
    assert classification([0.1, 0.2], thresholds=[0.5, 0.5]).labels == ()
    assert str(classification([0.1, 0.2], thresholds=[0.5, 0.5])) == "a.png: none of the labels"


@pytest.mark.parametrize(("target", "thresholds", "correct"), [
    ("dog", None, True),
    ("cat", None, False),
    (None, None, None),
    (("dog",), [0.5, 0.5], True),
    (("dog", "cat"), [0.5, 0.5], False),
    ((), [0.9, 0.9], True),
])  # fmt: skip
def test_correct_where_the_label_is_known(target: object, thresholds: list[float] | None, correct: bool | None) -> None:
    result = classification([0.25, 0.75], target, thresholds=thresholds)  # type: ignore[arg-type]
    assert result.correct is correct
    assert ("correct" in result.to_dict()) == (correct is not None)


def test_a_class_is_asked_for_by_its_index() -> None:
    result = classification([0.25, 0.75, 0.5], thresholds=[0.25, 0.875, 0.5])
    assert [result.confidence_of(label) for label in range(3)] == [0.25, 0.75, 0.5]
    assert result.answer == (0, 2)
    assert classification([0.25, 0.75]).answer == 1
    assert result.strongest(0) is result
    assert result.box_of(0) is None


def test_prints_as_one_line() -> None:
    assert str(classification([0.981, 0.012, 0.004, 0.003])) == "a.png: cat 98.1 %  dog 1.2 %"
    assert str(classification([0.75, 0.25], target="dog")) == "a.png: cat 75.0 %  dog 25.0 %  (wrong: it is dog)"


@given(st.text())
def test_hostile_names_stay_on_one_line_without_terminal_codes(name: str) -> None:
    line = visible(name)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


def test_json_has_no_nan() -> None:
    text = json.dumps(classification([float("nan"), float("inf")]).to_dict(), allow_nan=False)
    assert json.loads(text)["confidence"] is None


def test_json_says_what_is_asked() -> None:
    found = classification([0.75, 0.25], target="cat").to_dict(top=1)
    assert found == {
        "source": "a.png",
        "label": "cat",
        "confidence": 0.75,
        "top": [{"label": "cat", "probability": 0.75}],
        "target": "cat",
        "correct": True,
    }
    assert "label" not in classification([0.75, 0.25], thresholds=[0.5, 0.5]).to_dict()
    assert Failure(Source("b.png", b""), "b.png: empty").to_dict() == {"source": "b.png", "error": "b.png: empty"}


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (500, 375), (4000, 300), (30, 2000), (3000, 2)])
def test_drawing_keeps_every_pixel_and_adds_a_caption(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    drawn = classification([0.75, 0.2, 0.05]).draw(picture)
    factor = max(1, 256 // max(size))
    left = (drawn.width - size[0] * factor) // 2
    top = drawn.crop((left, 0, left + size[0] * factor, size[1] * factor))
    assert drawn.width == max(256, size[0] * factor)
    assert top.resize(size, Image.Resampling.NEAREST).tobytes() == picture.tobytes()
    caption = np.asarray(drawn)[size[1] * factor :]
    assert caption.shape[0] >= 3 * 14  # three rows of letters
    bars = (caption == (96, 165, 250)).all(2)  # the best one's bar: as long as 0.75 of its track
    track = ((caption == (63, 63, 70)).all(2)[bars.any(1)]).sum(1)[0]
    assert bars.any(1).sum() >= 4
    assert bars.sum(1).max() / (bars.sum(1).max() + track) == pytest.approx(0.75, abs=0.02)


def test_labels_too_long_are_shortened_and_foreign_letters_drawn() -> None:
    source = Source("a", PICTURE)
    names = ("ein sehr langer Name einer Klasse, der nie passt " * 9, "кошка\nи собака")
    drawn = Classification(source, names, torch.tensor([0.5, 0.5])).draw()
    assert drawn.width == 256
    right_of_label = np.asarray(drawn)[256:, 120:128]
    assert (right_of_label == (24, 24, 27)).all()  # nothing runs into the bars


def test_save_writes_picture_or_numbers_and_never_over_a_file(tmp_path: Path) -> None:
    result = classification([0.75, 0.25])
    drawn = result.draw()
    assert Image.open(result.save(tmp_path / "a.png")).tobytes() == drawn.tobytes()
    assert json.loads(result.save(tmp_path / "a.json").read_text()) == result.to_dict()
    assert Image.open(result.save(tmp_path / "new" / "a.jpg")).size == drawn.size
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(UsageError, match="exists"):
        result.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    for name in ("a.txt", "a", "a.pth"):
        with pytest.raises(UsageError, match="picture format"):
            result.save(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png", "new"]


def test_show_opens_the_drawn_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
    result = classification([0.75, 0.25])
    result.show()
    assert shown[0].tobytes() == result.draw().tobytes()


def test_grey_pixels_become_rgb() -> None:
    assert as_pillow(PICTURE[:1]).getpixel((3, 0)) == (3, 3, 3)
