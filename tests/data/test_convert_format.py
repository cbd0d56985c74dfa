"""Boxes out and in again: nothing is lost within a format, and between formats what both know is kept."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from striate.cli import main
from striate.data import open_dataset
from striate.data.convert import WRITERS, convert
from striate.data.convert.yolo import one_outline
from striate.data.sample import Dataset, Sample
from striate.data.targets import PLAIN, Objects
from striate.errors import UsageError

WIDTH, HEIGHT = 97, 61
NAMES = st.lists(
    st.text("abz XÄ9:,'\"&<-{#ñ", min_size=1, max_size=6).map(lambda text: " ".join(text.split())).filter(bool),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "p.png"
    Image.new("L", (WIDTH, HEIGHT)).save(path)
    return path


def edges(most: int) -> st.SearchStrategy[tuple[float, float]]:
    """Two float32 edges at least 1.5 px apart, whole or not."""
    number = st.one_of(
        st.integers(0, most), st.floats(0, most, width=32).filter(lambda value: value == 0 or value > 0.01)
    )
    return (
        st.tuples(number, number).map(lambda pair: (min(pair), max(pair))).filter(lambda pair: pair[1] - pair[0] > 1.5)
    )


@st.composite
def sets(draw: Any, kinds: tuple[int, ...], masks: str = "", points: int = 0) -> tuple[tuple[str, ...], list[Objects]]:
    classes = tuple(draw(NAMES))
    pictures = []
    for count in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any)):
        across = [draw(edges(WIDTH)) for _ in range(count)]
        down = [draw(edges(HEIGHT)) for _ in range(count)]
        boxes = [[x1, y1, x2, y2] for (x1, x2), (y1, y2) in zip(across, down, strict=True)]
        labels = draw(st.lists(st.integers(0, len(classes) - 1), min_size=count, max_size=count))
        kind = draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count))
        objects = Objects.of(boxes, labels, kinds=kind)
        if masks == "outlines":
            shapes = [[[x1, y1, x2, y1, x2, y2]] for x1, y1, x2, y2 in objects.boxes.tolist()]
            objects = replace(objects, masks=tuple(shapes))
        elif masks == "all":
            packed = coco_mask.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))["counts"].decode()
            known = [None, [[1, 2, 3.5, 4, 5, 6.1], [7, 8, 9, 10, 11, 12]], {"size": [HEIGHT, WIDTH], "counts": packed},
                     {"size": [HEIGHT, WIDTH], "counts": [7, HEIGHT * WIDTH - 7]}]  # fmt: skip
            objects = replace(objects, masks=tuple(draw(st.sampled_from(known)) for _ in range(count)))
        if points:
            place = st.tuples(st.floats(0, 60, width=32), st.floats(0, 60, width=32), st.sampled_from([1.0, 2.0]))
            drawn = [[draw(st.one_of(place, st.just((0.0, 0.0, 0.0)))) for _ in range(points)] for _ in range(count)]
            objects = replace(objects, keypoints=torch.tensor(drawn).reshape(count, points, 3))
        pictures.append(objects)
    return classes, pictures


def there_and_back(photo: Path, drawn: tuple[tuple[str, ...], list[Objects]], *formats: str) -> Dataset:
    """The set written and read in each format in turn; the last one's reading."""
    classes, pictures = drawn
    half = max(1, len(pictures) - 1)
    samples = [Sample(photo, objects, f"{number}.png") for number, objects in enumerate(pictures)]
    splits = {"train": samples[:half], "val": samples[half:]} if samples[half:] else {"train": samples}
    dataset = Dataset("drawn", "drawn", "detect", classes, splits)
    home = photo.parent / "out"
    for step, format in enumerate(formats):
        out = home / str(step)
        convert(dataset, out, format, link=True)
        dataset = open_dataset(out, val_fraction=0)
    kept = dataset
    assert list(kept.splits) == list(splits)
    assert {split: [Path(s.name).name for s in rows] for split, rows in kept.splits.items()} == {
        split: [s.name for s in rows] for split, rows in splits.items()
    }
    shutil.rmtree(home)
    return kept


def targets(dataset: Dataset) -> list[Objects]:
    return [sample.target for samples in dataset.splits.values() for sample in samples]


@settings(max_examples=15, deadline=None)
@given(sets((0, 1, 2), "all", points=2))
def test_coco_keeps_everything_to_the_bit(photo, drawn):
    read = there_and_back(photo, drawn, "coco", "coco")
    assert read.classes == drawn[0]
    some = any(mask is not None for objects in drawn[1] for mask in objects.masks)
    for ours, first in zip(targets(read), drawn[1], strict=True):
        assert torch.equal(ours.boxes, first.boxes)
        assert torch.equal(ours.labels, first.labels)
        assert torch.equal(ours.kinds, first.kinds)
        assert torch.equal(ours.areas, first.areas)
        assert torch.equal(ours.keypoints, first.keypoints)
        assert ours.masks == (first.masks if some else None)


@settings(max_examples=15, deadline=None)
@given(sets((0, 1, 2)), st.sampled_from([("voc", "voc"), ("csv", "csv"), ("coco", "voc", "csv", "coco")]))
def test_voc_and_csv_keep_boxes_kinds_and_classes(photo, drawn, formats):
    read = there_and_back(photo, drawn, *formats)
    assert read.classes == drawn[0]
    for ours, first in zip(targets(read), drawn[1], strict=True):
        assert torch.equal(ours.boxes, first.boxes)
        assert torch.equal(ours.labels, first.labels)
        assert torch.equal(ours.kinds, first.kinds)


@settings(max_examples=15, deadline=None)
@given(sets((0,)), st.sampled_from([("yolo", "yolo"), ("coco", "yolo", "voc", "csv", "yolo")]))
def test_yolo_keeps_boxes_and_classes(photo, drawn, formats):
    read = there_and_back(photo, drawn, *formats)
    assert read.classes == drawn[0]
    for ours, first in zip(targets(read), drawn[1], strict=True):
        assert torch.allclose(ours.boxes, first.boxes, atol=1e-6, rtol=0)
        assert torch.equal(ours.labels, first.labels)


@settings(max_examples=15, deadline=None)
@given(sets((0,), "outlines"), st.sampled_from([("yolo", "yolo"), ("coco", "yolo", "coco")]))
def test_yolo_keeps_outlines(photo, drawn, formats):
    for ours, first in zip(targets(there_and_back(photo, drawn, *formats)), drawn[1], strict=True):
        assert torch.allclose(ours.boxes, first.boxes, atol=1e-6, rtol=0)
        for mask, other in zip(ours.masks or (), first.masks or (), strict=True):
            assert np.allclose(mask[0], other[0], atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(sets((0,), points=3), st.sampled_from([("yolo", "yolo"), ("coco", "yolo", "coco")]))
def test_yolo_keeps_points(photo, drawn, formats):
    for ours, first in zip(targets(there_and_back(photo, drawn, *formats)), drawn[1], strict=True):
        assert torch.allclose(ours.boxes, first.boxes, atol=1e-6, rtol=0)
        assert torch.allclose(ours.keypoints, first.keypoints, atol=1e-6, rtol=0)


def test_yolo_leaves_out_what_it_would_teach_wrongly(photo, tmp_path):
    objects = Objects.of([[1, 1, 9, 9]] * 3, [0, 0, 0], kinds=[0, 1, 2])
    dataset = Dataset("drawn", "drawn", "detect", ("a",), {"train": [Sample(photo, objects, "p.png")]})
    notes = convert(dataset, tmp_path / "out", "yolo")
    assert notes == ["Crowds and difficult objects, which YOLO does not know, left out: 2."]
    assert open_dataset(tmp_path / "out", val_fraction=0).splits["train"][0].target.kinds.tolist() == [PLAIN]


def test_several_outlines_joined_cover_the_same_pixels():
    parts = [[2, 2, 12, 2, 12, 12, 2, 12], [20, 5, 30, 5, 30, 15, 20, 15], [5, 20, 15, 20, 15, 28, 5, 28]]
    joined = one_outline([[float(value) for value in part] for part in parts])
    from skimage.draw import polygon2mask

    def drawn(outline: list[float]) -> np.ndarray:
        return polygon2mask((32, 32), np.array(outline).reshape(-1, 2) + 0.3)

    together = np.any([drawn(part) for part in parts], axis=0)
    assert np.array_equal(drawn(joined), together)


def test_the_blood_cells_through_every_format(shared_data, tmp_path):
    root = next(path.parent for path in shared_data("bccd").rglob("ImageSets"))
    dataset = open_dataset(root)
    for format in WRITERS:
        out = tmp_path / format
        assert convert(dataset, out, format, link=True) == []
        read = open_dataset(out)
        assert read.classes == dataset.classes
        for split, samples in dataset.splits.items():
            assert [Path(s.name).name for s in read.splits[split]] == [Path(s.name).name for s in samples]
            for ours, first in zip(read.splits[split], samples, strict=True):
                assert torch.equal(ours.target.boxes, first.target.boxes), format
                assert torch.equal(ours.target.labels, first.target.labels)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "coco" / "annotations" / "instances_val.json"))
    assert len(theirs.getImgIds()) == 87
    assert sum(a["area"] for a in theirs.loadAnns(theirs.getAnnIds())) == pytest.approx(
        math.fsum(float(s.target.areas.double().sum()) for s in dataset.splits["val"])
    )


def test_pixels_in_memory_and_equal_names_get_files_of_their_own(tmp_path, photo):
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
    objects = Objects.of([[0, 0, 2, 2]], [0])
    names = ["train/1", "val/1", "x/../1.png", "A.png", "a.jpg", "../../é\n.png"]
    samples = [Sample(pixels, objects, names[0]), Sample(pixels, objects, names[1])]
    samples += [Sample(photo, objects, name) for name in names[2:]]
    dataset = Dataset("drawn", "drawn", "detect", ("a",), {"train": samples})
    for format in WRITERS:
        convert(dataset, tmp_path / format, format)
        read = open_dataset(tmp_path / format, val_fraction=0).splits["train"]
        assert len({sample.name.casefold() for sample in read}) == 6
        assert {path.name for path in tmp_path.iterdir()} <= set(WRITERS)
        stored = next(sample for sample in read if Path(sample.name).stem == "1")
        with Image.open(str(stored.image)) as image:
            assert np.array_equal(np.asarray(image), pixels[0].numpy())


def test_nothing_is_overwritten_unasked_and_a_source_never(tmp_path, photo, capsys):
    objects = Objects.of([[0, 0, 2, 2]], [0])
    dataset = Dataset("drawn", "drawn", "detect", ("a",), {"train": [Sample(photo, objects, "p.png")]})
    out = tmp_path / "out"
    convert(dataset, out, "yolo")
    (out / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="exists already"):
        convert(dataset, out, "yolo")
    (out / "images" / "train" / "old.png").write_bytes(photo.read_bytes())
    convert(dataset, out, "yolo", overwrite=True)
    assert sorted(path.name for path in out.rglob("*.*")) == ["data.yaml", "mine.txt", "p.png", "p.txt"]
    with pytest.raises(UsageError, match="holds the pictures that are to be converted"):
        convert(open_dataset(out), out, "coco", overwrite=True)
    with pytest.raises(UsageError, match="its task is classify"):
        convert(open_dataset("digits"), tmp_path / "digits", "coco")
    for arguments, code, said in (
        (["data", "convert", str(out), str(tmp_path / "voc"), "--format", "voc"], 0, "wrote"),
        (["data", "convert", str(out), str(tmp_path / "voc"), "--format", "voc"], 2, "pass --overwrite"),
        (["data", "convert", str(out), str(tmp_path / "x"), "--format", "vocc"], 2, 'Did you mean "voc"'),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
        assert said in capsys.readouterr().err
    assert (tmp_path / "voc" / "Annotations" / "p.xml").is_file()
