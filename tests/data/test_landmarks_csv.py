"""CSV files of points: every way to head them, people held out whole, each mistake told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from striate.data.formats import landmarks_csv, read_dataset
from striate.data.formats.landmarks_csv import hold_out_groups, person_of
from striate.errors import DataError


def written(folder: Path, text: str, name: str = "keypoints.csv", pictures: str = "abcd") -> Path:
    for picture in pictures:
        Image.new("RGB", (20, 10)).save(folder / f"{picture}.png")
    (folder / name).write_text(text)
    return folder


HEADS = {
    "image,x0,y0,x1,y1": ("0", "1"),
    "file,0,1,2,3": ("0", "1"),
    ",0,1,2,3": ("0", "1"),
    "filename,left_eye_x,left_eye_y,nose_x,nose_y": ("left_eye", "nose"),
    "Image,Nose.X,Nose.Y,Chin.X,Chin.Y": ("nose", "chin"),
}


@pytest.mark.parametrize("header", HEADS)
def test_points_are_read_however_columns_are_called(tmp_path: Path, header: str):
    source = written(tmp_path, f"{header}\na.png,1,2.5,3,4\nb.png,5,6,,\n")
    data = read_dataset(str(source), val_fraction=0, seed=0, download=False)
    assert (data.format, data.task, data.classes) == ("landmarks", "keypoints", HEADS[header])
    one, other = (sample.target.values for sample in data.splits["train"])
    assert one.tolist() == [[1, 2.5, 1], [3, 4, 1]]
    assert other.tolist() == [[5, 6, 1], [0, 0, 0]]
    assert "1 of 4 points are not known" in " ".join(data.notes)


def test_seen_columns_and_splits_and_folders(tmp_path: Path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "e.png")
    text = "image,split,x0,y0,v0,x1,y1,v1\na.png,train,1,2,1,3,4,0\ne.png,test,5,6,2,7,8,1\n"
    data = landmarks_csv.read(str(written(tmp_path, text)), 0.2, 0, False)
    assert data.splits["train"][0].target.values.tolist() == [[1, 2, 1], [0, 0, 0]]
    assert data.splits["test"][0].image == str(tmp_path / "images" / "e.png")


def test_grades_are_no_points_unless_the_file_says_so(tmp_path: Path):
    text = "image,0,1,2,3\na.png,1,2,3,4\nb.png,1,2,3,4\n"
    assert not landmarks_csv.recognises(str(written(tmp_path, text, "votes.csv")))
    (tmp_path / "votes.csv").rename(tmp_path / "landmarks.csv")
    assert landmarks_csv.recognises(str(tmp_path))
    assert landmarks_csv.recognises(str(tmp_path / "landmarks.csv"))
    labels = written(tmp_path, "image,label\na.png,x\n", "labels.csv")
    assert not landmarks_csv.recognises(str(labels / "labels.csv"))
    assert not landmarks_csv.recognises(str(tmp_path / "a.png"))


def test_people_are_told_by_names():
    assert person_of("training/Luis_Fonsi_21.jpg") == person_of("training/Luis_Fonsi_52.jpg") == "training/Luis_Fonsi"
    assert person_of("0017.png") == "/0017"  # a number alone is the name
    assert person_of("anna 3.jpg") == person_of("anna-12.jpg")


def test_whoever_is_held_out_is_held_out_whole(tmp_path: Path):
    rows = [f"{who}_{i}.png,1,2" for who in "abcdefghij" for i in range(4)]
    for row in rows:
        Image.new("RGB", (4, 4)).save(tmp_path / row.split(",")[0])
    source = str(written(tmp_path, "\n".join(["image,x0,y0", *rows]), pictures=""))
    data = landmarks_csv.read(source, 0.2, 0, False)
    train, val = ({person_of(s.name) for s in data.splits[split]} for split in ("train", "val"))
    assert not train & val
    assert len(data.splits["val"]) == 8
    assert "2 of 10 people" in data.notes[-1]
    again = landmarks_csv.read(source, 0.2, 0, False)
    assert [s.name for s in again.splits["val"]] == [s.name for s in data.splits["val"]]
    other = landmarks_csv.read(source, 0.2, 1, False)
    assert [s.name for s in other.splits["val"]] != [s.name for s in data.splits["val"]]


def test_pictures_of_nobody_twice_or_of_one_alone_are_held_out_one_by_one(tmp_path: Path):
    text = "image,x0,y0\n" + "".join(f"{name}.png,1,2\n" for name in "abcd")
    data = landmarks_csv.read(str(written(tmp_path, text)), 0.25, 0, False)
    assert (len(data.splits["train"]), len(data.splits["val"])) == (3, 1)
    one = tmp_path / "one"
    one.mkdir()
    for i in range(8):
        Image.new("RGB", (4, 4)).save(one / f"img_{i}.png")
    text = "image,x0,y0\n" + "".join(f"img_{i}.png,1,2\n" for i in range(8))
    data = landmarks_csv.read(str(written(one, text, pictures="")), 0.25, 0, False)
    assert len(data.splits["val"]) == 2


def test_groups_stay_whole_and_never_exceed_what_is_wanted():
    groups = ["a"] * 5 + ["b"] * 2 + list("cdefghijklm")
    for seed in range(20):
        held = hold_out_groups(groups, 0.25, seed)
        chosen = {groups[i] for i in held}
        assert held == [i for i, group in enumerate(groups) if group in chosen]
        assert len(held) <= round(0.25 * len(groups))


WRONG = {
    "": "no rows",
    "a.png,1,2,3\n": "line 2: 4 cells",
    "a.png,1,2,3,x\n": 'line 2: "x" of point 1',
    "a.png,1,2,3,inf\n": "line 2",
    "a.png,1,2,3,\n": "only one of x and y",
    "a.png,1,2,3,4\nz.png,1,2,3,4\n": "line 3: no picture z.png",
    "a.png,1,2,3,4\n./a.png,1,2,3,4\n": "line 3: ./a.png is in line 2 already",
    ",1,2,3,4\n": "line 2: no picture is named",
}


@pytest.mark.parametrize("rows", WRONG)
def test_mistakes_are_told_with_their_line(tmp_path: Path, rows: str):
    source = written(tmp_path, f"image,x0,y0,x1,y1\n{rows}")
    with pytest.raises(DataError, match=r"keypoints\.csv") as told:
        landmarks_csv.read(str(source), 0.2, 0, False)
    assert WRONG[rows] in str(told.value)
    assert "\n" not in str(told.value)


def test_real_faces(shared_data):
    source = shared_data("facial-keypoints") / "facial-keypoints-ytf"
    data = read_dataset(str(source), val_fraction=0.2, seed=0, download=False)
    assert (data.format, len(data.classes)) == ("landmarks", 68)
    assert len(data.splits["train"]) + len(data.splits["val"]) == 240
    assert not {person_of(s.name) for s in data.splits["train"]} & {person_of(s.name) for s in data.splits["val"]}
    first = (source / "keypoints.csv").read_text().splitlines()[1].split(",")
    sample = next(s for split in data.splits.values() for s in split if s.name == first[0])
    assert sample.target.values[:, :2].flatten().tolist() == [float(cell) for cell in first[1:]]
    assert torch.equal(sample.target.values[:, 2], torch.ones(68))
