"""500 annotation files that mean harm or met with it: each is an error in one line or a set whose boxes are sound."""

from __future__ import annotations

import copy
import json
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from striate.data import open_dataset
from striate.data.targets import Objects
from striate.errors import DataError

EACH = 125  # files a format
WIDTH, HEIGHT = 40, 30
HANGS = 60  # seconds after which a reader is said to hang, on however busy a machine

VALUES = [
    *(None, True, -1, 0, 2, 7, 1e-300, -1e300, 1e300, 10**400, float("nan"), float("inf"), -float("inf"), 2**63),
    *("", "7", "NaN", "\0", "\ud800", "\n\r\x1b[31m", "../../../etc/passwd", "a" * 5000, "dog", "/dev/zero", "/"),
    *([], {}, [[]], [1, 2, 3], [[1, 2, 3, 4, 5, "6"]], {"size": [10**9, 10**9], "counts": [10**18]}),
    *({"size": [HEIGHT, WIDTH], "counts": "o" * 50}, {"size": [HEIGHT, WIDTH], "counts": [-1, 1201]}, [[0.0] * 99999]),
]
DESCRIPTIONS = [
    *(
        b"nan",
        b"inf",
        b"-1e308",
        b"1e999",
        b"9" * 5000,
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"",
        b"-",
        b"0x1f",
        b"1_0",
    ),
    *(b"\r", b"\n\n", b'"', b"&", b"<", b"]]>", b"{", b"*a", b"&a [*a]", b"!!python/object:os.system", b"\xe2\x80\xae"),
    *(b"a" * 20000, b",,,,,", b"1e-320", b"99999999999999999999", b"/dev/zero", b"..", b"\x1b[31m"),
]
ENTITY = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
NESTED = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
MERGED = "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))

COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in (3, 1, 2)],
    "annotations": [
        {"id": n, "image_id": 1 + n % 3, "category_id": 1 + n % 2 * 8, "bbox": [n, 2, 5.5, 9], "area": 20, "iscrowd": 0,
         "segmentation": [[1, 2, 3, 4, 5, 6.5]], "keypoints": [1, 2, 2, 0, 0, 0]}
        for n in range(6)
    ],
    "categories": [{"id": 9, "name": "dog", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "dog"}],
}  # fmt: skip
BOX = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>"
VOC = (
    f"<annotation><filename>1.png</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    f"<object><name>dog</name><difficult>0</difficult>{BOX}</object><object><name>cat</name>{BOX}</object></annotation>"
).encode()
YOLO = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.2 0.3 0.4 0.5 0.6\n1 0.9 0.9 0.5 0.5\n"
YAML = b"path: .\ntrain: images/train\nval:\nnames:\n  0: cat\n  1: dog\n"
ROWS = b"image,x1,y1,x2,y2,label,split\n1.png,1,2,11,12,dog,train\n2.png,,,,,,train\n3.png,5,5,50,60,cat,val\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (WIDTH, HEIGHT)).save(path)


def broken_bytes(content: bytes, chance: random.Random) -> bytes:
    """Truncated, with words put in or put in place of others, with bits flipped, or something else altogether."""
    if chance.random() < 0.1:
        return chance.choice([b"", b"\0" * 999, chance.randbytes(999), b"\xff\xd8\xff\xe0" + chance.randbytes(99)])
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content) + 1)
        way = chance.random()
        if way < 0.2:
            content = content[:at]
        elif way < 0.5:
            content = content[:at] + chance.choice(DESCRIPTIONS) + content[at:]
        elif way < 0.8:
            parts = content.replace(b">", b"> ").replace(b",", b" , ").split(b" ")
            parts[chance.randrange(len(parts))] = chance.choice(DESCRIPTIONS)
            content = b" ".join(parts)
        elif content:
            at = chance.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    return content


def broken_tree(content: Any, chance: random.Random) -> Any:
    """With one to three of its values, at any depth, changed, dropped or doubled."""
    content = copy.deepcopy(content)
    for _ in range(chance.randint(1, 3)):
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(place[key], list | dict) and place[key] and chance.random() < 0.85:
                place = place[key]
                continue
            way = chance.random()
            if way < 0.8:
                place[key] = copy.deepcopy(chance.choice(VALUES))
            elif way < 0.9:
                del place[key]
            elif isinstance(place, list):
                place.append(copy.deepcopy(place[key]))
            break
    return content


def coco_file(root: Path, number: int, chance: random.Random) -> Path:
    fixed = [b"[" * 10**6, b'{"a":' * 10**5, b'{"images": ' + b"9" * 10**5 + b"}", b"\xef\xbb\xbf{}", b"null", b'"x"']
    if number < len(fixed):
        content = fixed[number]
    elif chance.random() < 0.75:
        content = json.dumps(broken_tree(COCO, chance)).encode()
    else:
        content = broken_bytes(json.dumps(COCO).encode(), chance)
    for name in range(1, 4 - (chance.random() < 0.2)):
        picture(root / f"{name}.png")
    (root / "instances.json").write_bytes(content)
    return root / "instances.json"


def voc_file(root: Path, number: int, chance: random.Random) -> Path:
    fixed = [
        f'<!DOCTYPE a [<!ENTITY e0 "lol">{ENTITY}]><annotation>&e11;</annotation>'.encode(),
        b'<!DOCTYPE a [<!ENTITY a "&b;"><!ENTITY b "&a;">]><annotation>&a;</annotation>',
        b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///dev/zero">]><annotation>&a;</annotation>',
        b'<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><annotation/>',
        b'<!DOCTYPE a [<!ENTITY % p "x"> %p;]><annotation/>',
        b"<annotation>" * 10**5,
        b"<annotation>" + b"<object>" * 10**5 + b"</object>" * 10**5 + b"</annotation>",
        VOC.decode().encode("utf-16"),
        b'<?xml version="1.0" encoding="utf-7"?>' + VOC,
        b"<annotation " + b" ".join(b'a%d="1"' % n for n in range(10**4)) + b"/>",
    ]
    content = fixed[number] if number < len(fixed) else broken_bytes(VOC, chance)
    (root / "Annotations").mkdir()
    (root / "Annotations" / "1.xml").write_bytes(content)
    (root / "Annotations" / "2.xml").write_bytes(VOC)
    picture(root / "JPEGImages" / "1.png")
    if chance.random() < 0.2:
        (root / "ImageSets" / "Main").mkdir(parents=True)
        (root / "ImageSets" / "Main" / "train.txt").write_bytes(broken_bytes(b"1\n2\n", chance))
    return root


def yolo_file(root: Path, number: int, chance: random.Random) -> Path:
    fixed = [
        f"a0: &a0 [x]\n{NESTED}\ntrain: *a11\nnames: *a11\n".encode(),
        f"a0: &a0 {{x: y}}\n{MERGED}\ntrain: images/train\nnames: *a11\n".encode(),
        b"train: images/train\nnames: &a [*a, x]\n",
        b"train: images/train\nnames: &a {0: *a}\n",
        b"train: images/train\nnames: " + b"[" * 3000,
        b"train: images/train\nnames: [a]\nkpt_shape: [999999999, 3]\n",
        b"train: /dev/zero\nval: /\x00\nnames: [a, b]\n",
        b"train: images/train\nnames: {999999999: a}\n",
        b"train: images/train\nnames: [a]\n" + b"x" * 2**21,
        b"train: images/train/1.png\nnames: [a, b]\n",
        b"? [a]\n: b\ntrain: images/train\nnames: [a, b]\n",
    ]
    config = fixed[number] if number < len(fixed) else YAML
    text = YOLO
    if number >= len(fixed):
        if chance.random() < 0.4:
            config = broken_bytes(config, chance)
        else:
            text = broken_bytes(text, chance)
    (root / "data.yaml").write_bytes(config)
    for name in (1, 2):
        picture(root / "images" / "train" / f"{name}.png")
    if chance.random() < 0.2:
        (root / "images" / "train" / "2.png").write_bytes(broken_bytes(b"\x89PNG\r\n\x1a\n", chance))
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "1.txt").write_bytes(text)
    return root / "data.yaml"


def csv_file(root: Path, number: int, chance: random.Random) -> Path:
    fixed = [
        b"image,x1,y1,x2,y2,label\n" + b"1.png,1,2,3,4,dog\n" * 20_000 + b"1.png,1,2,3\n",
        b"image,x1,y1,x2,y2,label\n/dev/zero,1,2,3,4,dog\n",
        b"image,x1,y1,x2,y2,label\n1.png,1,2,3,4," + b"d" * 10**6 + b"\n",
        b'image,x1,y1,x2,y2,label\n"' + b"\n" * 10**5,
    ]
    content = fixed[number] if number < len(fixed) else broken_bytes(ROWS, chance)
    for name in range(1, 4 - (chance.random() < 0.2)):
        picture(root / f"{name}.png")
    (root / "boxes.csv").write_bytes(content)
    return root / "boxes.csv"


@contextmanager
def no_hang() -> Iterator[None]:
    """An exception where this lasts far longer than any reading may; only where signals reach this thread."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"not read within {HANGS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_sound(target: Objects, classes: int) -> None:
    assert torch.isfinite(target.boxes).all()
    assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
    assert (target.boxes >= 0).all()
    assert (target.boxes <= torch.tensor([WIDTH, HEIGHT] * 2)).all()
    assert ((target.labels >= 0) & (target.labels < classes)).all()
    assert torch.isfinite(target.areas).all()
    assert (target.areas >= 0).all()
    assert target.keypoints is None or torch.isfinite(target.keypoints).all()
    assert target.masks is None or len(target.masks) == len(target)


@pytest.mark.parametrize("make", [coco_file, voc_file, yolo_file, csv_file])
def test_hostile_files(make, tmp_path):
    refused = 0
    for number in range(EACH):
        root = tmp_path / str(number)
        root.mkdir()
        source = make(root, number, random.Random(f"{make.__name__} {number}"))
        try:
            with no_hang():
                dataset = open_dataset(source, val_fraction=0)
        except DataError as error:
            refused += 1
            message = str(error)
            assert str(root) in message, (number, message)
            assert message.isprintable(), (number, message)
            assert len(message) < 900, (number, message)
            continue
        assert all(note.isprintable() for note in dataset.notes), (number, dataset.notes)
        if dataset.task == "detect":
            for sample in (sample for samples in dataset.splits.values() for sample in samples):
                check_sound(sample.target, len(dataset.classes))
    assert EACH // 4 < refused < EACH
