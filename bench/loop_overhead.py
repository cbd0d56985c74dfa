"""What our loop costs over the bare forward-backward-step: same network, optimiser, precision, layout, batches.

loop: one epoch of `striate.train.fit.run_epochs`, everything at its default, on pictures in memory, without
      augmentation: drawing the batch, normalising uint8, seeds, schedule, NaN check, loss sums, a look whether to
      save. The time is that of the epoch's training part, as `metrics.jsonl` says it, without validation and
      checkpoints.
bare: as many steps on float batches that are ready: forward, backward, optimiser step, zero_grad.

The issue's target: less than 3 %. Two cases: the small network that `auto` takes for 28×28 grey pictures, batch 128;
and ResNet-18 at 128×128, batch 16.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.harness import Comparison, interleave, throughput

if TYPE_CHECKING:
    from striate.train.job import Job

PAIRS = 7
TARGET = 0.03
CASES = {  # name -> model, channels, size, batch, batches an epoch
    "small": ("auto", 1, 28, 128, 40),
    "middle": ("resnet18", 3, 128, 16, 5),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--longer", type=int, default=1, help="times as many batches an epoch")


def measure(options: argparse.Namespace) -> list[Comparison]:
    return [compare(case, options) for case in options.cases]


def compare(case: str, options: argparse.Namespace) -> Comparison:
    from bench.our_training import chosen, job_on, random_pictures
    from striate.config import Recipe

    model, channels, size, batch, batches = CASES[case]
    batches *= options.longer
    dataset = random_pictures(batch * batches, channels, size, 10)
    with tempfile.TemporaryDirectory(prefix="striate-bench-") as where:
        # as many epochs as there may be; `loop` lets them go one by one, and the schedule must not end before
        recipe = Recipe(
            model=model, batch=batch, size=size, epochs=10_000, device=options.device, augment="none", compile=False
        )
        job = job_on(dataset, recipe, Path(where))

        def loop() -> float:
            job.run.epochs = job.state.epoch + 1
            job.run.go(job)
            return job.state.history[-1]["images_per_second"]

        step = bare_step(job)
        sides = {"loop": loop, "bare": throughput(step, batch, batches, options.device)}
        figures = interleave(sides, options.pairs, warmup=1)
    found = Comparison("img/s", figures, case=case)
    cost = 1 / median(found.ratios()["bare"]) - 1
    facts = {"model": job.recipe.model, **chosen(job.recipe), "cost of the loop": f"{cost:.1%}"}
    return Comparison("img/s", figures, facts=facts, case=case, ok=cost < TARGET)


def bare_step(job: Job) -> Callable[[], object]:
    """A step on ready batches with a network, an optimiser and a precision like the job's, in a loop people write."""
    import copy
    from itertools import cycle

    from torch.nn import functional as F

    from striate.train.optimizers import make_optimizer

    recipe, trainer = job.recipe, job.trainer
    assert recipe.lr is not None
    assert recipe.weight_decay is not None  # resolved
    model = copy.deepcopy(trainer.model).train()
    lr = recipe.lr * trainer.schedule.factor(0)  # the loop's, in which a run this short stays
    optimizer = make_optimizer(model, recipe.optimizer, lr, recipe.momentum, recipe.weight_decay)
    device = trainer.accelerator.device
    ready = [
        (trainer.to_device(batch.images), batch.targets.to(device)) for batch in job.train_split.batches(job.sampler)
    ]
    endless = cycle(ready)

    def step() -> None:
        images, targets = next(endless)
        with trainer.accelerator.autocast():
            outputs = model(images)
        loss = F.cross_entropy(outputs.float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
