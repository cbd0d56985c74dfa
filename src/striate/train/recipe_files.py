"""Recipes as people give them: options by name, YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from striate.config import Recipe, explain
from striate.errors import DataError, UsageError, did_you_mean


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
