"""A lecture's setting in which the data and the results of long runs are the test's own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.lectures.page import Setting


@dataclass(frozen=True)
class Known(Setting):
    """What was found, by name, and what every long run gave; None: run."""

    places: Any = None
    known: Any = None

    def found(self, name: str) -> Path | None:
        return (self.places or {}).get(name)

    def remembered(self, name: str, inputs: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return compute() if self.known is None else self.known


def agreeing(shown: Any) -> list[bool]:
    return [check.agrees for check in shown.checks]


def said(python: str) -> str:
    """What the ten lines of a page print, run as they stand."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(python, "PYTHON", "exec"), {"__name__": "__main__"})
    return out.getvalue()
