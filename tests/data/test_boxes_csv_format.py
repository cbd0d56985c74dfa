"""CSV of boxes in: spellings of the columns, rows without a header, and wrong lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from striate.data import open_dataset
from striate.data.targets import CROWD, DIFFICULT, PLAIN
from striate.errors import DataError


def put(root: Path, text: str, name: str = "boxes.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for stem in "abc":
        Image.new("L", (40, 20)).save(root / f"{stem}.png")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    "text",
    [
        "image,x1,y1,x2,y2,label\na.png,1,2,11,12.5,dog\nb.png,,,,,\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,20,dog,1,2,11,12.5\nb.png,40,20,,,,,\n",
        "Path;X;Y;Width;Height;Category\na.png;1;2;10;10.5;dog\nb.png;;;;;\n",
        "image,label,xmin,ymin,w,h\na.png,dog,1,2,10,10.5\nb.png,,,,,\n",
        "a.png,1,2,11,12.5,dog\nb.png,,,,,\n",
        "b.png,,,,,\na.png,1,2,11,12.5,dog\n",
        "file_name\tleft\ttop\tright\tbottom\tname\na.png\t1\t2\t11\t12.5\tdog\nb.png\t\t\t\t\t\n",
    ],
)
def test_spellings(tmp_path, text):
    root = put(tmp_path, text)
    for source in (root, root / "boxes.csv"):
        dataset = open_dataset(source, val_fraction=0)
        assert (dataset.format, dataset.task, dataset.classes) == ("boxes-csv", "detect", ("dog",))
        found = {sample.name: sample.target for sample in dataset.splits["train"]}
        assert found["a.png"].boxes.tolist() == [[1, 2, 11, 12.5]]
        assert found["a.png"].areas.tolist() == [105]
        assert len(found["b.png"]) == 0


def test_splits_kinds_classes_and_what_is_counted(tmp_path):
    text = (
        "image,x1,y1,x2,y2,label,split,kind\n"
        "a.png,1,1,5,5,dog,train,\nb.png,1,1,5,5,cat,val,crowd\na.png,2,2,50,9,cat,train,Difficult\n"
        "a.png,2,2,2,9,cat,train,plain\ngone.png,1,1,5,5,dog,train,\nc.png,,,,,,test,\n"
    )
    root = put(tmp_path, text)
    (root / "classes.csv").write_text("dog,0\nbird,1\n")
    dataset = open_dataset(root)
    assert dataset.classes == ("dog", "bird", "cat")
    assert {split: [s.name for s in samples] for split, samples in dataset.splits.items()} == {
        "train": ["a.png"], "val": ["b.png"], "test": ["c.png"],
    }  # fmt: skip
    target = dataset.splits["train"][0].target
    assert target.boxes.tolist() == [[1, 1, 5, 5], [2, 2, 40, 9]]
    assert target.kinds.tolist() == [PLAIN, DIFFICULT]
    assert dataset.splits["val"][0].target.kinds.tolist() == [CROWD]
    assert dataset.notes[1:] == [
        "Pictures that are not there, left out: 1.",
        "Boxes without extent, left out: 1.",
        "Boxes over the edge of their picture, cut there: 1.",
    ]


def test_a_csv_a_split(tmp_path):
    rows = "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,40,20,dog,1,2,11,12.5\n"
    for split in ("train", "valid"):
        put(tmp_path / split, rows, "_annotations.csv")
    dataset = open_dataset(tmp_path)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 1, "val": 1}
    put(tmp_path / "files", rows, "train.csv")
    put(tmp_path / "files", rows.replace("a.png", "b.png"), "test.csv")
    assert set(open_dataset(tmp_path / "files").splits) == {"train", "test"}


def test_held_out_pictures_keep_the_shares_of_sets_of_classes(tmp_path):
    put(tmp_path, "")
    rows = ["image,x1,y1,x2,y2,label"]
    for number in range(100):
        Image.new("L", (9, 9)).save(tmp_path / f"{number}.png")
        rows += [f"{number}.png,1,1,5,5,{label}" for label in ("common", *["rare"] * (number % 10 == 0))]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    dataset = open_dataset(tmp_path)
    val = dataset.splits["val"]
    assert len(val) == 20
    assert sum(len(sample.target) == 2 for sample in val) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,x1,y1,x2,y2,label\na.png,1,2,3,4,dog\na.png,1,2,3,dog\n", "line 3: 5 cells, the first line has 6"),
        ("image,x1,y1,x2,y2,label\na.png,1,2,x,4,dog\n", "line 2: x is no place"),
        ("image,x1,y1,x2,y2,label\na.png,1,2,nan,4,dog\n", "line 2: nan is no place"),
        ("image,x1,y1,x2,y2,label\na.png,1,2,inf,4,dog\n", "line 2: inf is no place"),
        ("image,x1,y1,x2,y2,label\na.png,1,2,,4,dog\n", "line 2: an empty cell is no place"),
        ("image,x1,y1,x2,y2,label\na.png,1,2,3,4,\n", "line 2: label"),
        ("image,x1,y1,x2,y2,label\na.png,,,,,dog\n", "line 2: a label without a box"),
        ("image,x1,y1,x2,y2,label\n,1,2,3,4,dog\n", "line 2: no picture is named"),
        ("image,x1,y1,x2,y2,label,split\na.png,1,2,3,4,dog,train\na.png,1,2,3,4,dog,val\n", "line 3: a.png is in val"),
        ("image,x1,y1,x2,y2,label,kind\na.png,1,2,3,4,dog,odd\n", "line 2: odd is no kind"),
        ("image,x1,y1,x2,y2,label\n", "no boxes"),
        ("image,x1,y1,x2,y2,label\ngone.png,1,2,3,4,dog\n", "none of its 1 pictures is there"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_dataset(put(tmp_path, text))
    assert "\n" not in str(error.value)


def test_labels_of_pictures_are_not_taken_for_boxes(tmp_path):
    put(tmp_path, "image,label,width,height\na.png,dog,4,5\nb.png,cat,4,5\nc.png,dog,4,5\n", "labels.csv")
    assert open_dataset(tmp_path).format == "csv"
