"""A SIGTERM in the middle of training, at a step of the test's choice."""

from __future__ import annotations

import os
import signal

import pytest

from striate.train import loop


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """SIGTERM as soon as the step, from 1 on, has been taken."""
    original, steps = loop.train_step, iter(range(1, 1000))

    def step_and_signal(trainer, batch):
        loss = original(trainer, batch)
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(loop, "train_step", step_and_signal)
