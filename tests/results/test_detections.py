"""Boxes found on a picture: printed, drawn, filtered, written, and read back by supervision, pycocotools, pyarrow."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.errors import MissingExtra, UsageError
from striate.inference.sources import Source
from striate.inference.writers import open_writer
from striate.results import Detections, Failure, Result

CLASSES = ("person", "dog", "kite")
PICTURE = torch.full((3, 200, 300), 90, dtype=torch.uint8)
ROWS = torch.tensor(
    [
        [0, 0, 0, 0, 0, -1],  # only fills up
        [120.5, 20, 180, 190.25, 0.98, 0],
        [10, 30, 60, 90, 0.75, 1],
        [200, 10, 250, 100, 0.5, 0],
        [260, 10, 300, 100, 0.25, 0],
    ]
)


def street(rows: torch.Tensor = ROWS, name: str = "street.jpg") -> Detections:
    return Detections.of(Source(name, PICTURE), CLASSES, rows)


def nothing() -> Detections:
    return street(ROWS[:1], "empty.png")


def test_rows_that_fill_up_are_left_out_and_the_best_come_first() -> None:
    found = street(ROWS.flip(0))
    assert len(found) == 4
    assert [round(score, 4) for _, score, _ in found] == [0.98, 0.75, 0.5, 0.25]
    assert next(iter(found)) == ("person", pytest.approx(0.98), (120.5, 20.0, 180.0, 190.25))
    assert len(Detections.of(found.source, CLASSES, ROWS, threshold=0.5)) == 3
    assert found.correct is None


def test_one_line() -> None:
    assert str(street()) == "street.jpg: 3 person, 1 dog (best 0.98)"
    assert street().describe(1) == "street.jpg: 3 person, 1 more (best 0.98)"
    assert street().caption() == "3 person, 1 dog"
    assert str(nothing()) == "empty.png: nothing found"
    assert nothing().caption() == "nothing found"
    hostile = Detections.of(Source("a\x1b[2J\n.png", PICTURE), ("cat\n(best", "b", "c"), ROWS)
    assert str(hostile).isprintable()


def test_counts_ties_in_the_order_of_the_classes() -> None:
    assert list(street().counts().items()) == [("person", 3), ("dog", 1)]
    tied = street(torch.tensor([[0, 0, 9, 9, 0.9, 2], [0, 0, 9, 9, 0.1, 0.0]]))
    assert list(tied.counts()) == ["person", "kite"]


@given(st.lists(st.floats(0, 1, width=32), max_size=8), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_filter_keeps_those_that_reach_it(scores: list[float], threshold: float) -> None:
    rows = torch.tensor([[0, 0, index + 1, 1, score, 0] for index, score in enumerate(scores)]).reshape(-1, 6)
    masks = torch.zeros(len(scores), 2, 2, dtype=torch.bool)
    found = Detections.of(Source("a", PICTURE), CLASSES, rows)
    kept = Detections(found.source, CLASSES, found.boxes, found.scores, found.labels, masks).filter(threshold)
    best = [float(score) for score in found.scores if float(score) >= np.float32(threshold)]
    assert kept.scores.tolist() == best
    assert len(kept.boxes) == len(kept.labels) == len(kept.masks) == len(best)  # type: ignore[arg-type]


def test_the_strongest_of_a_class_alone() -> None:
    rows = torch.tensor([[0, 0, 9, 9, 0.5, 1], [1, 2, 3, 4, 0.25, 0], [5, 5, 6, 6, 0.125, 0]])
    found = Detections.of(Source("a.png", None), ("cat", "dog"), rows)
    assert (found.confidence_of(0), found.confidence_of(1)) == (0.25, 0.5)
    assert list(found.strongest(0)) == [("cat", 0.25, (1, 2, 3, 4))]
    assert found.box_of(1) == (0, 0, 9, 9)
    assert (nothing().confidence_of(0), len(nothing().strongest(0)), nothing().box_of(0)) == (0, 0, None)
    assert found.answer is None


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_filter_refuses_what_is_no_score(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"0\.\.1"):
        street().filter(threshold)


def test_json_gives_all_objects_or_the_best() -> None:
    found = street().to_dict()
    assert {key: found[key] for key in found if key != "objects"} == {
        "source": "street.jpg",
        "count": 4,
        "label": "person",
        "confidence": 0.98,
        "counts": {"person": 3, "dog": 1},
    }
    assert found["objects"][0] == {"label": "person", "score": 0.98, "box": [120.5, 20.0, 180.0, 190.25]}
    assert len(found["objects"]) == 4
    assert (len(street().to_dict(2)["objects"]), street().to_dict(2)["count"]) == (2, 4)
    assert nothing().to_dict()["label"] is None
    broken = street(torch.tensor([[float("nan"), 0, float("inf"), 1, 0.5, 0]]))
    text = json.dumps(broken.to_dict(), allow_nan=False)
    assert json.loads(text)["objects"][0]["box"] == [None, 0.0, None, 1.0]


def test_drawing_marks_the_boxes_and_nothing_else() -> None:
    drawn = np.asarray(street().draw())
    plain = np.asarray(Image.fromarray(PICTURE.permute(1, 2, 0).numpy()))
    assert drawn.shape == plain.shape
    changed = (drawn != plain).any(2)
    assert changed[100, 118:124].any()  # the left edge of the best one
    assert not changed[100:110, 130:170].any()  # inside it
    assert not changed[120:, :100].any()  # far from all of them
    assert (np.asarray(nothing().draw()) == plain).all()
    street().draw(Image.new("L", (300, 200)))


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (8, 8)])
def test_drawing_on_any_picture(size: tuple[int, int]) -> None:
    rows = torch.tensor([[-5, -5, 4000, 4000, 0.9, 0], [3, 3, 3, 3, 0.8, 1], [9, 9, 2, 2, 0.7, 2]])
    assert min(street(rows).draw(Image.new("RGB", size)).size) >= 1


def test_saved_drawn_or_as_numbers(tmp_path: Path) -> None:
    assert Image.open(street().save(tmp_path / "a.png")).size == (300, 200)
    assert json.loads(street().save(tmp_path / "a.json").read_text()) == street().to_dict()
    with pytest.raises(UsageError, match="exists"):
        street().save(tmp_path / "a.png")


def test_supervision_reads_the_same() -> None:
    pytest.importorskip("supervision")
    theirs = street().to_supervision()
    assert theirs.xyxy.tolist() == street().boxes.tolist()
    assert theirs.class_id.tolist() == [0, 1, 0, 0]  # type: ignore[union-attr]
    assert list(theirs["class_name"]) == ["person", "dog", "person", "person"]  # type: ignore[arg-type]
    assert theirs[theirs.confidence > 0.6].area.tolist() == pytest.approx([59.5 * 170.25, 50 * 60])  # type: ignore
    assert len(nothing().to_supervision()) == 0


def test_supervision_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtra, match=r"striate\[supervision\]"):
        street().to_supervision()


def test_pycocotools_takes_the_rows_and_the_masks() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    mask = pytest.importorskip("pycocotools.mask")
    masks = torch.rand(4, 200, 300, generator=torch.Generator().manual_seed(0)) > 0.5
    found = street()
    found = Detections(found.source, CLASSES, found.boxes, found.scores, found.labels, masks)
    rows = json.loads(json.dumps(found.to_coco(7)))
    for row, theirs in zip(rows, masks, strict=True):
        assert (mask.decode(row["segmentation"]) == theirs.numpy()).all()
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 7, "width": 300, "height": 200}],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes([{key: row[key] for key in row if key != "segmentation"} for row in rows])
    boxes = [annotation["bbox"] for annotation in loaded.dataset["annotations"]]
    assert boxes == [[x1, y1, x2 - x1, y2 - y1] for _, _, (x1, y1, x2, y2) in found]
    assert [row["category_id"] for row in rows] == [1, 2, 1, 1]
    assert [row["category_id"] for row in found.to_coco(7, (1, 18, 38))] == [1, 18, 1, 1]
    assert nothing().to_coco(1) == []


def written(path: Path) -> Path:
    failure = Failure(Source("bad.png", None), "bad.png: truncated")
    found: list[Result | Failure] = [street(), nothing(), failure]
    with open_writer(path, columns=Detections.columns) as write:
        for result in found:
            write(result)
    return path


def test_tables_have_one_row_a_picture(tmp_path: Path) -> None:
    with open(written(tmp_path / "a.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Detections.columns
    assert [row["source"] for row in rows] == ["street.jpg", "empty.png", "bad.png"]
    assert (rows[0]["count"], rows[0]["label"], rows[0]["confidence"]) == ("4", "person", "0.98")
    assert json.loads(rows[0]["objects"]) == street().to_dict()["objects"]
    assert json.loads(rows[0]["counts"]) == {"person": 3, "dog": 1}
    assert (rows[1]["count"], rows[1]["label"], rows[1]["objects"]) == ("0", "", "")
    assert (rows[2]["count"], rows[2]["error"]) == ("", "bad.png: truncated")
    lines = written(tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line).get("count") for line in lines] == [4, 0, None]


def test_parquet_keeps_objects_as_structs(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(written(tmp_path / "a.parquet")).to_pylist()
    assert rows[0]["count"] == 4
    assert dict(rows[0]["counts"]) == {"person": 3, "dog": 1}
    assert rows[0]["objects"][0] == {
        "label": "person",
        "score": pytest.approx(0.98),
        "box": [120.5, 20.0, 180.0, 190.25],
    }
    assert rows[1]["objects"] == []
    assert rows[2]["count"] is None
