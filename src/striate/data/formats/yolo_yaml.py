"""YOLO's data.yaml: where the splits are, what the classes are called, how many points an object has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.data.formats.annotations import class_name, shown
from striate.data.split import SPLIT_NAMES
from striate.errors import DataError

NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels")  # a class a line, where there is no data.yaml
LARGEST_YAML = 2**20  # bytes; names of 20,000 classes are half of it
POINTS_AT_MOST = 500


@dataclass(frozen=True, slots=True)
class Config:
    """What data.yaml says.

    Attributes:
        file: the YAML.
        root: where its paths start.
        splits: split → folder or list of pictures; several are parted by a line break.
        names: class id → name, in the order of the ids; None where nothing names them.
        points: `kpt_shape`: how many points, and 2 or 3 numbers each.
    """

    file: Path
    root: Path
    splits: dict[str, str]
    names: dict[int, str] | None
    points: tuple[int, int] | None = None

    def find(self, place: str) -> Path | None:
        """A folder or file it names: from `path`, from the YAML's own folder, or as Roboflow writes it (`../train`)."""
        stripped = re.sub(r"^(\.\./)+", "", place)
        for root in (self.root, self.file.parent):
            for choice in (place, stripped):
                found = Path(os.path.normpath(root / choice)) if "\0" not in choice else None
                if found is not None and os.path.exists(found):
                    return found
        return None


def read_config(file: Path) -> Config:
    """What a data.yaml says.

    Raises:
        DataError: not YAML, or names or splits are missing or of the wrong kind.
    """
    content = _yaml(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no data.yaml; it needs train: (a folder of pictures) and names: (the classes)")
    splits: dict[str, str] = {}
    for key, value in content.items():
        split = SPLIT_NAMES.get(key.lower()) if isinstance(key, str) else None
        if split is None or value in ("", "null", "~", []):
            continue
        places = value if isinstance(value, list) else [value]
        if not all(isinstance(place, str) for place in places):
            raise DataError(f"{file}: {key} is {shown(value)}; a folder, or a list of folders, is needed")
        if split in splits:
            raise DataError(f"{file}: {key} is a second {split}; keep one of them")
        splits[split] = "\n".join(places)
    if not splits:
        raise DataError(f"{file}: no train and no val; write train: and the folder of its pictures")
    root = content.get("path") or "."
    if not isinstance(root, str):
        raise DataError(f"{file}: path is {shown(root)}; a folder is needed")
    ordered = {split: splits[split] for split in ("train", "val", "test") if split in splits}
    return Config(file, file.parent / root, ordered, _class_names(file, content), _points(file, content))


def names_beside(folders: Iterable[Path]) -> dict[int, str] | None:
    """Names from the first `classes.txt` or the like in these folders; None where there is none.

    Raises:
        DataError: it is no text, or a line of it names nothing.
    """
    for file in (folder / name for folder in folders for name in NAME_FILES):
        if not file.is_file():
            continue
        try:
            lines = file.read_text(encoding="utf-8-sig").rstrip().splitlines()
        except (OSError, UnicodeDecodeError):
            raise DataError(f"{file}: could not be read as text; write one class a line") from None
        return _checked(file, {at: class_name(line, f"{file}, line {at + 1}") for at, line in enumerate(lines)})
    return None


def _yaml(file: Path) -> Any:
    """Strings, lists and dicts only: as everything is text, `no` stays a name and no date or merge is made up."""
    import yaml

    try:
        if file.stat().st_size > LARGEST_YAML:
            raise DataError(f"{file}: has more than {LARGEST_YAML:,} bytes; a data.yaml only names folders and classes")
        return yaml.load(file.read_bytes().decode("utf-8-sig"), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except OSError as error:
        raise DataError(f"{file}: could not be read ({error.strerror}); check its permissions") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{file}{line}: is not YAML ({shown(error.problem or '')})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: is not YAML ({shown(str(error))})") from None


def _class_names(file: Path, content: dict[Any, Any]) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    if count is not None and not (isinstance(count, str) and count.isdecimal() and 1 <= len(count) <= 5 and int(count)):
        raise DataError(f"{file}: nc is {shown(count)}; the number of classes is needed")
    if names is None:
        if count is None:
            raise DataError(f"{file}: no names; write names: and the classes, by their numbers")
        return {label: str(label) for label in range(int(count))}
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise DataError(f"{file}: names is {shown(names)}; a list of classes, or `0: name` a line, is needed")
    found: dict[int, str] = {}
    for key, name in names.items():
        if not isinstance(key, str) or not key.isdecimal() or len(key) > 9:
            raise DataError(f"{file}: names has {shown(key)}: a class's number from 0 on is needed before its name")
        found[int(key)] = class_name(name, f"{file}: names, {key}")
    if count is not None and int(count) != len(found):
        raise DataError(f"{file}: nc is {count}, but there are {len(found)} names; correct one of them")
    return _checked(file, dict(sorted(found.items())))


def _checked(file: Path, names: dict[int, str]) -> dict[int, str]:
    first: dict[str, int] = {}
    for label, name in names.items():
        if first.setdefault(name, label) != label:
            raise DataError(f'{file}: classes {first[name]} and {label} are both "{name}"; give each its own name')
    if not names:
        raise DataError(f"{file}: names no class; write one a line")
    return names


def _points(file: Path, content: dict[Any, Any]) -> tuple[int, int] | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, str) and n.isdecimal() for n in shape):
        count, width = (int(n) if len(n) < 6 else 0 for n in shape)
        if 1 <= count <= POINTS_AT_MOST and width in (2, 3):
            return count, width
    raise DataError(f"{file}: kpt_shape is {shown(shape)}; [points, 2 or 3] is needed")
