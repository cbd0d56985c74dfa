"""`striate train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from striate.config import Recipe
from striate.errors import UsageError


def options_of(recipe: Recipe | None, config: Path | None, overrides: tuple[str, ...]) -> dict[str, Any]:
    """One dict of settings. Precedence: flags, `key=value`, the config file, STRIATE_* variables."""
    from striate.train.recipe_files import make_recipe, read_recipe

    settings: dict[str, Any] = {}
    for key in Recipe.model_fields:
        if (value := os.environ.get(f"STRIATE_{key.upper()}")) is not None and key != "data":
            settings[key] = value
    if config is not None:
        settings |= read_recipe(config)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UsageError(f'"{override}" is neither an option nor key=value')
        put(settings, key, value)
    if recipe is not None:
        for key in recipe.model_fields_set:
            settings[key] = getattr(recipe, key)
    make_recipe(settings)  # refuses what cannot be
    return settings


def put(settings: dict[str, Any], key: str, value: str) -> None:
    """`augment.hflip=0.5` goes one level down."""
    first, dot, rest = key.partition(".")
    if not dot:
        settings[key] = value
        return
    inner = settings.get(first)
    if not isinstance(inner, dict):
        inner = settings[first] = {}
    inner[rest] = value


def train(
    data: str | None = None,
    /,
    *overrides: str,
    config: Path | None = None,
    resume: Path | None = None,
    json: bool = False,
    quiet: bool = False,
    recipe: Annotated[Recipe | None, Parameter(name="*")] = None,
) -> int:
    """Train a network on DATA: a folder of class folders, a CSV file, an IDX folder, or a set such as digits.

    Every option has a default that suits the data and this machine. `key=value` works as well as `--key value`.

    Args:
        data: what to train on.
        overrides: key=value settings.
        config: a YAML file of settings, such as a run's recipe.yaml.
        resume: go on with this run, exactly; all other settings are the run's own.
        json: print the metrics as JSON on stdout.
        quiet: no progress.
    """
    from striate.cli.terminal import print_json, print_table, wrote
    from striate.train import start
    from striate.train.recipe_files import make_recipe

    if data is not None and "=" in data and not Path(data).exists():  # `striate train --resume RUN key=value`
        overrides, data = (data, *overrides), None
    settings = options_of(recipe, config, overrides)
    if resume is not None and (data or settings.keys() - {"devices"}):
        raise UsageError("--resume takes every setting from the run; leave the others out, or train anew")
    if data is not None:
        settings["data"] = data
    run = start(make_recipe(settings), resume, quiet or json)

    if os.environ.get("RANK", "0") != "0":  # one of several processes: the first speaks
        return 0
    from striate.model_file import read_card

    card = read_card(run / "model.safetensors")
    if json:
        print_json({"run": str(run), "model": str(run / "model.safetensors"), "metrics": card.metrics})
    else:
        rows = [(name, f"{value:.4f}") for name, value in card.metrics.items()]
        print_table(("metric", "value"), rows)
    wrote([run / "model.safetensors", run / "report.html"], f"striate predict {run / 'model.safetensors'} PICTURES")
    return 0
