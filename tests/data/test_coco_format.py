"""COCO JSON in: what pycocotools reads of the same file is the truth."""

from __future__ import annotations

import contextlib
import io
import json
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

from striate.data import open_dataset
from striate.data.formats.coco_file import run_lengths
from striate.data.targets import CROWD, DIFFICULT, PLAIN
from striate.errors import DataError


def pictures(folder: Path, *names: str, size: tuple[int, int] = (40, 30)) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(folder / name)


def coco(**more: Any) -> dict[str, Any]:
    """Two pictures, ids out of order and far apart, one object of each kind of segmentation."""
    square = np.zeros((30, 40), dtype=np.uint8, order="F")
    square[3:9, 4:14] = 1
    packed = coco_mask.encode(square)
    return {
        "images": [
            {"id": 900, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 90, "bbox": [1.1, 2.2, 3.3, 4.4], "area": 7.5, "iscrowd": 0,
             "segmentation": [[1.1, 2.2, 4.4, 2.2, 4.4, 6.6]]},
            {"id": 2, "image_id": 900, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1,
             "segmentation": {"size": [30, 40], "counts": [0, 600, 600]}, "area": 600},
            {"id": 9, "image_id": 7, "category_id": 3, "bbox": [4, 3, 10, 6], "ignore": 1,
             "segmentation": {"size": [30, 40], "counts": packed["counts"].decode()}},
            {"id": 11, "image_id": 7, "category_id": 90, "bbox": [5, 6, 7, 8], "keypoints": [5, 6, 2, 0, 0, 0],
             "num_keypoints": 1},
        ],
        "categories": [{"id": 90, "name": "z"}, {"id": 3, "name": " hot  dog "}],
        **more,
    }  # fmt: skip


def written(root: Path, content: Any, name: str = "annotations/instances_train2017.json") -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def referee(file: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def test_every_field_is_what_pycocotools_reads(tmp_path):
    file = written(tmp_path, coco())
    pictures(tmp_path, "train2017/a.png", "train2017/b.png")
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert (dataset.format, dataset.task, dataset.classes) == ("coco", "detect", ("hot dog", "z"))
    theirs = referee(file)
    samples = {Path(str(sample.image)).name: sample for sample in dataset.splits["train"]}
    assert [sample.name for sample in dataset.splits["train"]] == ["train2017/b.png", "train2017/a.png"]
    order = sorted(theirs.getCatIds())
    for image in theirs.loadImgs(theirs.getImgIds()):
        objects = samples[image["file_name"]].target
        expected = theirs.loadAnns(theirs.getAnnIds(imgIds=[image["id"]]))
        assert len(objects) == len(expected)
        for index, entry in enumerate(expected):
            x, y, width, height = entry["bbox"]
            assert torch.equal(objects.boxes[index], torch.tensor([x, y, x + width, y + height]))
            assert order[int(objects.labels[index])] == entry["category_id"]
            assert float(objects.areas[index]) == pytest.approx(entry.get("area", width * height), rel=1e-6)
            if "segmentation" in entry:
                ours = {**entry, "segmentation": objects.masks[index]}
                assert np.array_equal(theirs.annToMask(ours), theirs.annToMask(entry))
            else:
                assert objects.masks[index] is None
    assert samples["a.png"].target.kinds.tolist() == [PLAIN, DIFFICULT, PLAIN]
    assert samples["b.png"].target.kinds.tolist() == [CROWD]
    assert samples["a.png"].target.keypoints[2].tolist() == [[5, 6, 2], [0, 0, 0]]
    assert not samples["a.png"].target.keypoints[:2].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_compressed_runs_are_pycocotools(seed, height, width, share):
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    text = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    runs = run_lengths(text)
    assert runs is not None
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.T.reshape(-1))


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train.json", "images/train"),
        ("annotations/train.json", "images"),
        ("annotations/person_keypoints_train2017.json", "train2017"),
        ("train/_annotations.coco.json", "train"),
        ("instances.json", "."),
        ("train.json", "train"),
        ("result.json", "images"),
        ("annotations/instances_default.json", "images/default"),
    ],
)
def test_layouts(tmp_path, layout, folder):
    written(tmp_path, coco(), layout)
    pictures(tmp_path / folder, "a.png", "b.png")
    assert len(open_dataset(tmp_path, val_fraction=0).splits["train"]) == 2
    assert len(open_dataset(tmp_path / layout, val_fraction=0).splits["train"]) == 2


def test_splits_captions_and_roboflows_grouping_category(tmp_path):
    groups = [{"id": 0, "name": "cells", "supercategory": "none"}] + [
        {"id": number, "name": name, "supercategory": "cells"} for number, name in ((90, "z"), (3, "dog"))
    ]
    for split in ("train", "valid", "test"):
        written(tmp_path, coco(categories=groups), f"{split}/_annotations.coco.json")
        pictures(tmp_path / split, "a.png", "b.png")
    dataset = open_dataset(tmp_path)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 2, "val": 2, "test": 2}
    assert dataset.classes == ("dog", "z")
    assert list(open_dataset(f"{tmp_path}:val").splits) == ["val"]
    written(tmp_path, coco())
    written(
        tmp_path, coco(annotations=[{"id": 1, "image_id": 7, "caption": "a"}]), "annotations/captions_train2017.json"
    )
    assert open_dataset(tmp_path, val_fraction=0).splits["train"][0].name == "train/b.png"


def test_what_is_left_out_is_counted(tmp_path):
    more = [
        {"id": 20, "image_id": 7, "category_id": 3, "bbox": [-5, 2, 10, 4]},  # cut
        {"id": 20, "image_id": 7, "category_id": 3, "bbox": [5, 2, 0, 4]},  # no width, and an id again
        {"id": 22, "image_id": 7, "category_id": 3, "bbox": [50, 2, 5, 4]},  # outside
        {"id": 23, "image_id": 8, "category_id": 3, "bbox": [5, 2, 5, 4]},  # of nothing
        {"id": 24, "image_id": 7, "category_id": 3, "bbox": [5, 2, 5, 4], "segmentation": [[1, 2, 3, 4]]},
        {"id": 25, "image_id": 7, "category_id": 3, "bbox": [5, 2, 5, 4],
         "segmentation": {"size": [30, 40], "counts": [1, 2]}},
        {"id": 26, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1e308, 1e308]},  # cut
    ]  # fmt: skip
    content = coco()
    content["annotations"] += more
    content["images"].append({"id": 1, "file_name": "gone.png", "width": 1, "height": 1})
    written(tmp_path, content)
    pictures(tmp_path, "train2017/a.png", "train2017/b.png")
    dataset = open_dataset(tmp_path, val_fraction=0)
    told = "\n".join(dataset.notes)
    for what in (
        "pictures that are not there, left out: 1",
        "without extent, left out: 1",
        "outside their picture, left out: 1",
        "over the edge of their picture, cut there: 2",
        "not listed, left out: 1",
        "do not fit their picture, left out: 2",
        "(id 20 2 times): 1",
    ):
        assert what.lower() in told.lower(), what
    objects = next(sample.target for sample in dataset.splits["train"] if sample.name.endswith("a.png"))
    assert objects.boxes[3].tolist() == [0, 2, 5, 6]
    assert objects.boxes[-1].tolist() == [0, 0, 40, 30]


def test_a_wrong_size_in_the_file_does_not_cut_what_is_on_the_picture(tmp_path):
    content = coco()
    content["images"][1] |= {"width": 10, "height": 10}
    written(tmp_path, content)
    pictures(tmp_path, "train2017/a.png", "train2017/b.png")
    objects = open_dataset(tmp_path, val_fraction=0).splits["train"][1].target
    assert objects.boxes[1].tolist() == [4, 3, 14, 9]


def changed(**changes: Any) -> dict[str, Any]:
    """The set with fields of its entry 1 changed: `annotations__bbox=…`."""
    content = coco()
    for key, value in changes.items():
        where, field = key.split("__")
        content[where][1][field] = value
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"line 1, column 2: is not JSON"),
        ("[]", "a list, as of detections"),
        ("3", "holds 3"),
        ({"images": []}, '"categories" is missing|lists no images'),
        (coco(images={}), '"images" is'),
        (coco(annotations=[1]), r"annotations\[0\] is 1"),
        (coco(categories=[]), "no categories"),
        (changed(images__id=900), r"images\[1\]: id 900 is that of images\[0\] already"),
        (changed(images__file_name="b.png"), r"images\[1\]: file_name b.png is that of images\[0\]"),
        (changed(images__file_name=3), r"images\[1\]: file_name is 3"),
        (changed(categories__id=90), r"categories\[1\]: id 90 is that"),
        (changed(categories__name="z"), r"categories\[1\]: name z is that"),
        (changed(categories__name=""), r"categories\[1\]: name"),
        (changed(annotations__category_id=4), r"annotations\[1\]: category_id 4 is none of the 2"),
        (changed(annotations__category_id=None), r"annotations\[1\]: category_id is null"),
        (changed(annotations__image_id=[1]), r"annotations\[1\]: image_id is \[1\]"),
        (changed(annotations__bbox=[1, 2, 3]), r"annotations\[1\]: bbox is \[1, 2, 3\]; a list of 4"),
        (changed(annotations__bbox=[1, 2, 3, "4"]), r"annotations\[1\]: bbox holds 4"),
        (changed(annotations__bbox=[1, 2, 3, float("nan")]), r"annotations\[1\]: bbox holds NaN"),
        (changed(annotations__bbox=[1, 2, 3, 10**400]), r"annotations\[1\]: bbox holds"),
        (changed(annotations__area=float("inf")), r"annotations\[1\]: area holds Infinity"),
        (changed(annotations__iscrowd=2), r"annotations\[1\]: iscrowd is 2"),
        (changed(annotations__segmentation="x"), r"annotations\[1\]: segmentation is x"),
        (changed(annotations__segmentation=[[1, 2, 3]]), r"annotations\[1\]: segmentation holds \[1, 2, 3\]"),
        (changed(annotations__segmentation=[[1, 2, 3, None]]), r"annotations\[1\]: segmentation holds null"),
        (changed(annotations__keypoints=[1, 2]), r"annotations\[1\]: keypoints are \[1, 2\]"),
        (changed(annotations__keypoints=[1, 2, 5]), r"annotations\[1\]: keypoints hold a visibility of 5"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": ' + "9" * 5000 + "}", "thousands of digits"),
    ],
)
def test_mistakes_are_named_with_their_index(tmp_path, content, said):
    file = written(tmp_path, content)
    pictures(tmp_path, "train2017/a.png", "train2017/b.png")
    with pytest.raises(DataError, match=said) as error:
        open_dataset(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_sets_that_disagree_and_pictures_that_are_all_gone(tmp_path):
    written(tmp_path, coco())
    with pytest.raises(DataError, match=r"none of its 2 pictures is there; the first looked for is .*b.png"):
        open_dataset(tmp_path)
    written(tmp_path, changed(categories__name="cat"), "annotations/instances_val2017.json")
    with pytest.raises(DataError, match=r'category 3 is "cat", in instances_train2017.json it is "hot dog"'):
        open_dataset(tmp_path)
    written(tmp_path, coco(), "annotations/instances_train2014.json")
    with pytest.raises(DataError, match=r"both instances_train2014.json and instances_train2017.json could be train"):
        open_dataset(tmp_path)
