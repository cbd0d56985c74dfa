"""`striate lr-find`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from striate.config import Recipe


def lr_find(
    data: str,
    /,
    *overrides: str,
    config: Path | None = None,
    picture: Path = Path("lr-find.png"),
    steps: int = 120,
    json: bool = False,
    overwrite: bool = False,
    recipe: Annotated[Recipe | None, Parameter(name="*")] = None,
) -> int:
    """Raise the learning rate step by step on DATA, draw the loss, and suggest a rate.

    Args:
        data: what to train on.
        overrides: key=value settings of the recipe.
        config: a YAML file of settings.
        picture: where to draw.
        steps: how many steps from 1e-6 to 10.
        json: print rates and losses as JSON.
        overwrite: allow PICTURE to exist.
    """
    from striate.cli.terminal import out, print_json, wrote
    from striate.cli.train import options_of
    from striate.files import refuse_overwrite
    from striate.train.lr_find import find_rate
    from striate.train.recipe_files import make_recipe

    refuse_overwrite(picture, overwrite)
    test = find_rate(make_recipe({**options_of(recipe, config, overrides), "data": data}), steps=steps)
    test.draw(picture)
    if json:
        print_json({"suggestion": test.suggestion, "rates": test.rates, "losses": test.losses})
    else:
        out.print(f"suggested learning rate: {test.suggestion:.2g}", markup=False)
    wrote([picture], f"striate train {data} --lr {test.suggestion:.2g}")
    return 0
