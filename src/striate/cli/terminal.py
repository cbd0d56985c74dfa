"""What commands print: results on stdout, progress and remarks on stderr; NO_COLOR and pipes honoured (rich does)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# into a pipe or a file, tables are as wide as they need to be
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A remark for the person watching, on stderr."""
    err.print(text, markup=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout, NaN as null so that every reader takes it."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table on stdout; columns whose every cell is a number are set flush right."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) for row in rows) and rows
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    out.print(table, markup=False)


def wrote(paths: Sequence[str | Path], next_command: str | None = None) -> None:
    """The last lines of every command: what it wrote, and what to type next."""
    for path in paths:
        say(f"wrote {path}")
    if next_command:
        say(f"next: {next_command}")
