"""Blood cells (bccd, its own splits) from scratch: `striate train`, then the peer for the same wall time.

ours:        `striate train BCCD`, the default detector; judged on the test split by the model file it wrote.
ultralytics: its nano model, from scratch, at the same picture size, for as many seconds as ours took from start to end,
             reports and all (`--peer PYTHON` of an environment that has it; left out without). Its boxes are judged by
             the same code as ours.

Both are processes, one after the other, each with all cores. Fails when ours is below 0.80 AP50 or behind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import Comparison
from bench.pictures import dataset

PAIRS = 1
LOWEST = 0.80  # AP50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", type=Path, help="the python of an environment that has ultralytics")
    parser.add_argument("--keep", type=Path, help="leave runs and files here")
    parser.add_argument("--ours", nargs=argparse.REMAINDER, default=[], help="last: more options for striate train")


def measure(options: argparse.Namespace) -> list[Comparison]:
    folder = dataset("bccd")
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as place:
        where = options.keep or Path(place)
        striate = [sys.executable, "-m", "striate"]
        start = time.perf_counter()
        command = [*striate, "train", str(folder), "--out", str(where), "--name", "bccd"]
        command += ["--device", options.device, *options.ours]
        subprocess.run(command, check=True, stdout=sys.stderr)
        seconds = {"ours": [time.perf_counter() - start]}
        model = where / "detect" / "bccd" / "model.safetensors"
        judge = [*striate, "evaluate", str(model), str(folder), "--json"]
        said = json.loads(subprocess.run(judge, check=True, capture_output=True).stdout)
        figures: dict[str, Any] = {f"{name} of ours": value(said, name) for name in ("ap", "ap50", "ap75")}
        passed = figures["ap50 of ours"] >= LOWEST
        if options.peer:
            took, judged = peer(options.peer, folder, where, seconds["ours"][0])
            seconds["ultralytics"] = [took]
            figures |= {f"{name} of ultralytics": judged[name] for name in ("ap", "ap50", "ap75")}
            passed = passed and figures["ap50 of ours"] > judged["ap50"]
    for name, number in figures.items():
        print(f"{name}: {number:.4f}", file=sys.stderr)
    return [Comparison("s", seconds, False, figures, "bccd", passed)]


def value(said: dict[str, Any], name: str) -> float:
    found = said["scalars"][name]
    return found["value"] if isinstance(found, dict) else found


def peer(python: Path, folder: Path, where: Path, seconds: float) -> tuple[float, dict[str, float]]:
    """How long it took, and its numbers on the test split by our metrics."""
    import torch
    from safetensors.torch import load_file

    from striate.data import open_dataset
    from striate.tasks.detect.metrics import DetectionMetrics
    from striate.tasks.detect.outputs import collate_objects, stack_detections

    data = (where / "yolo").resolve()
    convert = [sys.executable, "-m", "striate", "data", "convert", str(folder), str(data), "--format", "yolo"]
    subprocess.run(convert, check=True, stdout=sys.stderr)
    names = (data / "data.yaml").read_text().partition("names:")[2]
    (data / "data.yaml").write_text(
        f"path: {data}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:{names}"
    )
    script = Path(__file__).parent / "peers" / "ultralytics_training.py"
    command = [str(python), str(script), str(data / "data.yaml"), "--out", str((where / "peer.safetensors").resolve())]
    command += ["--seconds", str(seconds), "--size", "320"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout.splitlines()[-1])
    found = load_file(report["detections"])
    samples = open_dataset(folder).splits["test"]
    metrics = DetectionMetrics(open_dataset(folder).classes)
    for sample in samples:
        boxes = found.get(Path(str(sample.image)).name, torch.zeros(0, 6))
        rows = stack_detections([boxes[:, :4]], [boxes[:, 4]], [boxes[:, 5]], 100)
        metrics.update(rows, collate_objects([sample.target]))
    return report["seconds"], metrics.compute()
