"""dlib's XML of faces with points: faces cut out, points with them; mistakes told with file and box."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from striate.data.formats import landmarks_dlib, read_dataset
from striate.errors import DataError

PART = "<part name='{}' x='{}' y='{}'/>"
BOX = "<box top='20' left='30' width='20' height='10'>{}</box>"


def written(folder: Path, boxes: str, name: str = "faces.xml", head: str = "") -> Path:
    Image.new("RGB", (100, 60), (10, 20, 30)).save(folder / "a.png")
    file = folder / name
    file.write_text(
        f"<?xml version='1.0'?>{head}<dataset><images><image file='a.png'>{boxes}</image></images></dataset>"
    )
    return file


def test_a_face_is_cut_out_with_its_points(tmp_path: Path):
    parts = PART.format("00", 35, 22) + PART.format("01", 45, 28)
    written(tmp_path, BOX.format(parts) + "<box top='1' left='1' width='5' height='5'/>")
    data = read_dataset(str(tmp_path), val_fraction=0, seed=0, download=False)
    (sample,) = data.splits["train"]
    assert (data.format, data.task, data.classes, sample.name) == ("dlib", "keypoints", ("00", "01"), "a.png#1")
    assert sample.image.shape == (3, 21, 41)  # 20 .. 60 and 15 .. 35, the last pixel too
    assert torch.equal(sample.target.values, torch.tensor([[15.5, 7.5, 1], [25.5, 13.5, 1]]))
    assert "1 boxes without parts" in " ".join(data.notes)


ENTITIES = "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>"
WRONG = {
    BOX.format("<part name='00' x='one' y='2'/>"): "box 1: x is",
    BOX.format(PART.format("00", 1, "nan")): "box 1: y is",
    BOX.format(PART.format("00", 1, 2)) + BOX.format(PART.format("01", 1, 2)): "box 2: 1 parts",
    "<box top='500' left='30' width='9' height='9'>" + PART.format("0", 1, 2) + "</box>": "outside the picture",
    "<box top='5' left='30' width='0' height='9'>" + PART.format("0", 1, 2) + "</box>": "0 x 9 pixels",
    BOX.format(PART.format("00", 1, 2)) + "<box": "line 1: is no XML",
}


@pytest.mark.parametrize("boxes", WRONG)
def test_mistakes_are_told_with_file_and_box(tmp_path: Path, boxes: str):
    file = written(tmp_path, boxes)
    with pytest.raises(DataError, match=r"faces\.xml") as told:
        landmarks_dlib.read(str(file), 0, 0, False)
    assert WRONG[boxes] in str(told.value)


def test_entities_and_lost_pictures_are_refused_and_other_xml_is_not_ours(tmp_path: Path):
    file = written(tmp_path, BOX.format(PART.format("00", 1, 2)), head=ENTITIES)
    with pytest.raises(DataError, match="entities"):
        landmarks_dlib.read(str(file), 0, 0, False)
    written(tmp_path, BOX.format(PART.format("00", 1, 2)))
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="no picture"):
        landmarks_dlib.read(str(file), 0, 0, False)
    (tmp_path / "voc.xml").write_text("<annotation><object/></annotation>")
    assert not landmarks_dlib.recognises(str(tmp_path / "voc.xml"))


def test_real_faces(shared_data):
    data = read_dataset(
        str(shared_data("dlib-faces") / "dlib-faces" / "examples" / "faces"), val_fraction=0.2, seed=0, download=False
    )
    assert len(data.classes) == 68
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 16, "val": 2, "test": 25}
    for sample in data.splits["test"]:
        inside = sample.target.values[:, :2] < torch.tensor([sample.image.shape[2], sample.image.shape[1]])
        assert inside.all()
