"""`striate robustness`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def robustness(
    model: Path,
    data: str,
    *,
    split: str | None = None,
    strengths: int = 5,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable="")] = None,
    limit: int | None = None,
    picture: Path | None = None,
    json: bool = False,
    out: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Judge MODEL on labelled DATA made harder by degrees: moved, scaled, turned, blurred, noisy, dark, covered.

    Args:
        model: a model file, or the folder of a run.
        data: as for `striate train`; `photos/:val` names a split.
        split: another way to name the split; test if there is one, else val, else what there is.
        strengths: how many grades of each disturbance, 1 to 10.
        only: of shift, smaller, larger, rotation, blur, noise, darker, lighter, contrast, occlusion.
        limit: judge on at most this many pictures, drawn at random.
        picture: where to draw; robustness.png when neither this nor OUT is given.
        json: print the numbers as JSON instead of a table.
        out: a folder for robustness.png and robustness.json.
        device: auto, cpu, cuda, cuda:0 …
        seed: of what is drawn: noise, directions, places, and the pictures of LIMIT.
        overwrite: allow these files to exist.
    """
    from rich.progress import Progress

    from striate.cli.predict import find_model
    from striate.cli.terminal import err, print_json, print_table, say, wrote
    from striate.cli.terminal import out as terminal
    from striate.model import Model
    from striate.robustness import known_names, writable

    known_names(only)
    files = [] if picture is None else [picture]
    if out is not None:
        files += [out / "robustness.png", out / "robustness.json"]
    files = [writable(path, overwrite) for path in files or [Path("robustness.png")]]
    loaded = Model.load(find_model(model), device)
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        row = bar.add_task("pictures", total=None)
        found = loaded.robustness(
            data,
            split,
            only=only,
            strengths=strengths,
            limit=limit,
            seed=seed,
            progress=lambda judged, total: bar.update(row, completed=judged, total=total),
        )
    if json:
        print_json(found.to_dict())
    else:
        heads = ("disturbance", "strengths", "none", *map(str, range(1, strengths + 1)), "kept")
        rows = []
        for curve in found.curves.values():
            write = curve.disturbance.write
            span = write(curve.strengths[0]) + (f" … {write(curve.strengths[-1])}" if strengths > 1 else "")
            kept = "–" if curve.kept is None else f"{100 * curve.kept:.0f} %"
            rows.append((curve.name, span, *(f"{value:.3f}" for value in (found.clean.value, *curve.values)), kept))
        print_table(heads, rows, title=f"{found.metric} on {found.split}: {found.count:,} pictures")
        terminal.print(found.sentence, markup=False)
    for message in found.skipped[:5]:
        say(f"skipped: {message}")
    if len(found.skipped) > 5:
        say(f"skipped: {len(found.skipped) - 5} more")
    for path in files:
        found.save(path, overwrite, title=f"{model} on {data}")
    wrote(files, shlex.join(["striate", "evaluate", str(model), data]))
    return 0
