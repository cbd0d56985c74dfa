"""Wall time of `striate --help`, from fork to exit; `python -c pass` in turn with it is the floor."""

from __future__ import annotations

import argparse
import sys
from statistics import median

from bench.harness import Comparison, interleave, wall_seconds

PAIRS = 20
TARGET = 0.25  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def measure(options: argparse.Namespace) -> list[Comparison]:
    sides = {
        "striate --help": wall_seconds([sys.executable, "-m", "striate", "--help"]),
        "python -c pass": wall_seconds([sys.executable, "-c", "pass"]),
    }
    figures = interleave(sides, options.pairs, warmup=1)  # the first start writes byte code
    floor = median(figures.pop("python -c pass"))
    facts = {"python -c pass": f"{floor:.3f} s"}
    ok = median(figures["striate --help"]) < TARGET
    return [Comparison("s", figures, higher_is_better=False, facts=facts, ok=ok)]
