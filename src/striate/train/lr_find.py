"""The learning-rate range test (Smith 2017, section 3.3): raise the rate each step, watch the loss, suggest one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from striate.config import Recipe
from striate.errors import StriateError
from striate.files import write_atomic
from striate.train.job import Job
from striate.train.loop import train_step
from striate.train.prepare import prepare


@dataclass(frozen=True)
class RateTest:
    """rates and smoothed losses, one a step; the suggested peak rate."""

    rates: list[float]
    losses: list[float]
    suggestion: float

    def draw(self, path: str | Path) -> Path:
        from io import BytesIO

        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="#3566a8")
        axes.axvline(self.suggestion, color="#c0532c", linestyle="--", label=f"suggested: {self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)", title="Learning-rate range test")
        axes.set_ylim(min(self.losses) * 0.9, self.losses[0] * 1.3)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        picture = BytesIO()
        figure.savefig(picture, format="png", dpi=130)
        return write_atomic(path, picture.getvalue())


def find_rate(recipe: Recipe, lowest: float = 1e-6, highest: float = 10.0, steps: int = 120) -> RateTest:
    """Train up to `steps` steps from `lowest` to `highest`; stops when the loss is four times its best.

    Raises:
        StriateError: the loss never fell.
    """
    # the batch alone decides; what it does to schedules and averages is of no interest here
    job = prepare(recipe.model_copy(update={"schedule": "constant", "warmup": 0.0, "ema": 0.0}), write=False)
    trainer = job.trainer
    rates: list[float] = []
    losses: list[float] = []
    mean, best = 0.0, math.inf
    for net in trainer.nets.values():
        net.train()
    for step, batch in enumerate(endless(job)):
        if step == steps:
            break
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        trainer.recipe = trainer.recipe.model_copy(update={"lr": rate})
        try:
            loss = float(train_step(trainer, batch))
        except StriateError:
            break
        mean = 0.9 * mean + 0.1 * loss  # as in the momentum of Adam, with its correction below
        smooth = mean / (1 - 0.9 ** (step + 1))
        rates.append(rate)
        losses.append(smooth)
        best = min(best, smooth)
        if smooth > 4 * best:
            break
    return RateTest(rates, losses, steepest_rate(rates, losses))


def endless(job: Job):
    """Batches of one epoch after another."""
    epoch = 0
    while True:
        yield from job.train_split.batches(job.sampler, epoch=epoch)
        epoch += 1


def steepest_rate(rates: list[float], losses: list[float]) -> float:
    """A third of the rate at which the loss was lowest, but not below where it fell most steeply.

    Raises:
        StriateError: the loss did not fall.
    """
    if len(losses) < 5 or min(losses) > 0.99 * losses[0]:
        raise StriateError("the loss did not fall at any rate: look at the data (striate data show) or the model")
    lowest = losses.index(min(losses))
    slopes = torch.tensor(losses).diff()[: max(lowest, 1)]
    steepest = int(slopes.argmin())
    return max(rates[lowest] / 3, rates[steepest])
