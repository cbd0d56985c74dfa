"""68 points of faces, on people never seen, against the best guess that looks at no picture: the mean face.

`facial-keypoints` has 240 pictures of 143 people; every fifth (48) is held out with whoever is on it. `striate train`
runs on it as a process, on SqueezeNet's ImageNet weights, once a seed and head. The mean face is the mean of the
training faces' points, as shares of their pictures' width and height. Reported is the normalised mean error (distance
in units of the outer eye corners) of ours and of the mean face. Fails when the default head is not three times better.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.harness import Comparison, run
from bench.pictures import SHARED, dataset
from striate.data.formats import landmarks_csv
from striate.data.loaders import read_sample
from striate.tasks.keypoints.task import HEADS, Keypoints

PAIRS = 3  # seeds: of the people held out and of training
WEIGHTS = "squeezenet1_0-imagenet.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=["soft"])
    parser.add_argument("--from-scratch", action="store_true", help="without the ImageNet weights")
    parser.add_argument("--keep", type=Path, help="leave the runs here")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    data = dataset("facial-keypoints")
    means = [mean_face(data, seed) for seed in range(options.pairs)]
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place:
        for head in options.heads:
            ours: list[float] = []
            facts: dict[str, object] = {"options": " ".join(options.ours)}
            for seed in range(options.pairs):
                command = [sys.executable, "-m", "striate", "train", str(data), "--model", f"{head}/squeezenet1_0"]
                command += [] if options.from_scratch else ["--weights", str(SHARED / WEIGHTS)]
                command += ["--out", str(options.keep or place), "--name", f"{head}-{seed}", "--seed", str(seed)]
                command += ["--device", options.device]
                start = time.perf_counter()
                said = json.loads(run([*command, "--json", *options.ours]))["metrics"]
                ours.append(said["nme"])
                facts[f"seed {seed}"] = {name: round(value, 4) for name, value in said.items()} | {
                    "ratio": round(means[seed] / ours[-1], 2),
                    "minutes": round((time.perf_counter() - start) / 60, 2),
                }
                print(head, facts[f"seed {seed}"], file=sys.stderr)
            holds = all(mean / one >= 3 for mean, one in zip(means, ours, strict=True))
            figures = {"striate": ours, "mean face": means}
            found.append(Comparison("NME", figures, False, facts, head, holds or head != "soft"))
    return found


def mean_face(data: Path, seed: int) -> float:
    """The error of saying the mean of the training faces of everybody held out."""
    found = landmarks_csv.read(str(data), 0.2, seed, False)
    task = Keypoints(found.classes)
    metrics = task.metrics()
    train, val = (
        (
            task.collate([sample.target for sample in found.splits[name]]),  # type: ignore[misc]
            torch.tensor([read_sample(sample).shape[:0:-1] for sample in found.splits[name]])[:, None],  # width, height
        )
        for name in ("train", "val")
    )
    points = (train[0][..., :2] / train[1]).mean(0) * val[1]
    metrics.update(torch.cat((points, torch.ones_like(points[..., :1])), 2), val[0])
    return metrics.compute()["nme"]
