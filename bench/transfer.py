"""Transfer on few pictures: SqueezeNet's ImageNet weights on ants and bees, 5 to 48 training pictures a class.

For each number of pictures and each seed a training folder is drawn, and `striate train` runs on it as a process with
`--transfer features`, with `--transfer finetune`, and (`scratch`) the same network without weights for the same epochs.
Reported are the last epoch's accuracy on the 40 validation pictures, mean and standard error over the seeds, and the
seconds of a whole process. `--picture FILE` draws the curves. Fails when, with all pictures, features stay under 85 %
or take 20 s, finetune stays under 88 %, or scratch comes within 15 points.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from bench.accuracy import accuracies, described, standard_error
from bench.harness import Comparison, run
from bench.pictures import SHARED, as_train_and_val, dataset

PAIRS = 5  # seeds
WEIGHTS = "squeezenet1_0-imagenet.safetensors"
WAYS = ("features", "finetune", "scratch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[5, 10, 20, 48], help="training pictures a class")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--picture", type=Path, help="draw the curves here")


def measure(options: argparse.Namespace) -> list[Comparison]:
    scores: dict[tuple[str, int], list[float]] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        whole = as_train_and_val(dataset("hymenoptera"), Path(where) / "hymenoptera")
        for size in options.sizes:
            for seed in range(options.pairs):
                folder = drawn(whole, Path(where) / f"{size}-{seed}", size, seed)
                for way in options.ways:
                    start = time.perf_counter()
                    accuracy = trained(folder, way, seed, options)
                    seconds.setdefault((way, size), []).append(time.perf_counter() - start)
                    scores.setdefault((way, size), []).append(accuracy)
                    print(f"{size} a class, seed {seed}: {way} {accuracy:.4f}", file=sys.stderr, flush=True)
    if options.picture:
        draw(scores, options.picture)
    facts: dict[str, Any] = {f"{way}, {size} a class": described(values) for (way, size), values in scores.items()}
    facts |= {f"seconds of {way}, {size} a class": round(median(taken), 1) for (way, size), taken in seconds.items()}
    first = (options.ways[0], max(options.sizes))
    return [Comparison("s", {first[0]: seconds[first]}, False, facts, "hymenoptera", passed(scores, seconds, options))]


def drawn(whole: Path, folder: Path, size: int, seed: int) -> Path:
    """A folder with `size` training pictures a class, or all there are, and the whole of val."""
    shutil.copytree(whole / "val", folder / "val")
    for label in sorted((whole / "train").iterdir()):
        pictures = sorted(label.iterdir())
        (folder / "train" / label.name).mkdir(parents=True)
        for picture in random.Random(seed).sample(pictures, min(size, len(pictures))):
            shutil.copy(picture, folder / "train" / label.name)
    return folder


def trained(folder: Path, way: str, seed: int, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "striate", "train", str(folder), "--seed", str(seed), "--device", options.device]
    command += ["--out", str(folder / "runs"), "--name", way]
    if way == "scratch":
        command += ["--model", "squeezenet1_0", "--size", "227", "--epochs", str(options.epochs)]
    else:
        command += ["--weights", str(SHARED / WEIGHTS), "--transfer", way]
        command += ["--epochs", str(options.epochs)] if way == "finetune" else []
    run(command)
    return accuracies(folder / "runs" / "classify" / way)[0]


def passed(scores: dict, seconds: dict, options: argparse.Namespace) -> bool:
    largest = max(options.sizes)
    if largest < 48:
        return True
    reached = {way: mean(scores[way, largest]) for way in options.ways}
    return (
        reached.get("features", 1.0) >= 0.85
        and median(seconds.get(("features", largest), [0.0])) < 20
        and reached.get("finetune", 1.0) >= 0.88
        and reached.get("scratch", 0.0) <= max(reached.get("finetune", 1.0), reached.get("features", 0.0)) - 0.15
    )


def draw(scores: dict[tuple[str, int], list[float]], path: Path) -> None:
    """Accuracy against pictures a class, with standard errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for way in WAYS:
        sizes = sorted(size for other, size in scores if other == way)
        if sizes:
            heights = [100 * mean(scores[way, size]) for size in sizes]
            errors = [100 * standard_error(scores[way, size]) for size in sizes]
            axes.errorbar(sizes, heights, yerr=errors, marker="o", capsize=4, label=way)
    axes.axhline(50, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="training pictures a class", ylabel="validation accuracy, %", title="Ants and bees, SqueezeNet 1.0")
    axes.legend()
    figure.savefig(path, dpi=120)
