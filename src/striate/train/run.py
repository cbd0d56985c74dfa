"""A run: a folder, a progress line, signals, checkpoints, history; of anything that goes on in epochs.

`runs/<task>/<name>/` has model.safetensors, last/, recipe.yaml, metrics.jsonl and the report.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from striate.config import Recipe
from striate.errors import StriateError
from striate.files import refuse_overwrite, write_atomic
from striate.train.checkpoints import save_checkpoint
from striate.train.loop import TrainState
from striate.train.progress import TrainingProgress
from striate.train.stopping import Interrupted, StopSignal


class Training(Protocol):
    """What a run goes on with: a data set is one thing to learn from, a game would be another."""

    @property
    def state(self) -> TrainState: ...
    @property
    def lr(self) -> float: ...

    def train(self, after_step: Callable[[], None]) -> None:
        """The rest of the epoch at which `state` stands; `after_step` is called when a batch has been learnt."""
        ...

    def evaluate(self) -> dict[str, float]:
        """What the epoch's row says, `val_…` among it; on every process."""
        ...

    def epoch_ended(self, better: bool) -> None:
        """Whether the metric that decides was better than ever before."""
        ...

    def keep(self) -> None:
        """The weights that were just evaluated are the best so far: write the model file."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """All that an exact resume needs: tensors and plain values."""
        ...

    def warnings(self) -> list[str]:
        """What went wrong so far without stopping the run."""
        ...


@dataclass
class Run:
    """How a run goes on.

    Attributes:
        folder: where everything lies.
        epochs, steps: of the whole run; batches an epoch.
        decides: the key of a row by which weights are kept, and whether the largest or the smallest is best.
        patience: epochs without a better best after which it stops; 0: never.
        accumulate: checkpoints stand between whole steps of so many batches.
        processes: that learn together. leads: this one writes and speaks.
        notes: to be told before the first epoch.
    """

    folder: Path
    epochs: int
    steps: int
    decides: str
    mode: Literal["max", "min"] = "max"
    patience: int = 0
    accumulate: int = 1
    checkpoint_minutes: float = 5.0
    processes: int = 1
    leads: bool = True
    quiet: bool = False
    notes: list[str] = field(default_factory=list)

    def go(self, training: Training) -> None:
        """All epochs that are left; each ends with a row of history, and a checkpoint.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; a checkpoint was saved.
        """
        best = self.decides.removeprefix("val_")
        progress = TrainingProgress(self.epochs, self.steps, best, self.quiet or not self.leads)
        for note in self.notes:
            progress.say(note)
        if training.state.step:
            progress.say(f"resumed at epoch {training.state.epoch + 1}, batch {training.state.batch + 1}")
        told = tell(training, progress, set())
        with StopSignal() as stop, progress:
            watch = Watch(self, training, progress, stop)
            while training.state.epoch < self.epochs and not self.stopped_early(training.state):
                watch.epoch_begins()
                training.train(watch.after_step)
                self.end_epoch(training, progress, watch.seconds(), watch.images_seen())
                told = tell(training, progress, told)
                watch.save()
                watch.stop_if_asked()

    def stopped_early(self, state: TrainState) -> bool:
        return bool(self.patience) and state.epoch - state.best_epoch >= self.patience and state.epoch > 0

    def end_epoch(self, training: Training, progress: TrainingProgress, seconds: float, seen: int) -> None:
        """Evaluate, keep the weights if they are the best so far, write the row, move to the next epoch."""
        state = training.state
        speed = {"images_per_second": seen * self.processes / max(seconds, 1e-9), "seconds": seconds}
        values = training.evaluate()
        row = {"epoch": state.epoch + 1, **values, "lr": training.lr} | {**speed, **values}
        score = row[self.decides]
        gain = self.gain(score, state.best)
        at_least, better = gain >= 0, gain > 0  # neither where the score is no number
        state.history.append(row)
        training.epoch_ended(better)
        state.epoch, state.batch, state.loss_sum, state.images_seen = state.epoch + 1, 0, 0.0, 0
        if better:
            state.best_epoch = state.epoch
        if at_least:
            state.best = score
        if self.leads:
            if at_least:
                training.keep()
            write_history(self.folder, state.history)
            progress.epoch(row, at_least)

    def gain(self, score: float, best: float | None) -> float:
        """By how much a score is better than the best so far; infinite where there is none, NaN where it is none."""
        if best is None:
            return math.inf if math.isfinite(score) else math.nan
        return score - best if self.mode == "max" else best - score

    def save(self, training: Training) -> None:
        """The checkpoint for resume.

        Raises:
            StriateError: the disk is full; the checkpoint before still stands.
        """
        save_checkpoint(self.folder, training.checkpoint())


def tell(training: Training, progress: TrainingProgress, told: set[str]) -> set[str]:
    """Say what went wrong since the last time; returns all that has been told."""
    new = [message for message in dict.fromkeys(training.warnings()) if message not in told]
    if new:
        count = "1 picture" if len(new) == 1 else f"{len(new):,} pictures"
        progress.say(f"warning: {count} could not be read and stay out; the first: {new[0]}")
    return told | set(new)


class Watch:
    """What happens between two steps: the bar moves, an overdue checkpoint is saved, a request to stop is met."""

    def __init__(self, run: Run, training: Training, progress: TrainingProgress, stop: StopSignal) -> None:
        self.run, self.training, self.progress, self.stop = run, training, progress, stop
        self.saved = time.monotonic()
        self.epoch_begins()

    def epoch_begins(self) -> None:
        self.began, self.seen_before = time.perf_counter(), self.training.state.images_seen

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def images_seen(self) -> int:
        return self.training.state.images_seen - self.seen_before

    def after_step(self) -> None:
        run, state = self.run, self.training.state
        if self.progress.due():
            loss = state.loss_sum / state.batch
            speed = self.images_seen() / max(self.seconds(), 1e-9)
            self.progress.step(state.epoch, state.batch, loss, self.training.lr, speed)
        if state.batch % run.accumulate:
            return  # gradients of half a step are in no checkpoint
        if run.checkpoint_minutes and time.monotonic() - self.saved > 60 * run.checkpoint_minutes:
            self.save()
        if self.stop.asked:
            self.save()
            self.stop_if_asked()

    def save(self) -> None:
        """Save; a full disk is told and training goes on, for the next save may succeed."""
        self.saved = time.monotonic()
        if not self.run.leads:
            return
        try:
            self.run.save(self.training)
        except StriateError as error:
            self.progress.say(f"warning: {error} Training goes on; free some space.")

    def stop_if_asked(self) -> None:
        if self.stop.asked:
            raise Interrupted(f"stopped. Go on where it was last saved: striate train --resume {self.run.folder}")


def run_folder(recipe: Recipe, task: str) -> Path:
    """A free folder for a run. Without a name, the data's name and, where that is taken, a number behind it.

    Raises:
        UsageError: the name was given and is taken, and `overwrite` was not.
    """
    parent = Path(recipe.out) / task
    if recipe.name:
        folder = parent / recipe.name
        if any(folder.glob("*")):
            refuse_overwrite(folder, recipe.overwrite)
        return folder
    stem = Path(recipe.data.rstrip("/")).stem or "run"
    folder, number = parent / stem, 2
    while folder.exists() and not recipe.overwrite:
        folder, number = parent / f"{stem}-{number}", number + 1
    return folder


def write_history(run: Path, history: list[dict[str, float]]) -> None:
    """metrics.jsonl: one row an epoch."""
    write_atomic(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
