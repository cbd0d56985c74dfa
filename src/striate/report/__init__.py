"""The report of a run: one offline page for people, one JSON file for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from striate.files import write_atomic
from striate.tasks.section import Section


def write_report(
    folder: Path,
    *,
    title: str,
    facts: dict[str, str],
    sections: Sequence[Section],
    history: Sequence[dict[str, Any]],
    full: dict[str, Any],
    recipe_yaml: str,
    commands: Sequence[str],
    notes: Sequence[str],
) -> tuple[Path, Path]:
    """Write report.html and report.json into a folder, over those of an earlier report.

    The page asks for nothing from anywhere: pictures, drawings, style and script are inside it, and its content
    security policy forbids the rest. All text is escaped.

    Args:
        folder: made if it is missing.
        title: the page's head.
        facts: what was trained on what, by name; shown as a list.
        sections: what the task shows, in this order.
        history: one row an epoch: `epoch`, `train_loss`, `val_loss`, `lr`, `seconds`, `images_per_second`, and any
            `val_*` (and `train_*`) measure; those that are numbers are drawn.
        full: the metrics' account. Of it the page reads `scalars` (name → value, low, high; with
            `share` False it is no percentage), `best` (which of them decides),
            `mode` (`min` where less is better) and `sentence`, where present.
        recipe_yaml: the settings of the run.
        commands: what to type to do it again, one a line.
        notes: remarks on data and training, one sentence each.

    Returns:
        The paths of report.html and report.json.

    Raises:
        StriateError: the folder cannot be written.
    """
    from striate.report.page import page

    html = page(title, facts, sections, history, full, recipe_yaml, commands, notes)
    account = {
        "title": title,
        "facts": facts,
        "metrics": full,
        "history": history,
        "recipe": recipe_yaml,
        "commands": commands,
        "notes": notes,
    }
    text = json.dumps(without_nan(account), indent=1, allow_nan=False)  # ASCII: odd file names survive as escapes
    return (
        write_atomic(Path(folder) / "report.html", html.encode("utf-8", "replace")),
        write_atomic(Path(folder) / "report.json", text + "\n"),
    )


def without_nan(value: Any) -> Any:
    """The same with None for NaN and infinities, and plain lists and numbers, as JSON wants it."""
    if isinstance(value, dict):
        return {str(key): without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "tolist"):  # a tensor or a NumPy number
        return without_nan(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
