"""The same ResNet from scratch for the same epochs: `striate train` against a plain fp32 loop, several seeds.

hymenoptera: ResNet-18 at 128×128, 96 training and 40 validation photographs.
cifar10-jpg: ResNet-20 (CIFAR), 8,000 training and 2,000 test pictures.

ours:  `striate train FOLDER --model … --size … --epochs … --seed …`, all else at its default; accuracy from
       `metrics.jsonl`.
plain: `bench/peers/plain_loop.py`: Pillow, crop and flip, SGD with momentum, cosine, fp32, batch and rate as usual.

Both are whole processes, run in turn, one seed a pair; both train on all of `train` and are judged on all of `val`
after each epoch. Compared are the last epoch's accuracies (the best of an epoch is reported too) and wall times. It
fails when our mean is lower than theirs by more than the standard error of the difference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, sqrt
from pathlib import Path
from statistics import mean, stdev

from bench.harness import ROOT, Comparison, Side, interleave, last_json, run
from bench.pictures import as_train_and_val, dataset

PAIRS = 3  # seeds


@dataclass(frozen=True)
class Case:
    model: str
    size: int
    epochs: int
    batch: int  # of the plain loop; ours chooses its own
    lr: float


CASES = {
    "hymenoptera": Case("resnet18", 128, epochs=30, batch=16, lr=0.01),
    "cifar10-jpg": Case("resnet20_cifar", 32, epochs=20, batch=128, lr=0.1),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--epochs", type=int, help="instead of each case's own")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    return [compare(name, options) for name in options.cases]


def compare(name: str, options: argparse.Namespace) -> Comparison:
    case = CASES[name]
    epochs = options.epochs or case.epochs
    scores: dict[str, list[tuple[float, float]]] = {"striate": [], "plain": []}  # (last, best) a seed
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = as_train_and_val(dataset(name), Path(where) / name)
        both = [str(folder), "--model", case.model, "--size", str(case.size), "--epochs", str(epochs)]
        both += ["--device", options.device]
        plain = [sys.executable, str(ROOT / "bench" / "peers" / "plain_loop.py"), *both]
        plain += ["--batch", str(case.batch), "--lr", str(case.lr)]

        def our_run() -> tuple[float, float]:
            seed = len(scores["striate"])
            place = ["--seed", str(seed), "--out", where, "--name", f"seed-{seed}"]
            run([sys.executable, "-m", "striate", "train", *both, *place, *options.ours])
            return accuracies(Path(where) / "classify" / f"seed-{seed}")

        def plain_run() -> tuple[float, float]:
            said = last_json(run([*plain, "--seed", str(len(scores["plain"]))]))
            return said["accuracy"], said["best_accuracy"]

        def timed(side: str, train: Callable[[], tuple[float, float]]) -> Side:
            def seconds() -> float:
                start = time.perf_counter()
                scores[side].append(train())
                return time.perf_counter() - start

            return seconds

        sides = {"striate": timed("striate", our_run), "plain": timed("plain", plain_run)}
        figures = interleave(sides, options.pairs)
    ours, theirs = ([last for last, _ in scores[side]] for side in scores)
    worse = mean(theirs) - mean(ours)
    allowed = hypot(standard_error(ours), standard_error(theirs))
    facts = {
        "model": case.model,
        "size": case.size,
        "epochs": epochs,
        **{
            f"accuracy of {side}, last epoch": described([last for last, _ in values])
            for side, values in scores.items()
        },
        **{
            f"accuracy of {side}, best epoch": described([best for _, best in values])
            for side, values in scores.items()
        },
        "ours minus theirs": f"{-worse:+.4f}, standard error {allowed:.4f}",
    }
    return Comparison("s", figures, higher_is_better=False, facts=facts, case=name, ok=worse <= allowed)


def accuracies(folder: Path) -> tuple[float, float]:
    """Validation accuracy of a run's last and best epoch."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = [row["val_accuracy"] for row in rows]
    return values[-1], max(values)


def standard_error(values: list[float]) -> float:
    """Of the mean; 0 for one value, of which nothing is known."""
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0


def described(values: list[float]) -> str:
    return f"{mean(values):.4f} ± {standard_error(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})"
