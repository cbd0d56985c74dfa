"""docs/walk.md names files and functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`([\w/]+\.py)`: `(\w+)`", (ROOT / "docs" / "walk.md").read_text())


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: str(value))
def test_what_the_walk_names_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / "src" / "striate" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_no_way_is_longer_than_eight_files() -> None:
    text = (ROOT / "docs" / "walk.md").read_text()
    ways = text.split("\n## ")[1:]
    assert len(ways) == 2
    for way in ways:
        assert 1 <= len(re.findall(r"(?m)^\| \d+ \|", way)) <= 8
