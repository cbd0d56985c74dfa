"""One training step (forward, backward, optimiser), ResNet-50, 224×224, batch 16, 1,000 classes, pictures in memory.

ours:        `striate.train.loop.train_step` with all settings at `auto`: uint8 pictures are normalised within the step,
             channels_last, bf16 where the device has it natively, torch.compile where `auto` compiles a long training,
             the optimiser that `auto` takes, learning-rate schedule, NaN check.
torchvision: its ResNet-50 in the plain loop: eager, fp32, NCHW, SGD with momentum, on batches that are float tensors
             already and on the device already.

Each side is a process of its own (ours changes how the process keeps memory, which the other must not profit from);
the processes run in turn, `--steps` steps each after `--warmup` steps. On a processor without bf16 instructions (AVX2)
ours trains in fp32, and only layout and memory differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import Comparison, Side, interleave, reported, throughput

PAIRS = 5
TARGET = 3.0  # times as fast, where the processor has bf16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="timed together")
    parser.add_argument("--warmup", type=int, default=2, help="steps of each process before its clock starts")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto")


def measure(options: argparse.Namespace) -> list[Comparison]:
    names = ("model", "size", "batch", "steps", "warmup", "compile", "device")
    flags = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    facts: dict[str, Any] = {}

    def side(name: str) -> Side:
        command = [sys.executable, "-m", "bench.train_step", name, *flags]
        return reported(command, "images_per_second", facts.setdefault(name, {}))

    figures = interleave({"striate": side("striate"), "torchvision": side("torchvision")}, options.pairs)
    case = f"{options.model} {options.size} batch {options.batch}"
    speedup = median(Comparison("img/s", figures).ratios()["torchvision"])
    ok = speedup >= TARGET or options.device != "cpu" or facts["striate"].get("precision") != "bf16"
    return [Comparison("img/s", figures, facts=facts, case=case, ok=ok)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("striate", "torchvision"))
    parser.add_argument("--device", default="cpu")
    add_arguments(parser)
    options = parser.parse_args()
    step, facts = ours(options) if options.side == "striate" else (theirs(options), {})
    for _ in range(options.warmup):
        step()
    speed = throughput(step, options.batch, options.steps, options.device)()
    print(json.dumps({"images_per_second": speed, **facts}))


def ours(options: argparse.Namespace) -> tuple[Callable[[], object], dict[str, object]]:
    from bench.our_training import chosen, job_on, random_pictures
    from striate.config import Recipe
    from striate.tasks.step import SHIPPED
    from striate.train.loop import train_step

    recipe = Recipe(
        model=options.model,
        size=options.size,
        batch=options.batch,
        device=options.device,
        normalize="imagenet",
        augment="none",
        epochs=1_000_000,  # a long training: compile=auto decides for one
        compile={"auto": "auto", "yes": True, "no": False}[options.compile],
    )
    dataset = random_pictures(options.batch, 3, options.size, 10)
    dataset.classes = tuple(f"class {index}" for index in range(1000))
    job = job_on(dataset, recipe, Path("unused"))
    batch = next(job.train_split.batches(job.sampler))
    batch = replace(batch, images=batch.images.to(options.device), targets=batch.targets.to(options.device))
    job.trainer.nets[SHIPPED].train()
    return lambda: train_step(job.trainer, batch), chosen(job.recipe)


def theirs(options: argparse.Namespace) -> Callable[[], object]:
    import torch
    import torchvision

    model = torchvision.models.get_model(options.model, weights=None).to(options.device)
    model.train()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    targets = torch.arange(options.batch, device=options.device)

    def step() -> None:
        loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
