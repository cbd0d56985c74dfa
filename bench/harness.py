"""Measure sides in turn (A B A B …) and compare them pair by pair.

A machine that slows down for a minute then slows both sides of a pair, and the ratio within the pair still holds.
A side is a function of no arguments that does its work once and returns one figure: `throughput`, `reported` and
`wall_seconds` make such functions of a training step, of a script that prints its own figure, and of a command.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

Side = Callable[[], float]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """What one benchmark found, or one case of it.

    Attributes:
        unit: of the figures, such as `img/s` or `s`.
        figures: side → one figure a round, in the order measured; the first side is ours.
        higher_is_better: True for rates, False for times.
        facts: what else the row should say (accuracies, sizes, versions of the peers).
        case: which of a benchmark's cases, when it has several.
        ok: False when something that must hold does not; the command then exits 1.
    """

    unit: str
    figures: Mapping[str, Sequence[float]]
    higher_is_better: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    case: str = ""
    ok: bool = True

    def ratios(self) -> dict[str, list[float]]:
        """Peer → how many times better ours is, one ratio a round; above 1 ours is better."""
        ours, *peers = self.figures
        return {
            peer: [
                mine / other if self.higher_is_better else other / mine
                for mine, other in zip(self.figures[ours], self.figures[peer], strict=True)
            ]
            for peer in peers
        }


def interleave(sides: Mapping[str, Side], rounds: int, warmup: int = 0) -> dict[str, list[float]]:
    """Run every side once a round, in the order given; the first `warmup` rounds are not counted.

    Raises:
        ValueError: no side, or no round.
    """
    if not sides or rounds < 1:
        raise ValueError(f"{len(sides)} sides, {rounds} rounds: at least one of each is needed")
    figures: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warmup, rounds):
        for name, side in sides.items():
            figure = side()
            print(f"{'warm-up' if turn < 0 else f'round {turn + 1}'}: {name} {figure:.4g}", file=sys.stderr)
            if turn >= 0:
                figures[name].append(figure)
    return figures


def throughput(
    step: Callable[[], object], items: int, steps: int, device: str = "cpu", clock: Clock = time.perf_counter
) -> Side:
    """Items a second of `steps` calls of `step`, each of which handles `items`; waits for the GPU before and after."""

    def side() -> float:
        synchronize(device)
        start = clock()
        for _ in range(steps):
            step()
        synchronize(device)
        return steps * items / (clock() - start)

    return side


def synchronize(device: str) -> None:
    """Wait until a GPU has done what it was told; a processor always has."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def reported(command: Sequence[str | Path], key: str, facts: dict[str, Any] | None = None) -> Side:
    """Run a command that prints one JSON object as its last line, and take the figure under `key`.

    What else the object says is put into `facts`, when given.
    """

    def side() -> float:
        said = last_json(run(command))
        if facts is not None:
            facts.update({name: value for name, value in said.items() if name != key})
        return float(said[key])

    return side


def wall_seconds(command: Sequence[str | Path], clock: Clock = time.perf_counter) -> Side:
    """How long a whole process takes, from fork to exit."""

    def side() -> float:
        start = clock()
        run(command)
        return clock() - start

    return side


def run(command: Sequence[str | Path]) -> str:
    """Run a command in the repository root and return its stdout.

    Raises:
        RuntimeError: it failed; the message holds the end of its stderr.
    """
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    """The JSON object on the last line that is not blank."""
    return json.loads(text.strip().splitlines()[-1])


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest, largest, and every value."""
    return {"median": median(values), "min": min(values), "max": max(values), "all": [round(v, 6) for v in values]}


def machine(device: str) -> dict[str, Any]:
    """Where it was measured: the row means nothing without it."""
    import torch

    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else processor_name(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
    }


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def commit() -> str:
    """The commit measured, with `+` when files have been changed since; `unknown` outside a checkout."""
    try:
        head = run(["git", "rev-parse", "--short=12", "HEAD"]).strip()
        # rows recorded a moment ago are no change of what is measured
        changed = run(["git", "status", "--porcelain", "--", ":!bench/results"]).strip()
    except (RuntimeError, OSError):
        return "unknown"
    return f"{head}+" if changed else head


def row(name: str, found: Comparison, device: str, command: Sequence[str]) -> dict[str, Any]:
    """One line of `results/NAME.jsonl`."""
    return {
        "benchmark": name,
        "case": found.case,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        **machine(device),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "command": shlex.join(command),
        "unit": found.unit,
        "figures": {side: spread(values) for side, values in found.figures.items()},
        "ratio": {peer: spread(values) for peer, values in found.ratios().items()},
        "ok": found.ok,
        "facts": dict(found.facts),
    }


def table(measured: Mapping[str, Any]) -> str:
    """A row as people read it."""
    width = max(len(side) for side in measured["figures"])
    title = " ".join(filter(None, (measured["benchmark"], measured["case"])))
    lines = [f"{title} · {measured['device']} · torch {measured['torch']} · {measured['isa']}"]
    for side, figure in measured["figures"].items():
        line = f"  {side:{width}}  {figure['median']:10.4g} {measured['unit']}"
        line += f"  ({figure['min']:.4g} – {figure['max']:.4g})"
        if side in measured["ratio"]:
            ratio = measured["ratio"][side]
            line += f"   ours is {ratio['median']:.3g} × better ({ratio['min']:.3g} – {ratio['max']:.3g})"
        lines.append(line)
    lines += [f"  {name}: {value}" for name, value in measured["facts"].items()]
    return "\n".join(lines)


def append(measured: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Add a row to `FOLDER/BENCHMARK.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measured['benchmark']}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps(measured, ensure_ascii=False, default=str) + "\n")
    return path
