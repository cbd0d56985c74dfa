"""Learning-rate schedules: each a factor of the peak rate, a function of how far training has come."""

from __future__ import annotations

import math
from dataclasses import dataclass


def cosine(progress: float) -> float:
    """1 at the start, 0 at the end (Loshchilov & Hutter 2017, eq. 5 without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def onecycle(progress: float, rise: float = 0.25, start: float = 0.04) -> float:
    """Up from `start` to 1 in the first `rise` of training, then down to almost 0, in cosines (Smith & Topin 2018)."""
    if progress < rise:
        return start + (1 - start) * (1 - cosine(progress / rise))
    return max(cosine((progress - rise) / (1 - rise)), 1e-4)


@dataclass
class Schedule:
    """The factor at a step. Only `plateau` has memory (`reductions`); all else is a function of the step.

    Args:
        name: constant, cosine, onecycle, step or plateau.
        steps: optimiser steps of the whole run.
        steps_per_epoch: to turn steps into epochs.
        warmup: epochs of linear rise from 0 before (onecycle has its own).
        step_epochs, step_gamma: `step` multiplies by gamma every so many epochs; `plateau` by the same gamma when the
            deciding metric has not improved for `plateau_patience` epochs.
    """

    name: str
    steps: int
    steps_per_epoch: int
    warmup: float = 0.0
    step_epochs: int = 30
    step_gamma: float = 0.1
    plateau_patience: int = 3
    reductions: int = 0
    waited: int = 0

    def factor(self, step: int) -> float:
        rise = round(self.warmup * self.steps_per_epoch)
        if self.name != "onecycle" and step < rise:
            return (step + 1) / rise
        progress = min((step - rise) / max(self.steps - rise, 1), 1.0)
        match self.name:
            case "constant":
                return 1.0
            case "cosine":
                return cosine(progress)
            case "onecycle":
                return onecycle(min(step / max(self.steps, 1), 1.0))
            case "step":
                return self.step_gamma ** (step // (self.step_epochs * self.steps_per_epoch))
            case "plateau":
                return self.step_gamma**self.reductions
        raise ValueError(self.name)

    def epoch_ended(self, improved: bool) -> None:
        """Tell a plateau schedule how the epoch went."""
        self.waited = 0 if improved else self.waited + 1
        if self.name == "plateau" and self.waited > self.plateau_patience:
            self.reductions += 1
            self.waited = 0
