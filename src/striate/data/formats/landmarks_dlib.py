"""dlib's XML of faces with points (`<image file><box top left width height><part name x y/>`): a face is a sample.

A face is cut out of its picture with half its box's side around it, for the task keypoints is told of one face a
picture; pictures are kept in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from striate.data.formats.landmarks_csv import in_splits
from striate.data.sample import Dataset, Sample
from striate.data.targets import Points
from striate.errors import DataError
from striate.images import read_image

AROUND = 0.5  # of the box's side, to each side


def recognises(source: str) -> bool:
    return bool(_files(Path(source)))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """A file whose name says train, val or test is that split; of several in a folder those with points are read.

    Raises:
        DataError: names the file and the box.
    """
    files = _files(Path(source))
    samples: list[Sample] = []
    pictures: list[str] = []
    said: list[str] = []
    names: list[str] = []
    without = 0
    for file in files:
        split = next((known for word, known in _WORDS if word in file.stem.lower()), "")
        for image in _parsed(file).iter("image"):
            path = file.parent / image.get("file", "").replace("\\", "/")
            faces = image.findall("box")
            if not image.get("file") or not path.is_file():
                raise DataError(f"{file}: no picture {path}; paths are relative to the XML file")
            pixels = read_image(path)
            for number, box in enumerate(faces):
                where = f"{file}, {image.get('file')}, box {number + 1}"
                parts = {part.get("name", ""): part for part in box.findall("part")}
                if not parts:
                    without += 1
                    continue
                names = names or sorted(parts)
                if sorted(parts) != names:
                    raise DataError(f"{where}: {len(parts)} parts, the first face has {len(names)}; name them alike")
                found, target = _cut(where, pixels, box, [parts[name] for name in names])
                samples.append(Sample(found, target, f"{image.get('file')}#{number + 1}"))
                pictures.append(str(path))
                said.append(split)
    if not samples:
        raise DataError(f"{source}: no box has parts; this XML has boxes only")
    splits, note = in_splits(samples, pictures, said, val_fraction, seed)
    listed = ", ".join(file.name for file in files)
    notes = [
        f"Read as dlib XML ({listed}); task: keypoints, {len(names)} points a face, {len(samples):,} faces cut out."
    ]
    if without:
        notes.append(f"{without:,} boxes without parts were left out.")
    return Dataset(source, "dlib", "keypoints", tuple(names), splits, notes + ([note] if note else []))


_WORDS = (("train", "train"), ("val", "val"), ("test", "test"))


def _files(path: Path) -> list[Path]:
    """The XML files with points that a path is or holds."""
    if path.suffix.lower() == ".xml":
        found = [path] if path.is_file() else []
    else:
        try:
            with os.scandir(path) as entries:
                found = sorted(Path(entry.path) for entry in entries if entry.name.lower().endswith(".xml"))
        except OSError:
            return []
    return [file for file in found if _has_parts(file)]


def _has_parts(file: Path) -> bool:
    try:
        with open(file, "rb") as content:
            head = content.read(20_000)
    except OSError:
        return False
    return b"<dataset" in head and b"<part " in head


def _parsed(file: Path) -> Any:
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        return parse(file)
    except ParseError as error:
        raise DataError(f"{file}, line {error.position[0]}: is no XML ({error.msg}); get the file again") from None
    except DefusedXmlException:
        raise DataError(f"{file}: declares entities, which these files need not; get it from a trusted place") from None
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None


def _cut(where: str, pixels: Tensor, box: Any, parts: list[Any]) -> tuple[Tensor, Points]:
    """The face, uint8 [3, h, w], and its points in it; those outside the box's surroundings are kept, outside."""
    left, top, width, height = (_number(where, box, key) for key in ("left", "top", "width", "height"))
    if width < 1 or height < 1:
        raise DataError(f"{where}: is {width:g} x {height:g} pixels; remove the box")
    x1, y1 = max(0, int(left - AROUND * width)), max(0, int(top - AROUND * height))
    x2, y2 = int(left + (1 + AROUND) * width) + 1, int(top + (1 + AROUND) * height) + 1
    face = pixels[:, y1:y2, x1:x2]
    if not face.numel():
        raise DataError(f"{where}: lies outside the picture of {pixels.shape[2]} x {pixels.shape[1]} pixels")
    # dlib's places are of pixels' middles
    points = [(_number(where, part, "x") + 0.5 - x1, _number(where, part, "y") + 0.5 - y1, 1.0) for part in parts]
    return face.clone(), Points(torch.tensor(points))


def _number(where: str, element: Any, key: str) -> float:
    text = element.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e6:
        raise DataError(f'{where}: {key} is "{text}"; write a number of pixels')
    return value
