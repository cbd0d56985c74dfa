"""Photo scores end to end on votes that are known: real photographs made worse by degrees, graded by invented voters.

AVA's 255,000 photographs are not here, so its list is imitated: each of the 116 ImageNet photographs is written five
times, blurred and recompressed more and more; 200 voters grade each from 1 to 10 around a mean that falls with the
damage, and quarrel more about the middle. Photographs (not copies) are held out by AVA's own test list. `striate train`
learns on SqueezeNet's features; reported is what its report says. Fails when the rank correlation with the votes of
the held-out photographs stays under 0.8.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Comparison, run
from bench.pictures import SHARED, dataset

PAIRS = 3  # seeds
WEIGHTS = "squeezenet1_0-imagenet.safetensors"
DAMAGE = ((0.0, 95), (1.0, 60), (2.0, 35), (3.5, 20), (6.0, 10))  # blur in pixels of 320, JPEG quality
MEANS = (7.4, 6.3, 5.2, 4.0, 2.8)
SPREADS = (1.2, 1.5, 1.8, 1.5, 1.2)
VOTERS = 200
HELD_OUT = 4  # one photograph in four


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transfer", choices=("features", "finetune"), default="features")
    parser.add_argument("--keep", help="write the list and its pictures here, and leave them")


def measure(options: argparse.Namespace) -> list[Comparison]:
    seconds: list[float] = []
    facts: dict[str, object] = {}
    correlations: list[float] = []
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        folder = written(Path(options.keep or where) / "ava")
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


def written(folder: Path) -> Path:
    """AVA.txt, images/ and the list of test pictures."""
    from PIL import Image, ImageFilter

    (folder / "images").mkdir(parents=True)
    (folder / "aesthetics_image_lists").mkdir()
    draw = random.Random(0)
    lines: list[str] = []
    test: list[str] = []
    photos = sorted(dataset("imagenet-samples").glob("*.JPEG"))
    for number, path in enumerate(photos):
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        photo.thumbnail((320, 320))
        for grade, (blur, quality) in enumerate(DAMAGE):
            identity = str(1000 + number * len(DAMAGE) + grade)
            content = io.BytesIO()
            photo.filter(ImageFilter.GaussianBlur(blur)).save(content, "JPEG", quality=quality)
            (folder / "images" / f"{identity}.jpg").write_bytes(content.getvalue())
            counts = [0] * 10
            mean = MEANS[grade] + draw.gauss(0, 0.3)
            for _ in range(VOTERS):
                counts[min(max(round(draw.gauss(mean, SPREADS[grade])), 1), 10) - 1] += 1
            lines.append(f"{len(lines) + 1} {identity} {' '.join(map(str, counts))} 0 0 0")
            if number % HELD_OUT == 0:
                test.append(identity)
    (folder / "AVA.txt").write_text("\n".join(lines) + "\n")
    (folder / "aesthetics_image_lists" / "generic_test.jpgl").write_text("\n".join(test) + "\n")
    return folder
