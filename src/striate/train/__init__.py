"""Training: `striate.train(...)` on top, the loop in loop.py, a whole run in fit.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from striate.config import Recipe
from striate.errors import StriateError, UsageError

if TYPE_CHECKING:
    from striate.model import Model


def train(
    data: str | Path | None = None, *, resume: str | Path | None = None, quiet: bool = False, **options: Any
) -> Model:
    """Train a network on pictures and return it, its best weights loaded.

    The task and the format are read off the data's layout; every option is a field of `Recipe` and has a default that
    suits the data and the machine.

    Args:
        data: folder, CSV file, IDX folder, or the name of a set (`digits`, `mnist`, `cifar10`, …).
        resume: instead of data, the folder of a run to go on with, exactly.
        quiet: print nothing.

    Raises:
        DataError: the data cannot be used. UsageError: an option cannot. StriateError: the run failed.

    Example:
        >>> model = striate.train("photos/", model="resnet18", epochs=10)  # doctest: +SKIP
    """
    from striate.model import Model
    from striate.train.recipe_files import make_recipe

    recipe = make_recipe({"data": str(data) if data is not None else "", **options})
    return Model.load(start(recipe, Path(resume) if resume is not None else None, quiet) / "model.safetensors")


def start(recipe: Recipe, resume: Path | None = None, quiet: bool = False) -> Path:
    """Run a recipe, in several processes if it says so; returns the run's folder."""
    from striate.train.fit import fit
    from striate.train.recipe_files import read_recipe

    if resume is not None:
        if not resume.is_dir():
            raise UsageError(f"{resume}: no such run. A run is a folder such as runs/classify/NAME")
        recipe = recipe.model_copy(update={"devices": read_recipe(resume / "recipe.yaml").get("devices", 1)})
    elif not recipe.data:
        raise UsageError("name the data to train on: a folder, a CSV file, or a set such as digits")
    if recipe.devices > 1 and "WORLD_SIZE" not in os.environ:
        return in_processes(recipe, resume, quiet)
    return fit(recipe, resume=resume, quiet=quiet)


def in_processes(recipe: Recipe, resume: Path | None, quiet: bool) -> Path:
    """Start `torchrun` on this machine with one process a device, each of which runs the same recipe."""
    from striate.train.recipe_files import recipe_yaml

    with tempfile.TemporaryDirectory() as folder:
        config, answer = Path(folder) / "recipe.yaml", Path(folder) / "run"
        config.write_text(recipe_yaml(recipe))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={recipe.devices}"]
        command += ["-m", "striate.train.worker", str(config), str(answer), str(resume or ""), "quiet" if quiet else ""]
        threads = max(1, (os.cpu_count() or 1) // recipe.devices)
        code = subprocess.call(command, env={"OMP_NUM_THREADS": str(threads), **os.environ})
        if code or not answer.exists():
            raise StriateError(f"training in {recipe.devices} processes failed (exit code {code}); see above")
        return Path(answer.read_text())


class _CallablePackage(ModuleType):
    """`striate.train` is this package and, called, the function above: importing a part of it must not hide that."""

    def __call__(self, *arguments: Any, **options: Any) -> Model:
        return train(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
