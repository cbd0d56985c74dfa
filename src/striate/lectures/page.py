"""What one idea of the lectures shows: numbers beside the printed ones, tables, pictures, the lines that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        """The folder of a data set, unpacked from its zip into the cache if need be, or a file; None if not there."""
        raise NotImplementedError

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` gave (JSON) for these inputs: read from the cache, unless `fresh` or never run."""
        raise NotImplementedError


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
