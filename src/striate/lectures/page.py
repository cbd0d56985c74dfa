"""What one idea of the lectures shows: numbers beside the printed ones, tables, pictures, the lines that do it."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import DataError
from striate.files import write_atomic

if TYPE_CHECKING:
    from striate.tasks.section import Section


@dataclass(frozen=True)
class Check:
    """A number (or matrix, or claim) of the lecture beside ours.

    Attributes:
        what: what is compared, in words.
        printed: as the lecture prints it.
        ours: as we computed it.
        agrees: whether they are the same, to the digits printed.
        why: where they differ, why; else what should be noted.
    """

    what: str
    printed: str
    ours: str
    agrees: bool
    why: str = ""


@dataclass(frozen=True)
class Shown:
    """What running a lecture gave: checks, and what to see (drawings, tables, pictures; animations are GIF bytes).
    `missing` says which data were not there, and what to do to see more."""

    checks: tuple[Check, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Where a lecture finds real data and keeps what took long.

    Attributes:
        data: folder with real data sets, unpacked or as zips (names as in docs/lectures.md), or None.
        cache: where results of long runs are kept, by what went into them.
        fresh: compute them again.
        say: progress, one line each.
    """

    cache: Path
    data: Path | None = None
    fresh: bool = False
    say: Callable[[str], None] = field(default=lambda line: None)

    def found(self, name: str) -> Path | None:
        """The folder of a data set, unpacked from its zip into the cache if need be, or a file; None if not there.

        Folders that hold nothing but one folder (notes, `_…`, aside), or one of their own name, are stepped into.

        Raises:
            DataError: the zip is damaged, or the cache cannot be written.
        """
        if self.data is None:
            return None
        there = self.data / name
        if there.is_file():
            return there
        if not there.is_dir():
            archive = self.data / f"{name}.zip"
            if not archive.is_file():
                return None
            there = unpacked(archive, self.cache / "data")
        return innermost(there, name)

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` gave (JSON) for these inputs: read from the cache, unless `fresh` or never run.

        The key is what went in: the inputs, the version, and the source of the module that `compute` is written in.
        """
        from striate import __version__

        given = json.dumps([name, inputs, __version__, source_of(compute)], sort_keys=True, default=str)
        path = self.cache / "results" / f"{name}-{hashlib.sha256(given.encode()).hexdigest()[:16]}.json"
        if not self.fresh:
            try:
                kept = json.loads(path.read_text())
            except (OSError, ValueError):  # never run, or a damaged file: run
                pass
            else:
                self.say(f"{name}: kept from an earlier run; --fresh computes it again")
                return kept
        text = json.dumps(compute())
        write_atomic(path, text)
        return json.loads(text)  # as the next reader will see it


def unpacked(archive: Path, cache: Path) -> Path:
    """The folder in the cache with what is in a zip; named with its size, so that another zip is another folder.

    Raises:
        DataError: the zip is damaged, or the cache cannot be written.
    """
    folder = cache / f"{archive.stem}-{archive.stat().st_size}"
    if folder.is_dir():
        return folder
    beside = cache / f"{archive.stem}.{os.getpid()}.part"
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(beside)
        beside.rename(folder)
    except (OSError, zipfile.BadZipFile) as error:
        if not folder.is_dir():  # else another process was first
            raise DataError(f"{archive}: could not be unpacked into {cache} ({error}). Fetch it again?") from None
    return folder


def innermost(folder: Path, name: str) -> Path:
    """Down through folders that hold only one folder, or one called `name`."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith(("_", "."))]
        folders = [path for path in inside if path.is_dir()]
        same = [path for path in folders if path.name == name]
        if not same and not len(folders) == len(inside) == 1:
            return folder
        folder = same[0] if same else folders[0]


def source_of(function: Callable[..., Any]) -> str:
    """The text of the module in which a function, or what a partial calls, is written."""
    function = getattr(function, "func", function)
    module = inspect.getmodule(function)
    return inspect.getsource(module if module is not None else function)


@dataclass(frozen=True)
class Lecture:
    """One id. Its module's docstring is the idea in about three sentences, `PYTHON` in it the lines that do it.

    Attributes:
        title: the idea's name.
        sources: the lectures that teach it: "S0 S1".
        module: under striate.lectures; has `PYTHON: str`, run by the tests as it stands, and `show(setting) -> Shown`.
        command: what to type to see the same with one's own pictures, or None.
    """

    title: str
    sources: str
    module: str
    command: str | None = None
