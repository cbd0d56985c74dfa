"""Six short trainings by another commit's code and by this tree's: weights, histories and reports must be the same.

`--against REF` is checked out beside the repository for as long as it takes. Each training is a process of its own with
the same number of threads; the model file is compared bit for bit, `metrics.jsonl` and `report.json` value for value
but for times, names and the recipe's text. What differs by intent is listed in `EXPLAINED`; nothing else may.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness import ROOT, Comparison
from bench.pictures import SHARED, dataset

PAIRS = 1  # not a comparison of sides

# keys that one side lacks, and why
RENAMED = {
    "1-nme": "keypoints are decided by nme, of which less is better; it stands beside",
    "val_1-nme": "the same in a row of history",
}
UNLIKE = ("seconds", "images_per_second", "title", "commands", "recipe", "facts", "striate_version")  # of every run
# case → places that differ, and why
EXPLAINED = {
    "keypoints": (
        r"report\.metrics\.(best|mode|sentence|scalars\.\w+\.(low|high|meaning))",
        "the bootstrap no longer draws for 1-nme first, so the intervals of the others come from other draws",
    )
}


SQUEEZENET = str(SHARED / "squeezenet1_0-imagenet.safetensors")
# of each the data, "@" before sets of `bench.pictures`, and the options of `striate train`
CASES = {
    "digits": ["digits", "--epochs", "4"],
    "mnist": ["@mnist", "--epochs", "1"],
    "features": [
        "@hymenoptera",
        "--weights",
        str(SHARED / "squeezenet1_0-imagenet.safetensors"),
        "--transfer",
        "features",
    ],
    "fcos": ["shapes", "--limit", "160", "--size", "128", "--epochs", "3"],
    "faster_rcnn": ["shapes", "--model", "faster_rcnn", "--limit", "80", "--size", "128", "--epochs", "2"],
    "keypoints": ["@facial-keypoints", "--model", "resnet18", "--limit", "60", "--epochs", "3"],
}


def options_of(case: str) -> list[str]:
    data, *others = CASES[case]
    return [str(dataset(data[1:])) if data.startswith("@") else data, *others]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", default="HEAD", help="the commit to compare with")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--threads", type=int, default=1)


def measure(options: argparse.Namespace) -> list[Comparison]:
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place, checked_out(options.against, place) as old:
        for case in options.cases:
            runs = {
                name: trained(tree, Path(place) / name / case, options_of(case), options.threads, options.device)
                for name, tree in (("old", old), ("new", ROOT))
            }
            sides = runs["old"], runs["new"]
            unlike = [*weights_differ(*sides), *history_differs(*sides), *report_differs(*sides)]
            pattern, why = EXPLAINED.get(case, (r"(?!)", ""))
            explained = [one for one in unlike if re.match(pattern, one)]
            unlike = [one for one in unlike if one not in explained]
            print(f"{case}: {'same' if not unlike else '; '.join(unlike[:12])}", file=sys.stderr, flush=True)
            facts: dict[str, Any] = {"against": options.against, "differs": unlike}
            facts |= {"explained": f"{len(explained)} entries: {why}"} if explained else {}
            found.append(Comparison("differences", {"all": [len(unlike)]}, False, facts, case, not unlike))
    return found


class checked_out:
    """A commit as a folder, within `with`."""

    def __init__(self, commit: str, place: str) -> None:
        self.commit, self.folder = commit, Path(place) / "tree"

    def __enter__(self) -> Path:
        self._git("worktree", "add", "--quiet", "--detach", str(self.folder), self.commit)
        return self.folder

    def __exit__(self, *_: object) -> None:
        self._git("worktree", "remove", "--force", str(self.folder))

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def in_tree(tree: Path, **more: str) -> dict[str, str]:
    """An environment in which `striate` and `bench` are that tree's."""
    return {**os.environ, "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{tree}", "NO_COLOR": "1", **more}


def trained(tree: Path, out: Path, what: list[str], threads: int, device: str) -> Path:
    """The run's folder of a training by that tree's code, with a cache of its own."""
    command = [sys.executable, "-m", "striate", "train", *what, "--out", str(out), "--name", "run", "--device", device]
    cache = out.parent / "cache"
    environment = in_tree(tree, XDG_CACHE_HOME=str(cache), OMP_NUM_THREADS=str(threads))
    done = subprocess.run([*command, "--threads", str(threads)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tree}: {' '.join(what)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return next(out.glob("*/run"))


def weights_differ(old: Path, new: Path) -> Iterator[str]:
    import torch
    from safetensors.torch import load_file

    one, other = (load_file(run / "model.safetensors") for run in (old, new))
    for name in sorted({*one, *other}):
        if name not in one or name not in other:
            yield f"weights {name}: only in {'new' if name in other else 'old'}"
        elif not torch.equal(one[name], other[name]):
            yield f"weights {name}: by up to {float((one[name] - other[name]).abs().max()):.2g}"


def history_differs(old: Path, new: Path) -> Iterator[str]:
    def rows(run: Path) -> list[Any]:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    yield from differences(rows(old), rows(new), "history")


def report_differs(old: Path, new: Path) -> Iterator[str]:
    def report(run: Path) -> Any:
        return json.loads((run / "report.json").read_text())

    yield from differences(report(old), report(new), "report")


def differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Where two pieces of JSON differ, but for what differs in every run and what was renamed."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key in UNLIKE or key in RENAMED:
                continue
            if key not in old or key not in new:
                yield f"{where}.{key}: only in {'new' if key in new else 'old'}"
            else:
                yield from differences(old[key], new[key], f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif old != new:
        yield f"{where}: {str(old)[:60]} became {str(new)[:60]}"
