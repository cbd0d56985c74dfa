"""One training step (forward, backward, optimiser), ResNet-50, 224×224, batch 16, 1,000 classes, pictures in memory.

ours:        `striate.train.loop.train_step` with all settings at `auto`: uint8 pictures are normalised within the step,
             channels_last, bf16 where the device has it natively, torch.compile where `auto` compiles a long training,
             the optimiser that `auto` takes, learning-rate schedule, NaN check.
torchvision: its ResNet-50 in the plain loop: eager, fp32, NCHW, SGD with momentum, on batches that are float tensors
             already and on the device already.

Both run in this process, `--steps` steps each in turn, after `--warmup` such turns. On a processor without bf16
instructions (AVX2) ours trains in fp32, and only layout and compilation differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench.harness import Comparison, interleave, throughput

PAIRS = 5
TARGET = 3.0  # times as fast, where the processor has bf16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2, help="timed together")
    parser.add_argument("--warmup", type=int, default=1, help="turns before the first that counts")
    parser.add_argument("--compile", choices=("auto", "yes", "no"), default="auto")


def measure(options: argparse.Namespace) -> list[Comparison]:
    our_step, facts = ours(options)
    sides = {
        "striate": throughput(our_step, options.batch, options.steps, options.device),
        "torchvision": throughput(theirs(options), options.batch, options.steps, options.device),
    }
    figures = interleave(sides, options.pairs, options.warmup)
    case = f"{options.model} {options.size} batch {options.batch}"
    speedup = median(Comparison("img/s", figures).ratios()["torchvision"])
    ok = speedup >= TARGET or options.device != "cpu" or facts["precision"] != "bf16"
    return [Comparison("img/s", figures, facts=facts, case=case, ok=ok)]


def ours(options: argparse.Namespace) -> tuple[Callable[[], object], dict[str, object]]:
    from bench.our_training import chosen, job_on, random_pictures
    from striate.config import Recipe
    from striate.data.loaders import Batch
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
    batch = next(job.train.batches(options.batch))
    batch = Batch(batch.images.to(options.device), batch.targets.to(options.device), batch.indices)
    job.trainer.net.train()
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
