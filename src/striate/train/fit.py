"""A whole run: prepare, train epoch after epoch, judge, write the model file and the report."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from striate.config import Recipe
from striate.data.reader import read_sample
from striate.errors import StriateError
from striate.inference.evaluate import eval_batch_size
from striate.model_file import read_model, write_model
from striate.train.adversarial import under_attack
from striate.train.job import Job, make_split, prepare, save
from striate.train.loop import across_processes, outputs_of, train_epoch
from striate.train.progress import TrainingProgress
from striate.train.run import write_history
from striate.train.stopping import Interrupted, StopSignal


def fit(recipe: Recipe, *, resume: Path | None = None, quiet: bool = False) -> Path:
    """Train as the recipe says, or go on with the run in `resume`; returns the run's folder.

    Raises:
        DataError, UsageError: the data or the recipe will not do; nothing was written.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint was saved.
        StriateError: the loss became NaN, or the disk is full.
    """
    threads = torch.get_num_threads()
    try:
        job = prepare(recipe, resume, quiet)
        run_epochs(job)
        finish(job)
    finally:
        torch.set_num_threads(threads)
    return job.run


def run_epochs(job: Job) -> None:
    """All epochs that are left; each ends with validation, a row of history, and a checkpoint."""
    trainer, recipe, place = job.trainer, job.recipe, job.trainer.place
    steps = trainer.schedule.steps_per_epoch * recipe.accumulate
    progress = TrainingProgress(recipe.epochs, steps, deciding(job), job.quiet or not job.leads)
    for note in job.notes:
        progress.say(note)
    if place.step:
        progress.say(f"resumed at epoch {place.epoch + 1}, batch {place.batch + 1}")
    told = tell_unreadable(job, progress, set())
    with StopSignal() as stop, progress:
        watch = Watch(job, progress, stop)
        while place.epoch < recipe.epochs and not stopped_early(job):
            watch.epoch_begins()
            if recipe.transfer == "features":
                end_fitting(job, progress)
            else:
                train_epoch(trainer, job.train, job.draw_weights, watch.after_step)
                end_epoch(job, progress, watch.seconds(), watch.seen())
            told = tell_unreadable(job, progress, told)
            watch.save()
            watch.stop_if_asked()


def end_fitting(job: Job, progress: TrainingProgress) -> None:
    """The one epoch of a run whose head was fitted at once; its training loss is that of cross-validation."""
    place = job.trainer.place
    if job.head is not None:  # else it comes from a checkpoint
        place.loss_sum, place.batch = job.head.loss, 1
    end_epoch(job, progress, job.head.seconds if job.head is not None else 1.0, len(job.train))


def tell_unreadable(job: Job, progress: TrainingProgress, told: set[str]) -> set[str]:
    """Say which pictures were left out since the last time; returns all that have been told."""
    new = [message for message in dict.fromkeys([*job.train.skipped, *job.val.skipped]) if message not in told]
    if new:
        count = "1 picture" if len(new) == 1 else f"{len(new):,} pictures"
        progress.say(f"warning: {count} could not be read and stay out; the first: {new[0]}")
    return told | set(new)


class Watch:
    """What happens between two steps: the bar moves, an overdue checkpoint is saved, a request to stop is met."""

    def __init__(self, job: Job, progress: TrainingProgress, stop: StopSignal) -> None:
        self.job, self.progress, self.stop = job, progress, stop
        self.saved = time.monotonic()
        self.epoch_begins()

    def epoch_begins(self) -> None:
        self.began, self.seen_before = time.perf_counter(), self.job.trainer.place.seen

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def seen(self) -> int:
        return self.job.trainer.place.seen - self.seen_before

    def after_step(self) -> None:
        trainer, recipe, place = self.job.trainer, self.job.recipe, self.job.trainer.place
        if self.progress.due():
            lr = trainer.lr
            loss = place.loss_sum / place.batch
            self.progress.step(place.epoch, place.batch, loss, lr, self.seen() / max(self.seconds(), 1e-9))
        if place.batch % recipe.accumulate:
            return  # gradients of half a step are in no checkpoint
        if recipe.checkpoint_minutes and time.monotonic() - self.saved > 60 * recipe.checkpoint_minutes:
            self.save()
        if self.stop.asked:
            self.save()
            self.stop_if_asked()

    def save(self) -> None:
        """Save; a full disk is told and training goes on, for the next save may succeed."""
        self.saved = time.monotonic()
        if not self.job.leads:
            return
        try:
            save(self.job)
        except StriateError as error:
            self.progress.say(f"warning: {error} Training goes on; free some space.")

    def stop_if_asked(self) -> None:
        if self.stop.asked:
            raise Interrupted(f"stopped. Go on where it was last saved: striate train --resume {self.job.run}")


def stopped_early(job: Job) -> bool:
    place, patience = job.trainer.place, job.recipe.patience
    return bool(patience) and place.epoch - place.best_epoch >= patience and place.epoch > 0


def end_epoch(job: Job, progress: TrainingProgress, seconds: float, seen: int) -> None:
    """Validate, keep the weights if they are the best so far, write the row, move to the next epoch."""
    trainer, recipe, place = job.trainer, job.recipe, job.trainer.place
    judged = outputs_of(trainer.averaged, trainer, job.val, eval_batch(job))
    metrics = job.task.metrics()
    metrics.update(judged.outputs, judged.targets)
    values = metrics.compute()
    if recipe.adversarial:
        values |= under_attack(trainer, trainer.averaged, job.val, eval_batch(job))
    row = {
        "epoch": place.epoch + 1,
        "train_loss": across_processes(trainer.accelerator, place.loss_sum) / max(place.batch, 1),
        **({} if judged.loss is None else {"val_loss": judged.loss}),
        **{f"val_{name}": value for name, value in values.items()},
        "lr": trainer.lr,
        "images_per_second": seen * trainer.accelerator.num_processes / seconds,
        "seconds": seconds,
    }
    score = values[deciding(job)]
    is_best = score >= place.best
    place.history.append(row)
    trainer.schedule.epoch_ended(score > place.best)
    place.epoch, place.batch, place.loss_sum, place.seen = place.epoch + 1, 0, 0.0, 0
    if is_best:
        if score > place.best:
            place.best_epoch = place.epoch
        place.best = score
    if job.leads:
        if is_best:
            write_model(job.run / "model.safetensors", trainer.averaged.state_dict(), job.card(values))
        write_history(job.run, place.history)
        progress.epoch(row, is_best)


def deciding(job: Job) -> str:
    """The metric by which weights are kept: the task's best one, under attack where training is."""
    return f"{'adversarial_' if job.recipe.adversarial else ''}{job.task.metrics().best}"


def eval_batch(job: Job) -> int:
    return max(int(job.recipe.batch), eval_batch_size(job.preprocess.size))


def finish(job: Job) -> None:
    """Calibrate the best weights on validation, judge them on the test split (or validation), write file and report."""
    from striate.train.run_report import write_run_report

    trainer, run = job.trainer, job.run
    if not job.leads:
        trainer.accelerator.wait_for_everyone()
        return
    weights, _ = read_model(run / "model.safetensors")
    trainer.model.load_state_dict(weights)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # without Accelerate's autocast
    answers = outputs_of(model, trainer, job.val, eval_batch(job), alone=True)
    job.task.calibrate(answers.outputs, answers.targets)
    judged = "test" if "test" in job.dataset.splits else "val"
    data = job.val
    if judged == "test":
        data = make_split(job.dataset, "test", job.task, job.recipe, job.preprocess)
        answers = outputs_of(model, trainer, data, eval_batch(job), alone=True)
    metrics = job.task.metrics()
    metrics.update(answers.outputs, answers.targets)
    values = metrics.compute()
    if job.recipe.adversarial:
        values |= under_attack(trainer, trainer.model, data, eval_batch(job))
    write_model(run / "model.safetensors", weights, job.card(values))
    samples = [data.samples[int(index)] for index in answers.indices]
    skipped = list(dict.fromkeys([*job.train.skipped, *job.val.skipped, *data.skipped]))  # each picture once
    write_run_report(job, judged, metrics, job.task.sections(metrics, samples, read_sample), skipped)
    trainer.accelerator.wait_for_everyone()
