"""`striate explain`: why a model says what it says, and what is inside."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from striate.explain import METHODS

if TYPE_CHECKING:
    from striate.explain.explanation import Explanation

ROWS = 24  # of a table on the terminal, at most
HOW = f"One or more of {', '.join(METHODS)}; gradcam if none is named, --list says what each shows."
Names = Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable="", help=HOW)]
Numbers = Annotated[list[int] | None, Parameter(consume_multiple=True, negative_iterable="")]


def explain(
    model: Path | None = None,
    /,
    *sources: str,
    how: Names = None,
    label: str | None = None,
    layer: str | None = None,
    units: Numbers = None,
    limit: int | None = None,
    epsilon: float | None = None,
    attack: Literal["fgsm", "pgd"] | None = None,
    steps: int | None = None,
    other: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    json: bool = False,
    shows_list: Annotated[bool, Parameter("--list", negative="")] = False,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Show why a model says what it says, and what is inside: one page for each way of explaining.

    Parameters
    ----------
    model
        A model file, or the folder of a run.
    sources
        Pictures as for predict, or a data set as for train (--list says which is wanted).
    label
        The class to explain, the one that the model answers if none is named; of adversary the class to reach, any
        other than the model's answer if none is named.
    layer
        A stage of the backbone (layer3), a layer by its name in papers (fire5) or in the state dict (features.3).
    units
        Channels of the layer.
    limit
        Look at this many pictures at most.
    epsilon
        Strength of an adversary, of pixels in 0..1, at least a grey level (1/255 = 0.004).
    attack
        Of adversary: fgsm, one step (the default), or pgd, several.
    steps
        Of whatever repeats: integrals, places of the covering square, PGD, grids.
    other
        A second model, to compare with or to show the adversaries to.
    seed
        Of everything random.
    out
        The page to write (.html), or a folder for one page a way; runs/explain when not given.
    json
        Print facts and numbers as JSON.
    shows_list
        List the ways of explaining.
    device
        auto, cpu, cuda, cuda:0 …
    overwrite
        Replace pages that exist.
    """
    from striate.errors import UsageError
    from striate.explain import RENAMED, check, check_model, renamed

    if shows_list:
        from striate.cli.terminal import print_table

        print_table(("how", "needs", "shows"), [(name, one.needs, one.about) for name, one in METHODS.items()])
        return 0
    if model is None:
        raise UsageError("explain which model? Name a model file or the folder of a run; --list shows what there is")
    asked = how or ["gradcam"]
    ways = [*dict.fromkeys(RENAMED.get(way, way) for way in asked)]
    options: dict[str, Any] = {"label": label, "layer": layer, "units": units, "limit": limit, "epsilon": epsilon}
    options |= {"attack": attack, "steps": steps, "other": other, "seed": seed}
    check(ways, sources, options)
    for way in ways:
        _given(way, sources)
    targets = _targets(model, ways, out, overwrite)

    from striate.cli.predict import find_model
    from striate.cli.terminal import print_json, say, wrote
    from striate.model import Model

    said: dict[str, None] = {}  # several ways look at the same pictures, and say the same of them

    def say_once(line: str) -> None:
        if line not in said:
            said[line] = None
            say(line)

    for way in asked:
        if way in RENAMED:
            say(renamed(way))
    loaded = Model.load(find_model(model), device)
    check_model(loaded, ways, options)
    found: dict[str, Any] = {}
    for way in ways:  # each page is told as soon as it is there: the next one may fail
        own = {name: value for name, value in options.items() if name in (*METHODS[way].takes, "seed")}
        explanation = loaded.explain(_given(way, sources), way, say=say_once, **own)
        explanation.commands[:] = [_command(model, sources, way, own)]
        wrote([explanation.save(targets[way], overwrite)])
        found[way] = _told(explanation, targets[way])
        if not json:
            _print(explanation)
        for note in explanation.notes:
            say_once(note)
    if json:
        print_json(found)
    wrote([], _next(model, sources, ways))
    return 0


def _targets(model: Path, ways: list[str], out: Path | None, overwrite: bool) -> dict[str, Path]:
    """Where each page goes, refused before anything is computed."""
    from striate.errors import UsageError
    from striate.files import refuse_overwrite

    own = model.parent if model.name == "model.safetensors" else model
    name = own.resolve().name.removesuffix(".safetensors")
    if out is not None and out.suffix.lower() in (".html", ".htm"):
        if len(ways) > 1:
            raise UsageError(f"--out {out}: {len(ways)} pages need a folder, not one file")
        return {ways[0]: refuse_overwrite(out, overwrite)}
    if out is not None and out.is_file():
        raise UsageError(f"--out {out}: is a file; name a folder, or a page ending in .html")
    folder = Path("runs/explain") if out is None else out
    return {way: refuse_overwrite(folder / f"{name}-{way}.html", overwrite) for way in ways}


def _given(way: str, sources: tuple[str, ...]) -> Any:
    """A data set is one word; pictures may be many."""
    from striate.errors import UsageError

    if METHODS[way].needs == "network" or not sources:
        return None
    if METHODS[way].needs == "data" and len(sources) > 1:
        raise UsageError(f"{way} takes one data set, not {len(sources)}: {' '.join(sources[:3])}")
    return sources[0] if len(sources) == 1 else [*sources]


def _told(explanation: Explanation, page: Path) -> dict[str, Any]:
    values = {name: summarised(value) for name, value in explanation.values.items()}
    return {
        "title": explanation.title,
        "page": str(page),
        "facts": explanation.facts,
        "values": values,
        "notes": explanation.notes,
    }


def summarised(value: Any) -> Any:
    """As JSON can hold it: of a tensor its shape, least, mean and largest value; a number stays one."""
    from torch import Tensor

    if isinstance(value, Tensor):
        if value.numel() == 1:
            return value.item()
        told: dict[str, Any] = {"shape": [*value.shape]}
        if value.numel() and not value.is_complex():
            numbers = value.detach().float()
            told |= {key: float(getattr(numbers, key)()) for key in ("min", "mean", "max")}
        return {key: _finite(one) for key, one in told.items()}
    if isinstance(value, dict):
        return {str(key): summarised(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, list | tuple):
        return [summarised(one) for one in value]
    return _finite(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value


def _print(explanation: Explanation) -> None:
    """What the page says in words, and its small tables."""
    from striate.cli.terminal import out, print_table

    out.print(explanation.title, markup=False, style="bold")
    for section in explanation.sections:
        first = section.text.partition("\n\n")[0]
        tables = [table for table in section.tables if len(table.rows) <= ROWS]
        if first or tables:
            out.print(f"{section.title}: {first}" if first else section.title, markup=False)
        for table in tables:
            rows = [
                tuple("–" if cell is None else round(cell, 4) if isinstance(cell, float) else cell for cell in row)
                for row in table.rows
            ]
            print_table(table.columns, rows, table.caption or None)


def _command(model: Path, sources: tuple[str, ...], way: str, options: dict[str, Any]) -> str:
    named = () if METHODS[way].needs == "network" else sources
    words = ["striate", "explain", str(model), *named, "--how", way]
    for name, value in options.items():
        if value is None or (name, value) == ("seed", 0):
            continue
        words += [f"--{name}", *(str(one) for one in (value if isinstance(value, list | tuple) else [value]))]
    return shlex.join(words)


def _next(model: Path, sources: tuple[str, ...], ways: list[str]) -> str | None:
    """The explanation that goes on from these: are they to be believed?"""
    if ways == ["sanity"] or not sources or any(METHODS[way].needs != "pictures" for way in ways):
        return None
    named = shlex.join(sources) if len(sources) <= 2 else "PICTURES"
    return f"striate explain {shlex.quote(str(model))} {named} --how sanity"
