"""What is asked of an explanation, and what it gives: sections of a page, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from striate.errors import UsageError
from striate.files import refuse_overwrite, write_atomic
from striate.tasks.section import Section


@dataclass(frozen=True)
class Request:
    """What to explain, and how. Each method reads the fields that are its own and leaves the others alone.

    Attributes:
        sources: pictures as for `Model.predict`, or a data set as for `striate train`, by what the method needs.
        label: the class to explain, by name; None: the one that the model answers.
        layer: a module of the network by its name in the state dict (`features.3`); None: chosen by the method.
        units: channels of that layer; None: chosen by the method.
        limit: look at this many pictures of a data set at most.
        epsilon: strength of an adversary, of pixels in 0..1; None: the method's own.
        steps: of whatever repeats: PGD, integrated gradients, maximisation, the grid of a landscape; None: its own.
        other: a second model's file or folder: to compare with (landscape), to attack with (adversary).
        seed: of everything random.
        say: progress, one line each.
    """

    sources: Any = None
    label: str | None = None
    layer: str | None = None
    units: Sequence[int] | None = None
    limit: int | None = None
    epsilon: float | None = None
    steps: int | None = None
    other: str | None = None
    seed: int = 0
    say: Callable[[str], None] = field(default=lambda line: None, repr=False)

    def __post_init__(self) -> None:
        for name in ("limit", "steps"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number from 1, not {value!r}")
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            raise UsageError(f"epsilon is of pixels in 0..1, not {self.epsilon!r}")


@dataclass(frozen=True)
class Explanation:
    """One explanation, drawn and in numbers.

    Attributes:
        title: of the page.
        sections: what the page shows.
        values: numbers and tensors by name, as each method documents.
        facts: what was explained with what settings, by name.
        notes: remarks, one sentence each.
        commands: what to type to see it again.
    """

    title: str
    sections: list[Section]
    values: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def to_html(self) -> str:
        """One page that asks for nothing from anywhere."""
        from striate.report.page import page

        return page(self.title, self.facts, self.sections, [], {}, "", self.commands, self.notes, kind="explanation")

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the page.

        Raises:
            UsageError: a file stands there, or the name has another ending than .html.
        """
        path = refuse_overwrite(path, overwrite)
        if path.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{path}: an explanation is saved as .html")
        return write_atomic(path, self.to_html().encode("utf-8", "replace"))
