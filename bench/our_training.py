"""Our side of the training benchmarks: the trainer that `striate train` builds, and a script that times it on files.

As a script it prints {"images_per_second": …} over `--steps` steps after `--warmup` steps, like the peers' scripts, and
with it what `auto` chose. Pictures are decoded anew each time they are drawn, as the peers do, unless `--cache`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.harness import synchronize
from striate.config import Augment, Recipe
from striate.data.sample import Dataset, Sample
from striate.train.job import Job
from striate.train.loop import train_epoch
from striate.train.prepare import Data, assemble, build_network, decide, prepare


def random_pictures(count: int, channels: int, size: int, classes: int) -> Dataset:
    """Noise, held in memory, as train and val."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    samples = [Sample(picture, index % classes, f"train/{index}") for index, picture in enumerate(pictures)]
    names = tuple(f"class {index}" for index in range(classes))
    return Dataset("memory", "memory", "classify", names, {"train": samples, "val": samples[: 2 * classes]})


def job_on(dataset: Dataset, recipe: Recipe, out: Path) -> Job:
    """What `striate.train.job.prepare` makes, for a data set that is in memory; nothing is written yet."""
    plan = decide(recipe.model_copy(update={"out": str(out), "name": "bench"}), Data(dataset, ""), None)
    return assemble(build_network(plan, None), None, None, quiet=True, write=False)


def chosen(recipe: Recipe) -> dict[str, Any]:
    """What `auto` chose that decides speed."""
    return {key: getattr(recipe, key) for key in ("precision", "channels_last", "compile", "optimizer")}


class Enough(Exception):
    """Ends an epoch when all steps have been timed."""


def images_per_second(job: Job, warmup: int, steps: int, device: str) -> float:
    """Speed of `steps` steps of the loop, reading included, after `warmup` steps."""
    times: list[float] = []

    def after_step() -> None:
        if len(times) in (warmup - 1, warmup + steps - 1):
            synchronize(device)
        times.append(time.perf_counter())
        if len(times) == warmup + steps:
            raise Enough

    try:
        train_epoch(job.trainer, job.train_split, job.sampler, after_step)
    except Enough:
        return steps * int(job.recipe.batch) / (times[-1] - times[warmup - 1])
    raise SystemExit("the folder has too few pictures for this many steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=30, help="the length of training for which compile=auto decides")
    parser.add_argument(
        "--cache", action="store_true", help="decode each picture once, as striate train does by default"
    )
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as out:
        recipe = Recipe(
            data=options.folder,
            model=options.model,
            name="bench",
            out=out,
            epochs=options.epochs,
            size=options.size,
            batch=options.batch,
            workers=options.workers,
            device=options.device,
            cache=options.cache,
            normalize="imagenet",
            val_fraction=0.01,
            augment=Augment(crop="resized", crop_scale=(0.08, 1.0), hflip=0.5),  # as torchvision's reference
        )
        job = prepare(recipe, quiet=True)
        speed = images_per_second(job, options.warmup, options.steps, options.device)
    print(json.dumps({"images_per_second": speed, "torch": torch.__version__, **chosen(job.recipe)}))


if __name__ == "__main__":
    main()
