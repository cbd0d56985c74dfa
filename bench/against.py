"""This tree against another commit, each by its own benchmarks' code, in turn: training, reading, predicting.

`train_step`: ResNet-18, 128 px, batch 16, pictures in memory. `train_jpeg`: batch 4, from JPEG files with augmentation.
`loop`: a small network on small pictures, where the loop itself would be seen. `predict`: a folder of JPEG files.
`digits`: `striate train digits` as a whole process. One figure a process; ratios within pairs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import ROOT, Comparison, interleave, last_json
from bench.pictures import dataset
from bench.same_weights import checked_out, in_tree

PAIRS = 7
TARGET = 0.98
SMALL = ["--model", "resnet18", "--size", "128", "--warmup", "3"]

PREDICT = """
import json, sys, time, tempfile
import striate, torch
from striate.config import ModelCard, Preprocess
from striate.model import Model
torch.manual_seed(0)
module = striate.create_model("resnet18", num_classes=1000)
names = [str(i) for i in range(1000)]
card = ModelCard(task="classify", architecture="resnet18", classes=names, preprocess=Preprocess())
model, folder = Model(module, card), sys.argv[1]
model.predict(folder)
begin = time.perf_counter()
count = len(model.predict(folder))
print(json.dumps({"images_per_second": count / (time.perf_counter() - begin)}))
"""
LOOP = """
import json, tempfile
from pathlib import Path
from bench.our_training import images_per_second, job_on, random_pictures
from striate.config import Recipe
recipe = Recipe(model="conv16-bn-relu-pool-conv32-bn-relu-gap", batch=128, size=28, epochs=100, augment="none",
                compile=False, device="cpu")
with tempfile.TemporaryDirectory() as where:
    job = job_on(random_pictures(128 * 120, 1, 28, 10), recipe, Path(where))
    try:
        speed = images_per_second(job, 10, 100, "cpu")
    except TypeError:
        speed = images_per_second(job, job.train, 10, 100, "cpu")
print(json.dumps({"images_per_second": speed}))
"""


def commands() -> dict[str, list[str]]:
    """Of each case what a tree runs; the last line that it prints is JSON with `images_per_second`."""
    photos = str(dataset("imagenet-samples"))
    pets = str(dataset("hymenoptera") / "train")
    return {
        "train_step": ["-m", "bench.train_step", "striate", *SMALL, "--batch", "16", "--steps", "12"],
        "train_jpeg": ["-m", "bench.our_training", pets, *SMALL, "--batch", "4", "--steps", "18"],
        "loop": ["-c", LOOP],
        "predict": ["-c", PREDICT, photos],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", default="HEAD", help="the commit to compare with")
    parser.add_argument("--cases", nargs="+", default=["train_step", "train_jpeg", "loop", "predict", "digits"])


def measure(options: argparse.Namespace) -> list[Comparison]:
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place, checked_out(options.ref, place) as old:
        for case in options.cases:
            sides = {"new": side(ROOT, case, Path(place)), "old": side(old, case, Path(place))}
            figures = interleave(sides, options.pairs, warmup=1)
            one = Comparison("img/s" if case != "digits" else "1/s", figures, facts={"against": options.ref}, case=case)
            ratios = sorted(one.ratios()["old"])
            ok = ratios[len(ratios) // 2] >= TARGET
            found.append(Comparison(one.unit, figures, facts=one.facts, case=case, ok=ok))
    return found


def side(tree: Path, case: str, place: Path) -> Callable[[], float]:
    """One figure of that tree's code, higher is better."""

    def measured() -> float:
        if case == "digits":
            command = ["-m", "striate", "train", "digits", "--epochs", "6", "--name", "run", "--overwrite"]
            begin = time.perf_counter()
            run(tree, [*command, "--out", str(place / "runs")])
            return 1 / (time.perf_counter() - begin)
        return float(last_json(run(tree, commands()[case]))["images_per_second"])

    return measured


def run(tree: Path, command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], cwd=tree, env=in_tree(tree), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tree}: {command[:4]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout
