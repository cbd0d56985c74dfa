"""Photo scores end to end on votes that are known: real photographs made worse by degrees, graded by invented voters.

AVA's 255,000 photographs are not here, so its list is imitated: each of the 116 ImageNet photographs is written five
times, blurred and recompressed more and more; 200 voters grade each from 1 to 10 around a mean that falls with the
damage, and quarrel more about the middle. Photographs (not copies) are held out by AVA's own test list. `striate train`
learns on SqueezeNet's features; reported is what its report says. Fails when the rank correlation with the votes of
the held-out photographs stays under 0.8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Comparison, run
from bench.pictures import SHARED, dataset
from striate.lectures.work.rating import written

PAIRS = 3  # seeds
PHOTOGRAPHS = 116
WEIGHTS = "squeezenet1_0-imagenet.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transfer", choices=("features", "finetune"), default="features")
    parser.add_argument("--keep", help="write the list and its pictures here, and leave them")


def measure(options: argparse.Namespace) -> list[Comparison]:
    seconds: list[float] = []
    facts: dict[str, object] = {}
    correlations: list[float] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = written(dataset("imagenet-samples"), Path(options.keep or where) / "ava", PHOTOGRAPHS)
        for seed in range(options.pairs):
            command = [sys.executable, "-m", "striate", "train", str(folder), "--seed", str(seed), "--json"]
            command += ["--weights", str(SHARED / WEIGHTS), "--transfer", options.transfer]
            command += ["--out", f"{where}/runs", "--name", str(seed), "--device", options.device]
            start = time.perf_counter()
            said = json.loads(run(command))
            seconds.append(time.perf_counter() - start)
            evaluate = [sys.executable, "-m", "striate", "evaluate", said["model"], str(folder), "--json"]
            judged = json.loads(run(evaluate))
            values = {name: one["value"] for name, one in judged["scalars"].items()}
            correlations.append(values["spearman"])
            facts[f"seed {seed}"] = {name: round(value, 4) for name, value in values.items()}
    return [Comparison("s", {"striate": seconds}, False, facts, "degraded photographs", min(correlations) >= 0.8)]
