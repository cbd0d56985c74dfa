"""What a person sees while a network trains: a bar on a terminal, one line an epoch elsewhere, on stderr."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Loss, learning rate, pictures a second, time left; then a line for every epoch that ended."""

    def __init__(self, epochs: int, steps_per_epoch: int, best: str, quiet: bool = False) -> None:
        self.epochs, self.steps_per_epoch, self.best = epochs, steps_per_epoch, best
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        self.bar: Progress | None = None
        self.shown = 0.0
        if self.console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn(
                    "loss {task.fields[loss]:.4f}  lr {task.fields[lr]:.2g}  {task.fields[speed]:,.0f} img/s  left"
                ),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=epochs * steps_per_epoch, epoch=1, loss=0.0, lr=0.0, speed=0.0)

    def __enter__(self) -> TrainingProgress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, epoch: int, batch: int, loss: float, lr: float, speed: float) -> None:
        """At most ten times a second; callers ask `due()` first, so that a GPU is not waited for each step."""
        if self.bar is not None:
            done = epoch * self.steps_per_epoch + batch
            self.bar.update(self.task, completed=done, epoch=epoch + 1, loss=loss, lr=lr, speed=speed)

    def due(self) -> bool:
        now = time.monotonic()
        if self.bar is None or now - self.shown < 0.1:
            return False
        self.shown = now
        return True

    def epoch(self, row: dict[str, Any], is_best: bool) -> None:
        value = row.get(f"val_{self.best}", float("nan"))
        val_loss = f"  val loss {row['val_loss']:.4f}" if "val_loss" in row and self.best != "loss" else ""
        self.console.print(
            f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['train_loss']:.4f}{val_loss}  "
            f"val {self.best} {value:.4f}{' *' if is_best else '  '}  {row['images_per_second']:,.0f} img/s  "
            f"{row['seconds']:.1f} s",
            markup=False,
        )

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)
