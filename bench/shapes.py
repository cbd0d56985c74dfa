"""Detectors of the lectures on the built-in shapes (640 / 160 pictures of 160 px), from scratch, by `striate train`.

Reported are AP, AP50 and the seconds of the whole command, report included. Fails when one named in `LOWEST` stays
below what it must reach.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import Comparison, run

PAIRS = 1  # seeds
OPTIONS = {  # what differs from the detector's defaults, and why is in docs/detection.md
    "fcos": "",
    "faster_rcnn": "--epochs 20 --lr 0.001",
    "yolov3_tiny": "--epochs 40 --size 224",
    "yolov1": "--epochs 60",
    "sliding": "--epochs 10",
    "fast_rcnn": "--epochs 8 --augment none",
    "rcnn": "--epochs 3 --augment none",
}
LOWEST = {  # AP, AP50
    "fcos": (0.80, 0.95),
    "faster_rcnn": (0.0, 0.95),
    "yolov3_tiny": (0.0, 0.95),
    "yolov1": (0.0, 0.85),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=["fcos"], choices=tuple(OPTIONS), help="which, in turn")
    parser.add_argument("--keep", type=Path, help="leave the runs here")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place:
        where = options.keep or Path(place)
        for model in options.models:
            seconds: list[float] = []
            asked = settings(model, options.ours)
            figures: dict[str, Any] = {"options": " ".join(asked)}
            passed = True
            for seed in range(options.pairs):
                command = [sys.executable, "-m", "striate", "train", "shapes", "--model", model, "--json"]
                command += ["--out", str(where), "--name", f"{model}-{seed}", "--seed", str(seed)]
                command += ["--device", options.device]
                start = time.perf_counter()
                said = json.loads(run([*command, *asked]))["metrics"]
                seconds.append(time.perf_counter() - start)
                figures[f"seed {seed}"] = {name: round(value, 4) for name, value in said.items()}
                ap, ap50 = LOWEST.get(model, (0.0, 0.0))
                passed = passed and said["ap"] >= ap and said["ap50"] >= ap50
                print(f"{model}, seed {seed}: {figures[f'seed {seed}']}, {seconds[-1]:.0f} s", file=sys.stderr)
            found.append(Comparison("s", {"striate": seconds}, False, figures, model, passed))
    return found


def settings(model: str, given: list[str]) -> list[str]:
    """The words of OPTIONS, those given in the place of the same."""
    words = OPTIONS[model].split()
    own = [word for at in range(0, len(words), 2) if words[at] not in given for word in words[at : at + 2]]
    return [*own, *given]
