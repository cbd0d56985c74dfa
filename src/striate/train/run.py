"""The run folder: `runs/<task>/<name>/` with model.safetensors, last/, recipe.yaml, metrics.jsonl and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from striate.config import Recipe, explain
from striate.errors import DataError, UsageError, did_you_mean
from striate.files import refuse_overwrite, write_atomic


def make_recipe(options: dict[str, Any], what: str = "option") -> Recipe:
    """A Recipe from flags, a config file or keyword arguments.

    Raises:
        UsageError: an unknown key (with the nearest known one) or a value that cannot be.
    """
    unknown = [key for key in options if key not in Recipe.model_fields]
    if unknown:
        raise UsageError(f'{what} "{unknown[0]}" is not known.{did_you_mean(unknown[0], Recipe.model_fields)}')
    try:
        return Recipe.model_validate(options)
    except ValidationError as error:
        raise UsageError(f"{what} {explain(error)}") from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys of a recipe file.

    Raises:
        DataError: missing or not YAML.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a YAML recipe ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a recipe is a YAML mapping such as `epochs: 10`")
    return content


def recipe_yaml(recipe: Recipe) -> str:
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def run_folder(recipe: Recipe, task: str) -> Path:
    """A free folder for a run. Without a name, the data's name and, where that is taken, a number behind it.

    Raises:
        UsageError: the name was given and is taken, and `overwrite` was not.
    """
    parent = Path(recipe.out) / task
    if recipe.name:
        folder = parent / recipe.name
        if any(folder.glob("*")):
            refuse_overwrite(folder, recipe.overwrite)
        return folder
    stem = Path(recipe.data.rstrip("/")).stem or "run"
    folder, number = parent / stem, 2
    while folder.exists() and not recipe.overwrite:
        folder, number = parent / f"{stem}-{number}", number + 1
    return folder


def write_history(run: Path, history: list[dict[str, float]]) -> None:
    """metrics.jsonl: one row an epoch."""
    write_atomic(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
