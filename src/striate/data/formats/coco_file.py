"""One COCO JSON file, checked: its categories, pictures and annotations (Lin et al., 2014; cocodataset.org).

`bbox` is x, y, width, height with 0 at the left and upper edge, so the outer edges are x and x + width. `iscrowd` makes
an object CROWD; `ignore` or `difficult`, which converters from VOC write, makes it DIFFICULT.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from striate.data.formats.annotations import LARGEST, all_numbers, class_name, is_number, numbers, shown
from striate.data.targets import CROWD, DIFFICULT
from striate.errors import DataError
from striate.images import MAX_PIXELS

POINTS_AT_MOST = 500  # keypoints of one object; a mesh of a face has 478
_RLE = re.compile(r"[0-o]*")  # the 64 characters of a compressed run length


@dataclass(slots=True)
class CocoFile:
    """What one file holds; rows are annotations of pictures that it lists.

    Attributes:
        categories: id → name, in the order of the ids.
        idle: ids of categories that only group others (Roboflow writes such a one) and that no annotation has.
        images: `file_name` and (height, width) where it is said.
        owners: index into images, a row; `labels` are category ids.
    """

    file: Path
    categories: dict[Any, str]
    idle: set[Any]
    images: list[tuple[str, tuple[int, int] | None]]
    owners: np.ndarray
    labels: list[Any]
    boxes: np.ndarray
    kinds: np.ndarray
    areas: np.ndarray
    masks: list[Any]
    keypoints: list[np.ndarray | None]


def read_coco_file(file: Path, left_out: Counter[str]) -> CocoFile:
    """What one file holds.

    Raises:
        DataError: it is not JSON, or not COCO's; the message names the first wrong entry by its index.
    """
    content = _json(file)
    if not isinstance(content, dict):
        what = "a list, as of detections" if isinstance(content, list) else shown(content)
        raise DataError(f"{file}: holds {what}; COCO's annotations are an object with images, annotations, categories")
    images = _entries(file, content, "images")
    categories = _categories(file, content)
    if not images:
        raise DataError(f"{file}: lists no images; COCO's annotations name each picture under images")
    place = _places(file, images)
    listed = _entries(file, content, "annotations") if "annotations" in content else []
    rows, owners = _rows(file, listed, place, left_out)
    labels = _labels(file, listed, rows, categories)
    segmentations = [listed[row].get("segmentation") for row in rows]
    _check_polygons(file, rows, segmentations)
    sizes = [_size(image) for image in images]
    masks = [_mask(value, sizes[owner]) for value, owner in zip(segmentations, owners, strict=True)]
    said = sum(bool(value) for value in segmentations)
    left_out["Masks that are no outline or do not fit their picture, left out"] += said - sum(
        mask is not None for mask in masks
    )
    names = [_file_name(file, index, image) for index, image in enumerate(images)]
    _check_once(file, "images", "file_name", names)
    supers = {entry["supercategory"] for entry in content["categories"] if isinstance(entry.get("supercategory"), str)}
    grouping = {entry["id"] for entry in content["categories"] if entry.get("supercategory") == "none"}
    idle = {key for key in grouping - set(labels) if categories[key] in supers}
    return CocoFile(
        file,
        categories,
        idle,
        list(zip(names, sizes, strict=True)),
        np.array(owners, dtype=np.int64),
        labels,
        _boxes(file, listed, rows, masks),
        _kinds(file, listed, rows),
        _areas(file, listed, rows),
        masks,
        _keypoints(file, listed, rows),
    )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, byte {error.start:,}: is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno}, column {error.colno}: is not JSON ({error.msg}); is it complete?"
        ) from None
    except RecursionError:
        raise DataError(f"{file}: is nested too deeply for COCO's annotations") from None
    except ValueError:  # a whole number of more than 4,300 digits
        raise DataError(f"{file}: holds a number with thousands of digits; correct it") from None


def _entries(file: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        said = f"is {shown(entries)}" if key in content else "is missing"
        raise DataError(f'{file}: "{key}" {said}; COCO\'s annotations have a list there')
    for index, entry in enumerate(entries):
        if type(entry) is not dict:
            raise DataError(f"{file}, {key}[{index}] is {shown(entry)}; an object is needed")
    return entries


def _identities(file: Path, key: str, entries: list[dict[str, Any]], field: str = "id") -> list[Any]:
    values = [entry.get(field) for entry in entries]
    if not set(map(type, values)) <= {int, str}:
        index = next(index for index, value in enumerate(values) if type(value) not in (int, str))
        said = f"is {shown(values[index])}" if field in entries[index] else "is missing"
        raise DataError(f"{file}, {key}[{index}]: {field} {said}; a whole number is needed")
    return values


def _check_once(file: Path, key: str, what: str, values: list[Any]) -> None:
    if len(set(values)) == len(values):
        return
    first: dict[Any, int] = {}
    for index, value in enumerate(values):
        if value in first:
            raise DataError(f"{file}, {key}[{index}]: {what} {shown(value)} is that of {key}[{first[value]}] already")
        first[value] = index


def _categories(file: Path, content: dict[str, Any]) -> dict[Any, str]:
    entries = _entries(file, content, "categories")
    ids = _identities(file, "categories", entries)
    names = [class_name(entry.get("name"), f"{file}, categories[{at}]: name") for at, entry in enumerate(entries)]
    _check_once(file, "categories", "id", ids)
    _check_once(file, "categories", "name", names)
    if not ids:
        raise DataError(f"{file}: lists no categories; name the classes there")
    return dict(sorted(zip(ids, names, strict=True), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _places(file: Path, images: list[dict[str, Any]]) -> dict[Any, int]:
    ids = _identities(file, "images", images)
    _check_once(file, "images", "id", ids)
    return {identity: index for index, identity in enumerate(ids)}


def _file_name(file: Path, index: int, image: dict[str, Any]) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{file}, images[{index}]: file_name is {shown(name)}; the name of a picture is needed")
    return name if os.sep == "\\" else name.replace("\\", "/")


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if is_number(height) and is_number(width) and 1 <= min(height, width) <= max(height, width) < LARGEST:  # type: ignore[type-var]
        return int(height), int(width)  # type: ignore[arg-type]
    return None


def _rows(
    file: Path, listed: list[dict[str, Any]], place: dict[Any, int], left_out: Counter[str]
) -> tuple[list[int], list[int]]:
    """Indices of the annotations whose picture is listed, and the indices of those pictures."""
    pictures = _identities(file, "annotations", listed, "image_id")
    ids = [entry.get("id") for entry in listed]
    if not set(map(type, ids)) <= {int, str, type(None)}:
        wrong = next(index for index, value in enumerate(ids) if type(value) not in (int, str, type(None)))
        raise DataError(f"{file}, annotations[{wrong}]: id is {shown(ids[wrong])}; a whole number is needed")
    said = [value for value in ids if value is not None]
    if len(set(said)) < len(said):
        often, count = Counter(said).most_common(1)[0]
        left_out[f"Annotations of {file.name} whose id others have, kept (id {shown(often)} {count:,} times)"] += len(
            said
        ) - len(set(said))
    rows = [index for index, picture in enumerate(pictures) if picture in place]
    left_out["Annotations of pictures that are not listed, left out"] += len(listed) - len(rows)
    return rows, [place[pictures[row]] for row in rows]


def _labels(file: Path, listed: list[dict[str, Any]], rows: list[int], categories: dict[Any, str]) -> list[Any]:
    everything = _identities(file, "annotations", listed, "category_id")
    labels = [everything[row] for row in rows]
    if not set(labels) <= set(categories):
        at = next(index for index, label in enumerate(labels) if label not in categories)
        said = f"{file}, annotations[{rows[at]}]: category_id {shown(labels[at])}"
        raise DataError(f"{said} is none of the {len(categories)} categories")
    return labels


def _boxes(file: Path, listed: list[dict[str, Any]], rows: list[int], masks: list[Any]) -> np.ndarray:
    """Outer edges; where an annotation has outlines and no box, the outlines' own."""
    sides: list[Any] = []
    for row, mask in zip(rows, masks, strict=True):
        box = listed[row].get("bbox")
        if not box and isinstance(mask, list):
            values = np.array(list(chain.from_iterable(mask)), dtype=np.float64).reshape(-1, 2)
            box = [*values.min(0).tolist(), *(values.max(0) - values.min(0)).tolist()]
        sides.append(box)
    found = numbers(sides, 4, lambda at: f"{file}, annotations[{rows[at]}]: bbox")
    with np.errstate(over="ignore"):
        found[:, 2:] += found[:, :2]
    return found


def _kinds(file: Path, listed: list[dict[str, Any]], rows: list[int]) -> np.ndarray:
    def flags(key: str) -> np.ndarray:
        values = [listed[row].get(key) or 0 for row in rows]
        if not any(values):
            return np.zeros(len(values), dtype=bool)
        if not set(map(type, values)) <= {int, bool} or not set(values) <= {0, 1}:
            at = next(
                index for index, value in enumerate(values) if type(value) not in (int, bool) or value not in (0, 1)
            )
            raise DataError(f"{file}, annotations[{rows[at]}]: {key} is {shown(values[at])}; 0 or 1 is needed")
        return np.array(values, dtype=bool)

    return np.where(flags("iscrowd"), CROWD, np.where(flags("ignore") | flags("difficult"), DIFFICULT, 0))


def _areas(file: Path, listed: list[dict[str, Any]], rows: list[int]) -> np.ndarray:
    values = [listed[row].get("area") for row in rows]
    return numbers([[-1 if v is None else v] for v in values], 1, lambda at: f"{file}, annotations[{rows[at]}]: area")[
        :, 0
    ]


def _keypoints(file: Path, listed: list[dict[str, Any]], rows: list[int]) -> list[np.ndarray | None]:
    """Of each row float64 [K, 3], None where it has none."""
    found: list[np.ndarray | None] = []
    for row in rows:
        values = listed[row].get("keypoints")
        if not values:
            found.append(None)
            continue
        where = f"{file}, annotations[{row}]: keypoints"
        if not isinstance(values, list) or len(values) % 3 or len(values) > 3 * POINTS_AT_MOST:
            raise DataError(f"{where} are {shown(values)}; a list x, y, v, x, y, v … is needed")
        points = numbers([values], len(values), lambda _, where=where: where).reshape(-1, 3)
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            odd = points[~np.isin(points[:, 2], (0, 1, 2)), 2][0]
            raise DataError(f"{where} hold a visibility of {odd:g}; 0 (not there), 1 (hidden) or 2 (seen) is needed")
        found.append(points)
    return found


def _check_polygons(file: Path, rows: list[int], segmentations: list[Any]) -> None:
    """Every segmentation is a list of lists of finite numbers, x and y in turn, or an RLE object, or nothing."""
    listed = [value for value in segmentations if type(value) is list]
    flat = list(chain.from_iterable(listed))
    if (
        set(map(type, segmentations)) <= {list, dict, type(None)}
        and all_numbers(flat)
        and not any(len(polygon) % 2 for polygon in flat)
    ):
        return
    for row, value in zip(rows, segmentations, strict=True):
        where = f"{file}, annotations[{row}]: segmentation"
        if type(value) not in (list, dict, type(None)):
            raise DataError(f"{where} is {shown(value)}; a list of polygons or an RLE object is needed")
        for polygon in value if type(value) is list else ():
            if not isinstance(polygon, list) or len(polygon) % 2:
                raise DataError(f"{where} holds {shown(polygon)}; each polygon is a list x, y, x, y …")
            odd = next((number for number in polygon if not is_number(number)), None)
            if odd is not None or None in polygon:
                raise DataError(f"{where} holds {shown(odd)}; finite numbers are needed")


def _mask(value: Any, size: tuple[int, int] | None) -> Any:
    """The polygons with extent, or an RLE that fits its picture; None where neither."""
    if not value:
        return None
    if isinstance(value, list):
        kept = [polygon for polygon in value if len(polygon) >= 6 and -LARGEST < min(polygon) <= max(polygon) < LARGEST]
        return kept or None
    sides, counts = value.get("size"), value.get("counts")
    if not isinstance(sides, list) or len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        return None
    if sides[0] * sides[1] > MAX_PIXELS or (size is not None and tuple(sides) != size):
        return None
    if isinstance(counts, str):
        runs = run_lengths(counts)
    elif isinstance(counts, list) and set(map(type, counts)) <= {int}:
        runs = counts
    else:
        return None
    if runs is None or any(run < 0 for run in runs) or sum(runs) != sides[0] * sides[1]:
        return None
    return {"size": sides, "counts": counts}


def run_lengths(text: str) -> list[int] | None:
    """The runs of COCO's compressed string, None where it is none.

    Five bits a character from "0" on, the least first, the sixth says that more follow; from the fourth run on, the
    difference to the run two before is stored (`rleFrString` of the COCO API).
    """
    if not _RLE.fullmatch(text):
        return None
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)
    if not len(codes) or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return None  # more than 32 bits
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()
