"""PASCAL VOC XML: one file a picture (Everingham et al., 2010; the development kit's documentation, section 4).

`Annotations/` beside `JPEGImages/` (or `images/`), with the splits of `ImageSets/Main/`; or XML files beside their
pictures, in one folder or in `train/`, `val/` and `test/`. VOC counts pixels from 1 and a box holds its last pixel: its
outer edges are xmin - 1 and xmax, so it is xmax - xmin + 1 wide. A box that begins and ends at one and the same pixel
is a slip of the mouse and is left out as one without extent. `difficult` makes an object DIFFICULT. The classes are
sorted by name, unless a `labelmap.txt` (as CVAT writes it) gives their order.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from striate.data.formats.annotations import LARGEST, Annotations, Picture, class_name, shown, to_dataset
from striate.data.sample import Dataset
from striate.data.split import SPLIT_NAMES
from striate.data.targets import CROWD, DIFFICULT, PLAIN
from striate.errors import DataError
from striate.images import PICTURE_SUFFIXES

SETS = Path("ImageSets") / "Main"
LABELS = "labelmap.txt"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_PICTURES = ("JPEGImages", "images", "Images", ".")


def recognises(source: str) -> bool:
    root = Path(source)
    return root.is_dir() and (_home(root) is not None or bool(_beside(root)))


def read(source: str, val_fraction: float, seed: int, download: bool) -> Dataset:
    """Annotations in no split, and pictures in no annotation, are left out and counted.

    Raises:
        DataError: names the first file that is not VOC's, and the object in it.
    """
    root = Path(source)
    left_out: Counter[str] = Counter()
    home = _home(root)
    listed = _of_sets(home, left_out) if home is not None else _of_folders(_beside(root), left_out)
    pictures: list[Picture] = []
    owners: list[int] = []
    names: list[str] = []
    boxes: list[list[float]] = []
    kinds: list[int] = []
    for split, file, folder, known in listed:
        element = parse(file)
        said = os.path.basename(element.findtext("filename", "").strip().replace("\\", "/"))
        picture = folder / (known or said or f"{file.stem}.jpg")
        for name, box, kind in _objects(file, element):
            owners.append(len(pictures))
            names.append(name)
            boxes.append(box)
            kinds.append(kind)
        pictures.append(Picture(str(picture), os.path.relpath(picture, root), split, _size(element)))
    classes = _labelmap((home or root) / LABELS, set(names)) or sorted(set(names))
    if not classes:
        raise DataError(f"{source}: no object in any of its {len(pictures):,} annotations")
    number = {name: index for index, name in enumerate(classes)}
    told = f"PASCAL VOC ({len(pictures):,} XML files)"
    found = Annotations(pictures, owners, boxes, [number[name] for name in names], kinds, left_out=left_out)
    return to_dataset(source, "voc", told, classes, found, val_fraction, seed)


def parse(file: Path) -> Element:
    """The root of one annotation.

    Raises:
        DataError: not XML, not an annotation, or with entities, which are never expanded.
    """
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    except DefusedXmlException as error:
        raise DataError(
            f"{file}: {type(error).__name__}: entities and foreign references are refused; remove them"
        ) from None
    except ParseError as error:
        line, column = error.position
        raise DataError(f"{file}, line {line}, column {column}: is not XML ({str(error).split(':')[0]})") from None
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that nobody knows
        raise DataError(f"{file}: is not XML ({shown(str(error))})") from None
    if root.tag != "annotation":
        raise DataError(f"{file}: its root is <{shown(root.tag)}>; VOC's is <annotation>")
    return root


def _objects(file: Path, root: Element) -> Iterator[tuple[str, list[float], int]]:
    """Name, box (outer edges, from 0) and kind of each object."""
    for index, element in enumerate(root.findall("object"), start=1):
        where = f"{file}, object {index}"
        name = class_name(element.findtext("name"), f"{where}: name")
        box = element.find("bndbox")
        if box is None:
            raise DataError(f'{where} ("{name}"): has no <bndbox>; write one, or remove the object')
        x1, y1, x2, y2 = (_number(where, side, box.findtext(side)) for side in _SIDES)
        kind = DIFFICULT if _flag(element, "difficult") else PLAIN
        if _flag(element, "crowd"):
            kind = CROWD
        clicked = x1 == x2 and y1 == y2
        yield name, [x1 - (not clicked), y1 - (not clicked), x2, y2], kind


def _number(where: str, side: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: <{side}> is {shown(text)}; a finite number is needed")
    return value


def _flag(element: Element, tag: str) -> bool:
    return element.findtext(tag, "").strip().lower() in ("1", "true")


def _size(root: Element) -> tuple[int, int] | None:
    try:
        height, width = (float(root.findtext(f"size/{side}", "")) for side in ("height", "width"))
    except ValueError:
        return None
    return (int(height), int(width)) if 1 <= height < LARGEST and 1 <= width < LARGEST else None


def _home(root: Path) -> Path | None:
    """The folder that holds `Annotations/` with XML in it: this one, or the only folder in it."""
    if _annotations(root) is not None:
        return root
    folders = [root / name for name in _names(root) if not name.startswith(".") and (root / name).is_dir()]
    return folders[0] if len(folders) == 1 and _annotations(folders[0]) is not None else None


def _annotations(root: Path) -> Path | None:
    for name in ("Annotations", "annotations", "Annotations/xmls", "annotations/xmls"):
        if _has_voc(root / name):
            return root / name
    return None


def _has_voc(folder: Path) -> bool:
    """True where the first XML in a folder is an annotation."""
    first = next((name for name in _names(folder) if name.lower().endswith(".xml")), None)
    try:
        if first is None or not (folder / first).is_file():
            return False
        with open(folder / first, "rb") as opened:
            head = opened.read(4096).replace(b"\0", b"")  # UTF-16 reads the same
    except OSError:
        return False
    return b"<annotation" in head or folder.name in ("Annotations", "xmls")


def _beside(root: Path) -> dict[str, Path]:
    """Split → folder with XML beside pictures."""
    found = {SPLIT_NAMES[name.lower()]: root / name for name in _names(root) if name.lower() in SPLIT_NAMES}
    found = {split: found[split] for split in ("train", "val", "test") if split in found and _has_voc(found[split])}
    return found or ({"train": root} if _has_voc(root) else {})


def _of_sets(home: Path, left_out: Counter[str]) -> Iterator[tuple[str, Path, Path, str | None]]:
    """Split, XML, folder of pictures and the one there of that name, by the lists in ImageSets/Main."""
    folder = _annotations(home)
    assert folder is not None
    folders = [home / name for name in _PICTURES]
    place = max(folders, key=lambda choice: choice != home and choice.is_dir())
    stems = _stems(place)
    files = {os.path.splitext(name)[0]: folder / name for name in _names(folder) if name.lower().endswith(".xml")}
    sets = _sets(home / SETS)
    if not sets:
        sets = {"train": list(files)}
        left_out["Pictures without an XML file, left out"] += len(set(stems) - set(files))
    used: set[str] = set()
    for split, identities in sets.items():
        twice = next((name for name, often in Counter(identities).items() if often > 1), None)
        if twice is not None:
            raise DataError(f"{home / SETS}: the list of {split} names {shown(twice)} twice; keep one of them")
        left_out["Pictures in more than one list of ImageSets/Main"] += len(used & set(identities))
        used |= set(identities)
        for identity in identities:
            if identity in files:
                yield split, files[identity], place, stems.get(identity)
            else:
                left_out["Listed pictures without an XML file, left out"] += 1
    left_out["XML files that no list in ImageSets/Main names, left out"] += len(set(files) - set(used))


def _of_folders(folders: dict[str, Path], left_out: Counter[str]) -> Iterator[tuple[str, Path, Path, str | None]]:
    for split, folder in folders.items():
        stems = _stems(folder)
        files = [name for name in _names(folder) if name.lower().endswith(".xml")]
        left_out["Pictures without an XML file, left out"] += len(set(stems) - {os.path.splitext(n)[0] for n in files})
        for name in files:
            stem = os.path.splitext(name)[0]
            yield split, folder / name, folder, stems.get(stem)


def _stems(folder: Path) -> dict[str, str]:
    """Stem → file name of each picture in a folder."""
    parts = [(os.path.splitext(name), name) for name in _names(folder)]
    return {stem: name for (stem, suffix), name in parts if suffix.lower() in PICTURE_SUFFIXES}


def _sets(folder: Path) -> dict[str, list[str]]:
    """Split → the pictures' identities; trainval only where there is no train."""
    files = {name.lower(): folder / name for name in _names(folder)}
    chosen = {split: files[f"{name}.txt"] for name, split in SPLIT_NAMES.items() if f"{name}.txt" in files}
    if "train" not in chosen and "trainval.txt" in files:
        chosen = {"train": files["trainval.txt"]} | {split: file for split, file in chosen.items() if split == "test"}
    found = {}
    for split in ("train", "val", "test"):
        if split not in chosen:
            continue
        file = chosen[split]
        try:
            lines = file.read_bytes().decode("utf-8-sig").splitlines()
        except OSError as error:
            raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
        except UnicodeDecodeError:
            raise DataError(f"{file}: is not UTF-8; save the file as UTF-8") from None
        names = [line.strip() for line in lines if line.strip()]
        if names:
            found[split] = names
    return found


def _labelmap(file: Path, seen: set[str]) -> list[str]:
    """Class names of CVAT's list, `name:r,g,b:parts:actions` a line, with those added that only objects have."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = [line for line in lines if line.count(":") >= 3 and not line.startswith("# label:")]
    names = [" ".join(line.rsplit(":", 3)[0].split()) for line in rows]
    if "background" not in seen:
        names = [name for name in names if name != "background"]  # CVAT always lists it
    return [*dict.fromkeys(name for name in names if name), *sorted(seen - set(names))]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
