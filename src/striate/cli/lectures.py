"""`striate lectures`: the lectures' ideas, each run, checked and drawn."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from striate.errors import UsageError

if TYPE_CHECKING:
    from striate.lectures.site import Outcome


def lectures(
    *ids: str,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    out: Path | None = None,
    data: Path | None = None,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    json: bool = False,
    overwrite: bool = False,
) -> int:
    """List the lectures' ideas; run some of them (A1, or A for a whole part), or all, and write them as a web site.

    Args:
        ids: A1 A2 …, or parts: A B …; none: list them.
        every: run all that there are.
        out: folder of the pages and pictures; runs/lectures when not given. Open its index.html.
        data: folder of real data sets, unpacked or as zips; STRIATE_TEST_DATA when not given. Without it what needs
            them is left out, and said.
        fresh: compute again what took long; else it is kept by what went into it.
        json: print JSON.
        overwrite: allow the pages to exist.
    """
    from striate.cli.terminal import say
    from striate.lectures import LECTURES, find_lectures, is_there

    if every and ids:
        raise UsageError(f"--all runs every lecture: leave out {' '.join(ids)}, or leave out --all")
    if not every and not ids:
        _list(json)
        return 0
    chosen = list(LECTURES) if every else find_lectures(ids)
    if not any(is_there(LECTURES[key]) for key in chosen):
        raise UsageError(f"{', '.join(f'{key} ({LECTURES[key].title})' for key in chosen)}: no page yet")
    data = _data_folder(data)

    from striate.download import cache_folder
    from striate.lectures.page import Setting
    from striate.lectures.site import build

    where = out or Path("runs/lectures")
    setting = Setting(cache_folder() / "lectures", data, fresh, say)
    outcomes: list[Outcome] = []
    rows: list[dict[str, Any]] = []
    for outcome, files in build(chosen, where, setting, overwrite):
        outcomes.append(outcome)
        rows.append({**outcome.summary(), "files": [str(path) for path in files]})
        if not json:
            _tell(outcome, files[1:], detailed=len(chosen) == 1)
    return _end(outcomes, rows, where, json, every)


def _list(json: bool) -> None:
    from striate.cli.terminal import print_json, print_table, say, wrote
    from striate.lectures import LECTURES, PARTS, is_there

    rows = [
        {
            "id": key,
            "title": lecture.title,
            "part": PARTS[key[0]],
            "sources": lecture.sources,
            "there": is_there(lecture),
            "command": lecture.command,
        }
        for key, lecture in LECTURES.items()
    ]
    if json:
        print_json(rows)
        return
    heads = ("id", "idea", "taught in", "", "with your own pictures")
    told = [
        (row["id"], row["title"], row["sources"], "" if row["there"] else "no page yet", row["command"] or "")
        for row in rows
    ]
    print_table(heads, told)
    say("S0 to S4: five university lectures on convolutional networks")
    wrote([], "striate lectures A1")


def _data_folder(data: Path | None) -> Path | None:
    named = data or (Path(given) if (given := os.environ.get("STRIATE_TEST_DATA")) else None)
    if named is not None and not named.is_dir():
        raise UsageError(f"{named}: no such folder; --data names the folder that holds the data sets, or their zips")
    return named


def _tell(outcome: Outcome, pictures: list[Path], detailed: bool) -> None:
    """One id on the terminal: every check, or, among several ids, one line."""
    from striate.cli.terminal import out, print_table, say

    checks = outcome.shown.checks
    agree = sum(check.agrees for check in checks)
    if detailed and checks:
        rows = [
            (check.what, check.printed, check.ours, "agrees" if check.agrees else "differs", check.why)
            for check in checks
        ]
        print_table(("what", "printed", "ours", "", "why"), rows, title=f"{outcome.key} {outcome.lecture.title}")
    differ = f", {len(checks) - agree} differ" if agree < len(checks) else ""
    found = f"FAILED: {outcome.error}" if outcome.status == "failed" else f"{agree} agree{differ}"
    out.print(f"{outcome.key} {outcome.lecture.title}: {found} ({outcome.seconds:.1f} s)", markup=False)
    for line in outcome.shown.missing:
        say(f"missing: {line}")
    if detailed:
        for path in pictures:
            say(f"wrote {path}")


def _end(outcomes: list[Outcome], rows: list[dict[str, Any]], where: Path, json: bool, every: bool) -> int:
    from striate.cli.terminal import print_json, wrote

    failed = [outcome.key for outcome in outcomes if outcome.status == "failed"]
    page = where / ("index.html" if len(outcomes) != 1 else f"{outcomes[0].key}.html")
    if json:
        print_json({"lectures": rows, "page": str(page), "index": str(where / "index.html")})
    again = shlex.join(["striate", "lectures", *failed, "--out", str(where), "--overwrite"])
    wrote([page], again if failed else None if every else "striate lectures --all --out SITE")
    return 1 if failed else 0
