"""YOLO in: real boxes and outlines of COCO photos against arithmetic of our own, layouts, and wrong lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import open_dataset
from striate.errors import DataError
from striate.images import read_image


def put(root: Path, **texts: str | None) -> Path:
    """images/train/STEM.png, 40 x 20, with labels/train/STEM.txt where there is a text."""
    for stem, text in texts.items():
        for folder in ("images", "labels"):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 20)).save(root / "images" / "train" / f"{stem}.png")
        if text is not None:
            (root / "labels" / "train" / f"{stem}.txt").write_text(text)
    return root


def yaml(root: Path, text: str = "train: images/train\nnames: [cat, dog]\n") -> Path:
    (root / "data.yaml").write_text(text)
    return root


def coco128(root: Path, tmp_path: Path, what: str) -> Path:
    """The archives part pictures and labels: here they lie as data.yaml says."""
    inside = next(root.rglob("object_detection")).parent
    (tmp_path / "images").symlink_to(inside / "images")
    for entry in (inside / what).iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def test_boxes_of_coco128(shared_data, tmp_path):
    root = coco128(shared_data("coco128-train"), tmp_path, "object_detection")
    dataset = open_dataset(root, val_fraction=0)
    assert (dataset.format, dataset.task, len(dataset.classes)) == ("yolo", "detect", 80)
    assert dataset.classes[45] == "bowl"
    samples = dataset.splits["train"]
    assert len(samples) == 128
    for sample in samples:
        file = root / "labels" / "train2017" / f"{Path(sample.name).stem}.txt"
        rows = np.loadtxt(file, ndmin=2).reshape(-1, 5) if file.exists() else np.zeros((0, 5))
        with Image.open(str(sample.image)) as image:
            width, height = image.size
        centre, side = rows[:, 1:3] * (width, height), rows[:, 3:] * (width, height)
        expected = np.concatenate((centre - side / 2, centre + side / 2), 1).clip(0, [width, height] * 2)
        assert sample.target.labels.tolist() == rows[:, 0].astype(int).tolist()
        assert np.abs(sample.target.boxes.numpy() - expected).max(initial=0) < 1e-4


def test_outlines_of_coco128_have_gaps_in_their_class_ids(shared_data, tmp_path):
    root = coco128(shared_data("coco128-train"), tmp_path, "instance_segmentation")
    dataset = open_dataset(root, val_fraction=0)
    assert (len(dataset.classes), dataset.classes[-1]) == (80, "toothbrush")
    sample = dataset.splits["train"][0]
    lines = (root / "labels" / "train2017" / f"{Path(sample.name).stem}.txt").read_text().splitlines()
    assert dataset.classes[int(sample.target.labels[0])] == "bowl"  # id 51
    height, width = read_image(str(sample.image)).shape[1:]
    for line, mask, box in zip(lines, sample.target.masks, sample.target.boxes, strict=True):
        outline = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * (width, height)
        assert np.allclose(np.array(mask[0]).reshape(-1, 2), outline)
        assert np.allclose(box, [*outline.min(0), *outline.max(0)], atol=1e-3)


def test_a_picture_turned_by_exif_is_measured_as_it_is_seen(tmp_path):
    root = yaml(put(tmp_path, a="0 0.25 0.5 0.5 0.2\n"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(root / "images" / "train" / "a.jpg", exif=exif)
    (root / "images" / "train" / "a.png").unlink()
    sample = open_dataset(root, val_fraction=0).splits["train"][0]
    assert read_image(str(sample.image)).shape == (3, 40, 20)
    assert torch.allclose(sample.target.boxes, torch.tensor([[0.0, 16.0, 10.0, 24.0]]))


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval:\nnames:\n  0: cat\n  1: dog\n",
        "train: [images/train]\nnc: 2\nnames: ['cat', 'dog']\n",
        "train: ../images/train\nnames: [cat, dog]\n",
        "train: list.txt\nnames: [cat, dog]\n",
        "train: images/train\nval: images/nowhere\nnames: [cat, dog]\n",
    ],
)
def test_what_data_yaml_may_say(tmp_path, text):
    root = yaml(put(tmp_path, a="1 .5 .5 .5 .5\n", b=None), text)
    (root / "list.txt").write_text("./images/train/a.png\n./images/train/b.png\n")
    for source in (root, root / "data.yaml"):
        dataset = open_dataset(source, val_fraction=0)
        assert dataset.classes == ("cat", "dog")
        assert [len(sample.target) for sample in dataset.splits["train"]] == [1, 0]
        assert "Pictures without a text file, taken to be empty: 1." in dataset.notes
        assert dataset.splits["train"][0].target.boxes.tolist() == [[10, 5, 30, 15]]


def test_without_a_yaml_names_are_numbers_or_classes_txt(tmp_path):
    root = put(tmp_path, a="2 .5 .5 .5 .5\n", b="")
    assert open_dataset(root, val_fraction=0).classes == ("0", "1", "2")
    (root / "labels" / "train" / "classes.txt").write_text("cat\ndog\nno\n")
    assert open_dataset(root, val_fraction=0).classes == ("cat", "dog", "no")
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("L", (40, 20)).save(flat / "a.png")
    (flat / "a.txt").write_text("0 .5 .5 .5 .5\n")
    assert open_dataset(flat, val_fraction=0).format == "yolo"
    (flat / "a.txt").write_text("a photo of a cat\n")
    with pytest.raises(DataError, match="without class folders"):
        open_dataset(flat)


def test_points_and_what_is_counted(tmp_path):
    names = "names: ['yes', no]\nkpt_shape: [2, 3]\ntrain: images/train\n"
    root = yaml(put(tmp_path, a="0 .5 .5 .5 .5 .25 .5 2 0 0 0\n1 .5 .5 .5 .5\n0 .9 .5 .4 .5\n0 2 .5 .4 .5\n"), names)
    dataset = open_dataset(root, val_fraction=0)
    assert dataset.classes == ("yes", "no")
    target = dataset.splits["train"][0].target
    assert target.keypoints.tolist() == [[[10, 10, 2], [0, 0, 0]], [[0] * 3] * 2, [[0] * 3] * 2]
    assert target.boxes[2].tolist() == pytest.approx([28, 5, 40, 15])
    assert "Boxes outside their picture, left out: 1." in dataset.notes
    assert "Boxes over the edge of their picture, cut there: 1." in dataset.notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 .5 .5 .5 .5\n\n2 .5 .5 .5 .5\n", "a.txt, line 3: class 2 is not among the 2 classes"),
        ("0 .5 .5 .5\n", "a.txt, line 1: 4 numbers; a box has 5"),
        ("0 .5 .5 .5 .5 .9\n", "a.txt, line 1: 6 numbers"),
        ("0 .5 nan .5 .5\n", "a.txt, line 1: nan; shares"),
        ("0 .5 .5 .5 1e999\n", "a.txt, line 1: 1e999; shares"),
        ("0 .5 .5 .5 x\n", "a.txt, line 1: x; shares"),
        ("-1 .5 .5 .5 .5\n", "a.txt, line 1: class -1"),
        ("0.5 .5 .5 .5 .5\n", "a.txt, line 1: class 0.5"),
        ("0 300 200 50 50\n", "none of its 1 boxes has extent and is on its picture"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_dataset(yaml(put(tmp_path, a=text)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: images/train\nnames: [cat, cat]\n", 'classes 0 and 1 are both "cat"'),
        ("train: images/train\nnames: {a: cat}\n", "names has a"),
        ("train: images/train\nnc: 3\nnames: [cat, dog]\n", "nc is 3, but there are 2 names"),
        ("train: images/train\nnc: many\n", "nc is many"),
        ("train: images/train\nnames: [[cat]]\n", "names, 0"),
        ("train: images/train\nkpt_shape: [9, 9]\nnames: [a]\n", "kpt_shape is"),
        ("train: {a: b}\nnames: [a]\n", "train is an object of 1"),
        ("train: images/train\nnames: [a\n", "is not YAML"),
        ("train: nowhere\nnames: [a]\n", "no pictures in nowhere"),
    ],
)
def test_wrong_data_yaml_is_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_dataset(yaml(put(tmp_path, a="0 .5 .5 .5 .5\n"), text))
    assert "data.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_lie_elsewhere_are_an_error(tmp_path):
    with pytest.raises(
        DataError, match=r"no picture has boxes; the first text file looked for is .*labels/train/a.txt"
    ):
        open_dataset(yaml(put(tmp_path, a=None)))
