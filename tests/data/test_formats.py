"""Data in: every layout read, every mistake named with its place."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import MNIST, ImageFolder

from striate.data import open_dataset, split_source
from striate.errors import DataError, UsageError


def pictures(root: Path, *names: str) -> None:
    """One small picture a name; names end in / for an empty folder."""
    for number, name in enumerate(names):
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("L", (4, 4), number % 256).save(path)
        else:
            path.write_text("notes")


def sizes(dataset) -> dict[str, int]:
    return {split: len(samples) for split, samples in dataset.splits.items()}


def notes(dataset) -> str:
    return "\n".join(dataset.notes)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_one_folder_is_split_stratified_and_the_same_whatever_order_files_come_in(tmp_path, monkeypatch):
    pictures(tmp_path, *(f"cat/{i}.png" for i in range(20)), *(f"dog/deep/er/{i}.jpg" for i in range(10)))
    first = open_dataset(tmp_path)
    assert (first.format, first.task, first.classes, first.multi_label) == ("folder", "classify", ("cat", "dog"), False)
    assert sizes(first) == {"train": 24, "val": 6}
    assert [sample.target for sample in first.splits["val"]].count(1) == 2
    assert "Held out 6 of 30" in notes(first)
    assert "one folder a class" in notes(first)
    assert not {s.name for s in first.splits["train"]} & {s.name for s in first.splits["val"]}
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Reversed)
    assert open_dataset(tmp_path).splits == first.splits
    monkeypatch.undo()
    assert open_dataset(tmp_path, seed=1).splits != first.splits
    assert sizes(open_dataset(tmp_path, val_fraction=0)) == {"train": 30}


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_splits_of_its_own_are_kept(tmp_path, val):
    pictures(tmp_path, *(f"{split}/{label}/{i}.png" for split in ("train", val) for label in "ab" for i in range(3)))
    assert sizes(open_dataset(tmp_path)) == {"train": 6, "val": 6}
    assert sizes(open_dataset(f"{tmp_path}:val")) == {"val": 6}


def test_with_train_and_test_val_comes_out_of_train(tmp_path):
    pictures(tmp_path, *(f"{split}/{label}/{i}.png" for split in ("train", "test") for label in "ab" for i in range(5)))
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": 8, "val": 2, "test": 10}
    assert {sample.name.split("/")[0] for sample in dataset.splits["val"]} == {"train"}


def test_agrees_with_torchvision_image_folder(shared_data):
    root = next(shared_data("hymenoptera").rglob("train")).parent
    dataset = open_dataset(root)
    for split in ("train", "val"):
        theirs = ImageFolder(str(root / split))
        assert list(dataset.classes) == theirs.classes
        assert [(sample.image, sample.target) for sample in dataset.splits[split]] == theirs.samples


def test_what_is_left_out_is_told(tmp_path):
    pictures(
        tmp_path,
        *("train/a/1.png", "train/a/2.PNG.png", "train/b/1.png", "train/c/1.png", "train/empty/"),
        *("train/a/.hidden.png", "train/a/readme.txt", "train/b/Thumbs.db", "train/loose.png", "train/.git/x/1.png"),
        *("val/a/1.png", "val/b/1.png", "extra/x.png"),
    )
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("a", "b", "c")
    assert sizes(dataset) == {"train": 4, "val": 2}
    told = notes(dataset)
    assert "train/empty" in told
    assert "without a picture in val: c" in told
    assert "extra/ is not a split" in told
    assert "4 files are no pictures" in told


def test_a_class_unknown_in_train_is_an_error_with_a_suggestion(tmp_path):
    pictures(tmp_path, "train/cats/1.png", "train/dogs/1.png", "val/cats/1.png", "val/dog/1.png")
    with pytest.raises(DataError, match=r'val/dog: class "dog" is in val but not in train. Did you mean "dogs"'):
        open_dataset(tmp_path)


def test_a_flat_test_folder_is_left_out(tmp_path):
    pictures(tmp_path, *(f"train/{label}/{i}.png" for label in "ab" for i in range(5)), "test/1.png", "test/2.png")
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": 8, "val": 2}
    assert "test/ has no class folders" in notes(dataset)


def test_links_in_circles_end(tmp_path):
    pictures(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png", "elsewhere/x/3.png")
    (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "out").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(elsewhere)
    (tmp_path / "b" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    dataset = open_dataset(tmp_path, val_fraction=0)
    assert sorted(sample.name for sample in dataset.splits["train"]) == [
        *("a/1.png", "a/2.png", "a/out/x/3.png", "b/1.png", "b/2.png")
    ]
    assert "links" in notes(dataset)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/1.png"], "only one class"),
        (["a/", "b/"], "no pictures"),
        (["x/train/a/1.png", "x/train/b/1.png"], "Did you mean .*x"),
        (["1.png", "2.png", "x.txt"], r"without class folders, that holds 2 .png, 1 .txt"),
        ([], "the folder is empty"),
        (["train/1.png", "val/a/1.png"], "has no class folders"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "keep one of them"),
    ],
)
def test_folders_that_cannot_be_meant(tmp_path, names, said):
    pictures(tmp_path, *names)
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path)


# --- CSV -------------------------------------------------------------------------------------------------------------


def csv_of(root: Path, text: str | bytes, name: str = "labels.csv", count: int = 10) -> Path:
    pictures(root, *(f"{i}.png" for i in range(count)))
    file = root / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_csv_with_bom_quotes_crlf_empty_lines_and_any_column_names(tmp_path):
    pictures(tmp_path, "a,b.png")
    text = '\ufeffid;Filename;Class\r\n7;0.png;cat\r\n\r\n8;"1.png";"dog, big"\r\n9;a,b.png;cat\r\n9;2.png;dog, big\r\n'
    for source in (csv_of(tmp_path, text), tmp_path):
        dataset = open_dataset(source, val_fraction=0)
        assert (dataset.format, dataset.classes) == ("csv", ("cat", "dog, big"))
        assert [(s.name, s.target) for s in dataset.splits["train"]] == [
            *(("0.png", 0), ("1.png", 1), ("a,b.png", 0), ("2.png", 1))
        ]
        assert Path(str(dataset.splits["train"][0].image)).is_file()


def test_csv_splits_by_column_and_by_file(tmp_path):
    file = csv_of(tmp_path, "image,label,split\n0.png,a,train\n1.png,b,Training\n2.png,a,valid\n3.png,b,test\n")
    assert sizes(open_dataset(file)) == {"train": 2, "val": 1, "test": 1}
    file.unlink()
    csv_of(tmp_path, "image,label\n0.png,a\n1.png,b\n", "train.csv")
    csv_of(tmp_path, "image,label\n2.png,a\n", "test.csv")
    csv_of(tmp_path, "image,label\n3.png,b\n", "val.csv")
    assert sizes(open_dataset(tmp_path)) == {"train": 2, "val": 1, "test": 1}


def test_csv_numbers_are_sorted_as_numbers(tmp_path):
    file = csv_of(
        tmp_path, "image,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate([10, 9, 2, 10, 9]))
    )
    assert open_dataset(file).classes == ("2", "9", "10")


def test_csv_several_labels(tmp_path):
    file = csv_of(tmp_path, "image,label\n0.png,sky;sea\n1.png,sea\n2.png,\n3.png, sky ; tree\n")
    dataset = open_dataset(file, val_fraction=0)
    assert dataset.multi_label
    assert dataset.classes == ("sea", "sky", "tree")
    assert [sample.target for sample in dataset.splits["train"]] == [(0, 1), (0,), (), (1, 2)]
    flags = csv_of(tmp_path, "image,split,tree,sea\n0.png,train,1,0\n1.png,train,0,0\n2.png,val,1.0,1\n", "flags.csv")
    dataset = open_dataset(flags)
    assert (dataset.multi_label, dataset.classes) == (True, ("tree", "sea"))
    assert [sample.target for sample in dataset.splits["train"] + dataset.splits["val"]] == [(0,), (), (0, 1)]


def test_csv_repeated_lines_are_dropped_and_told(tmp_path):
    file = csv_of(tmp_path, "image,label\n0.png,a\n1.png,b\n./0.png,a\n")
    dataset = open_dataset(file, val_fraction=0)
    assert sizes(dataset) == {"train": 2}
    assert "1 lines repeat" in notes(dataset)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "image,label\n0.png,a\n1.png,b\n\nnope.png,a\nno2.png,a\n",
            r"labels.csv, line 5: no picture .*nope.png \(and 1",
        ),
        ("image,label\n0.png,a\n1.png\n", "line 3: 1 cells, the header has 2"),
        ('image,label\n0.png,"two\nlines"\n1.png,b,c\n', "line 4: 3 cells"),
        ("image,label\n0.png,a\n1.png,\n", "line 3: no label"),
        ("image,label\n,a\n", "line 2: no picture is named"),
        ("imgae,label\n0.png,a\n", 'line 1: no column names the pictures.*Did you mean "image"'),
        ("image,colour\n0.png,a\n", "line 1: no column is called label"),
        ("image,x,y\n0.png,1,0\n1.png,2,0\n", 'line 3: "2" in column x'),
        ("image,label,label\n0.png,a,b\n", "line 1: 2 columns"),
        ("image,label,split\n0.png,a,train\n1.png,b,tarin\n", 'line 3: "tarin" is no split.*Did you mean "train"'),
        ("image,label\n0.png,a\n0.png,b\n", "line 3: 0.png has other labels than in line 2"),
        ("image,label,split\n0.png,a,train\n0.png,a,val\n", "line 3: 0.png is in val, in line 2 in train"),
        (
            "image,label,split\n0.png,cat,train\n1.png,dog,train\n2.png,dgo,val\n",
            'line 4: label "dgo".*Did you mean "dog"',
        ),
        (b"image,label\n0.png,a\n1.png,\xe9t\xe9\n", "line 3: is not UTF-8"),
        ('image,label\n0.png,a\n1.png,"b\n', "line 3: unexpected end of data"),
        ("image,label\n", "no rows"),
        ("", "is empty"),
        ("image,label\n0.png,a\n1.png,a\n", "only one class"),
    ],
)
def test_csv_mistakes_are_named_with_their_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said) as error:
        open_dataset(csv_of(tmp_path, text))
    assert "labels.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_csv_of_something_else_beside_class_folders_is_not_taken_for_labels(tmp_path):
    pictures(tmp_path, *(f"{label}/{i}.png" for label in "ab" for i in range(3)))
    (tmp_path / "prices.csv").write_text("article,price\n1,2\n")
    assert open_dataset(tmp_path).format == "folder"


# --- IDX, built-in, torchvision --------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def idx_set(root: Path, stem: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    images, labels = random.integers(0, 256, (count, 6, 5)), np.arange(count) % 10
    (root / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (root / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return images, labels


def test_idx_values_and_splits(tmp_path):
    images, _ = idx_set(tmp_path, "train", 200)
    tests, labels = idx_set(tmp_path, "t10k", 30)
    dataset = open_dataset(tmp_path)
    assert sizes(dataset) == {"train": 160, "val": 40, "test": 30}
    for sample in dataset.splits["train"][:20]:
        index = int(sample.name.split("/")[1])
        assert torch.equal(sample.image, torch.tensor(images[index], dtype=torch.uint8)[None])
        assert sample.target == index % 10
    assert [sample.target for sample in dataset.splits["test"]] == labels.tolist()
    assert torch.equal(dataset.splits["test"][3].image[0], torch.tensor(tests[3], dtype=torch.uint8))


def test_idx_agrees_with_torchvision(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 60), ("t10k", 20)):
        images, labels = idx_set(raw, stem, count)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        assert len(labels) == count
    theirs = MNIST(str(tmp_path), train=False)
    by_name = open_dataset(f"mnist:{tmp_path}")
    ours = open_dataset(raw)
    assert by_name.format == "torchvision"
    assert by_name.classes == ours.classes == tuple("0123456789")
    assert sizes(by_name) == sizes(ours)
    for dataset in (by_name, ours):
        assert torch.equal(torch.cat([s.image for s in dataset.splits["test"]]), theirs.data)
        assert [s.target for s in dataset.splits["test"]] == theirs.targets.tolist()


def test_real_mnist(shared_data):
    dataset = open_dataset(next(shared_data("mnist").rglob("train-images*")).parent)
    assert {split: count for split, count in sizes(dataset).items() if split != "test"} == {
        "train": 55_000,
        "val": 5_000,
    }
    images = torch.cat(
        [sample.image for samples in (dataset.splits["train"], dataset.splits["val"]) for sample in samples]
    )
    assert images.shape == (60_000, 28, 28)
    assert images.double().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)  # the constant everybody quotes


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train-labels-idx1-ubyte", lambda b: b[:-3], "200 bytes, but 197 follow"),
        ("train-labels-idx1-ubyte", lambda b: b + b"x", "200 bytes, but 201 follow"),
        ("train-labels-idx1-ubyte", lambda b: b"PNG!" + b[4:], "not an IDX file"),
        ("train-labels-idx1-ubyte", lambda b: b[:2] + b"\x0d" + b[3:], "type 0x0d"),
        ("train-labels-idx1-ubyte", lambda b: b[:6], "ends within its header"),
        ("train-labels-idx1-ubyte", lambda b: b"", "not an IDX file"),
        ("train-labels-idx1-ubyte", lambda b: idx(np.arange(9)), "200 pictures, but .* has 9 labels"),
        ("train-images-idx3-ubyte.gz", lambda b: b[: len(b) // 2], "truncated or damaged"),
        ("train-images-idx3-ubyte.gz", lambda b: b[:40] + bytes(40) + b[80:], "damaged"),
        ("train-images-idx3-ubyte.gz", lambda b: idx(np.arange(200)), "1 dimensions"),
        ("train-labels-idx1-ubyte", None, "labels are missing; place train-labels-idx1-ubyte"),
    ],
)
def test_idx_mistakes_are_named(tmp_path, name, change, said):
    idx_set(tmp_path, "train", 200)
    file = tmp_path / name
    if change is None:
        file.unlink()
    else:
        file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DataError, match=said) as error:
        open_dataset(tmp_path)
    assert "idx" in str(error.value).split(":")[0]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    dataset = open_dataset("digits")
    assert sum(sizes(dataset).values()) == 1797
    assert sizes(dataset)["test"] in (359, 360)
    seen = set()
    for split, samples in dataset.splits.items():
        for sample in samples:
            index = int(sample.name.split("/")[1])
            assert index not in seen, split
            seen.add(index)
            assert sample.target == labels[index]
            assert (sample.image.reshape(64).double() * 16 / 255 - torch.tensor(values[index])).abs().max() < 0.04
    assert dataset.splits["test"][0].image.shape == (1, 8, 8)
    other = open_dataset("digits", seed=5)
    assert [s.name for s in other.splits["test"]] == [s.name for s in dataset.splits["test"]]
    assert [s.name for s in other.splits["val"]] != [s.name for s in dataset.splits["val"]]
    assert list(open_dataset("digits:test").splits) == ["test"]


def test_cifar_pickles_by_name(tmp_path, monkeypatch):
    """A set with three channels in torchvision's own file layout, checksums aside."""
    import pickle

    import torchvision.datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (20, 3072)).astype(np.uint8)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [i % 10 for i in range(20)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"kind{i}" for i in range(10)]}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *a: True)
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    dataset = open_dataset("cifar10")
    assert sizes(dataset) == {"train": 80, "val": 20, "test": 20}
    assert dataset.classes[3] == "kind3"
    assert torch.equal(dataset.splits["test"][7].image, torch.from_numpy(rows[7].reshape(3, 32, 32)))


def test_a_set_that_is_not_there_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"pass --download .*place its files there") as error:
        open_dataset("fashion_mnist")
    assert str(tmp_path / "FashionMNIST" / "raw") in str(error.value)
    with pytest.raises(DataError, match=r'mnist: no split or folder "tset".*Did you mean "test"'):
        open_dataset("mnist:tset")
    with pytest.raises(DataError, match='no folder "/no/such/root"'):
        open_dataset("mnist:/no/such/root")


# --- what is asked for -----------------------------------------------------------------------------------------------


def test_wrong_requests(tmp_path):
    with pytest.raises(DataError, match='Did you mean "digits"'):
        open_dataset("digit")
    pictures(tmp_path, *(f"{label}/{i}.png" for label in "ab" for i in range(5)))
    with pytest.raises(DataError, match='no split "test"; there is train, val'):
        open_dataset(f"{tmp_path}:test")
    with pytest.raises(UsageError, match='Did you mean "classify"'):
        open_dataset("digits", task="clasify")
    with pytest.raises(UsageError, match="val_fraction"):
        open_dataset("digits", val_fraction=1.5)
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="no CSV"):
        open_dataset(tmp_path / "a.zip")


def test_split_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:test").mkdir()
    (tmp_path / "data").mkdir()
    for source, expected in {
        "digits:test": ("digits", "test"),
        "photos/:val": ("photos/", "val"),
        "photos:valid": ("photos", "val"),
        "photos:Training": ("photos", "train"),
        "mnist:/data/root": ("mnist:/data/root", None),
        "mnist:/data/root:test": ("mnist:/data/root", "test"),
        r"C:\data\photos": (r"C:\data\photos", None),
        r"C:\data\photos:val": (r"C:\data\photos", "val"),
        "http://host:8080/a": ("http://host:8080/a", None),
        "http://host/a:test": ("http://host/a:test", None),
        "digits:tset": ("digits", "tset"),
        "mnist:data": ("mnist:data", None),
        "photos:tset": ("photos:tset", None),
        "odd:test": ("odd:test", None),
        "odd:test:val": ("odd:test", "val"),
        ":test": (":test", None),
        "digits": ("digits", None),
        "": ("", None),
    }.items():
        assert split_source(source) == expected, source
