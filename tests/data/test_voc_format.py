"""PASCAL VOC in: the real blood cells against a parse of our own, and what may be wrong in an annotation."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from striate.data import open_dataset
from striate.data.targets import DIFFICULT, PLAIN
from striate.errors import DataError


def annotation(objects: str, filename: str = "a.jpg", size: str = "40,30") -> str:
    width, height = size.split(",")
    return (
        f"<annotation><filename>{filename}</filename><size><width>{width}</width><height>{height}</height></size>"
        f"{objects}</annotation>"
    )


def thing(name: str, *sides: object, more: str = "") -> str:
    x1, y1, x2, y2 = sides
    box = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def voc(root: Path, **files: str) -> Path:
    """Annotations/STEM.xml with JPEGImages/STEM.jpg, 40 x 30."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "JPEGImages").mkdir(exist_ok=True)
    for stem, text in files.items():
        (root / "Annotations" / f"{stem}.xml").write_text(text)
        Image.new("L", (40, 30)).save(root / "JPEGImages" / f"{stem}.jpg")
    return root


def test_the_blood_cells_are_what_elementtree_reads(shared_data):
    root = next(path.parent for path in shared_data("bccd").rglob("ImageSets"))
    dataset = open_dataset(root)
    assert (dataset.format, dataset.task, dataset.classes) == ("voc", "detect", ("Platelets", "RBC", "WBC"))
    assert "Boxes without extent, left out: 2." in dataset.notes
    for split, samples in dataset.splits.items():
        names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        assert [Path(str(sample.image)).stem for sample in samples] == names
        for sample in samples:
            expected = []
            for element in ElementTree.parse(root / "Annotations" / f"{Path(sample.name).stem}.xml").iter("object"):
                x1, y1, x2, y2 = (int(element.findtext(f"bndbox/{s}", "")) for s in ("xmin", "ymin", "xmax", "ymax"))
                if (x1, y1) != (x2, y2):
                    expected.append((element.findtext("name"), [x1 - 1, y1 - 1, x2, y2]))
            target = sample.target
            assert [dataset.classes[label] for label in target.labels] == [name for name, _ in expected]
            assert target.boxes.tolist() == [box for _, box in expected]
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 205, "val": 87, "test": 72}
    assert len(open_dataset(f"{root.parent}:test").splits["test"]) == 72


def test_edges_kinds_and_what_is_counted(tmp_path):
    objects = (
        thing("dog", 1, 1, 40, 30, more="<difficult>1</difficult>")
        + thing("cat", 5, 6, 5, 7)  # one pixel wide, two high
        + thing("cat", 5, 6, 5, 6)  # a slip of the mouse
        + thing("cat", 9, 6, 5, 7)
        + thing("cat", 0, 0, 41, 31)  # counted from 0: cut without a word
        + thing("cat", 20, 20, 90, 25.5, more="<part><name>head</name></part>")
        + thing("cat", 50, 20, 90, 25)
    )
    voc(tmp_path, a=annotation(objects), b=annotation("", "b.jpg"))
    (tmp_path / "Annotations" / "gone.xml").write_text(annotation("", "gone.jpg"))
    Image.new("L", (9, 9)).save(tmp_path / "JPEGImages" / "alone.jpg")
    dataset = open_dataset(tmp_path, val_fraction=0)
    target = dataset.splits["train"][0].target
    assert target.boxes.tolist() == [[0, 0, 40, 30], [4, 5, 5, 7], [0, 0, 40, 30], [19, 19, 40, 25.5]]
    assert target.kinds.tolist() == [DIFFICULT, PLAIN, PLAIN, PLAIN]
    assert len(dataset.splits["train"][1].target) == 0
    assert dataset.notes[1:] == [
        "Pictures without an XML file, left out: 1.",
        "Pictures that are not there, left out: 1.",
        "Boxes without extent, left out: 2.",
        "Boxes outside their picture, left out: 1.",
        "Boxes over the edge of their picture, cut there: 1.",
    ]


def test_sets_trainval_and_xml_beside_pictures(tmp_path):
    stems = [f"p{number}" for number in range(6)]
    root = voc(tmp_path / "sets", **{stem: annotation(thing("dog", 2, 2, 9, 9), f"{stem}.jpg") for stem in stems})
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "trainval.txt").write_text("p0\np1\np2\n")
    (main / "test.txt").write_text("p3\nlost\n")
    dataset = open_dataset(root, val_fraction=0)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 3, "test": 1}
    assert "Listed pictures without an XML file, left out: 1." in dataset.notes
    assert "XML files that no list in ImageSets/Main names, left out: 2." in dataset.notes
    (main / "test.txt").write_text("p3\np3\n")
    with pytest.raises(DataError, match="the list of test names p3 twice"):
        open_dataset(root)
    for split in ("train", "valid"):
        folder = tmp_path / "flat" / split
        folder.mkdir(parents=True)
        (folder / "a.xml").write_text(annotation(thing("dog", 2, 2, 9, 9), "a_jpg.rf.123.jpg"))
        Image.new("L", (40, 30)).save(folder / "a.jpg")
    dataset = open_dataset(tmp_path / "flat")
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 1, "val": 1}


LAUGHS = '<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;">]><annotation>&m;</annotation>'
CYCLE = '<!DOCTYPE a [<!ENTITY l "&m;"><!ENTITY m "&l;">]><annotation>&m;</annotation>'
FILE = '<!DOCTYPE a [<!ENTITY l SYSTEM "file:///etc/passwd">]><annotation>&l;</annotation>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "EntitiesForbidden"),
        (CYCLE, "EntitiesForbidden"),
        (FILE, "EntitiesForbidden"),
        ("<annotation><object>", "line 1, column 20: is not XML"),
        ("<html/>", "its root is <html>"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "is not XML"),
        ("", "is not XML"),
        (
            annotation(thing("dog", 1, 1, 4, 4) + "<object><name>dog</name></object>"),
            r'object 2 \("dog"\): has no <bndbox>',
        ),
        (annotation(thing("", 1, 1, 4, 4)), "object 1: name"),
        (annotation(thing("dog", 1, "x", 4, 4)), "object 1: <ymin> is x"),
        (annotation(thing("dog", 1, 1, "NaN", 4)), "object 1: <xmax> is NaN"),
        (annotation(thing("dog", 1, 1, 4, "1e999")), "object 1: <ymax> is 1e999"),
        (annotation(thing("dog", 9, 9, 4, 4)), "none of its 1 boxes has extent"),
        (annotation(""), "no object in any of its 1 annotations"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_dataset(voc(tmp_path, a=text))
    assert "\n" not in str(error.value)


def test_class_folders_with_other_xml_are_still_class_folders(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("L", (4, 4)).save(tmp_path / label / f"{number}.png")
    (tmp_path / "notes.xml").write_text("<notes/>")
    assert open_dataset(tmp_path).format == "folder"
