"""Training from JPEG files with augmentation: ResNet-18, 224×224; reading, augmentation and step together.

All sides train on one folder of links to hymenoptera's 96 photographs, repeated so that the timed steps lie within
one epoch: a random part resized to 224, a random flip, two reading processes. Each side is a process of its own that
prints its images a second over `--steps` steps after `--warmup` steps; the processes run in turn.

ours:        `bench/our_training.py`: our loader and loop, all at `auto`; without the decoded-once cache that
             `striate train` would use for a set this small, unless `--cache`.
torchvision: `bench/peers/torchvision_reference.py`: its classification reference's transforms on Pillow, fp32, SGD.
fastai:      `bench/peers/fastai_training.py`: its DataLoaders and Learner, fp32; only with `--fastai-python PATH`,
             the interpreter of an environment that has fastai.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import Comparison, Side, interleave, reported
from bench.pictures import dataset, repeated

PAIRS = 3
TARGET = 2.0  # times as fast as each peer
PEERS = Path(__file__).parent / "peers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=4, help="steps of each process before its clock starts")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cache", action="store_true", help="let ours decode each picture once")
    parser.add_argument("--fastai-python", help="an interpreter with fastai")


def measure(options: argparse.Namespace) -> list[Comparison]:
    names = ("model", "size", "batch", "workers", "warmup", "steps", "device")
    flags = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    facts: dict[str, Any] = {}

    def side(name: str, *command: str) -> Side:
        return reported([*command, *flags], "images_per_second", facts.setdefault(name, {}))

    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        # the last batch may be left out, and a little is held out for validation
        count = round((options.warmup + options.steps + 2) * options.batch * 1.05)
        folder = str(repeated(dataset("hymenoptera") / "train", count, Path(where)))
        cache = ["--cache"] if options.cache else []
        sides = {
            "striate": side("striate", sys.executable, "-m", "bench.our_training", folder, *cache),
            "torchvision": side("torchvision", sys.executable, str(PEERS / "torchvision_reference.py"), folder),
        }
        if options.fastai_python:
            sides["fastai"] = side("fastai", options.fastai_python, str(PEERS / "fastai_training.py"), folder)
        figures = interleave(sides, options.pairs)
    case = f"{options.model} {options.size} batch {options.batch}{' cache' if options.cache else ''}"
    ratios = Comparison("img/s", figures).ratios()
    ok = all(median(values) >= TARGET for values in ratios.values())
    return [Comparison("img/s", figures, facts=facts, case=case, ok=ok)]
