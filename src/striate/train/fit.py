"""A whole run on a data set: prepare, train epoch after epoch, evaluate, write the model file and the report."""

from __future__ import annotations

from pathlib import Path

import torch

from striate.config import Recipe
from striate.data.reader import read_sample
from striate.model_file import read_model, write_model
from striate.train.adversarial import under_attack
from striate.train.job import Job, make_split
from striate.train.prepare import prepare


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
        job.run.go(job)
        finish(job)
    finally:
        torch.set_num_threads(threads)
    return job.run.folder


def finish(job: Job) -> None:
    """Calibrate the best weights on validation, evaluate them on the test split (or validation), write file and
    report."""
    from striate.train.run_report import write_run_report

    trainer, file = job.trainer, job.run.folder / "model.safetensors"
    if not job.leads:
        trainer.accelerator.wait_for_everyone()
        return
    weights, _ = read_model(file)
    trainer.model.load_state_dict(weights)
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # without Accelerate's autocast
    model.eval()
    on_val, found = job.evaluated(job.val, model, alone=True)
    job.task.calibrate(on_val)
    split, data = "val", job.val
    if "test" in job.dataset.splits:
        split, data = "test", make_split(job.dataset, "test", job.task, job.recipe, job.preprocess)
        metrics, found = job.evaluated(data, model, alone=True)
    else:
        metrics = job.task.metrics()  # calibrated now, of the same predictions
        metrics.merge(on_val)
    values = metrics.compute()
    if job.recipe.adversarial:
        values |= under_attack(trainer, trainer.model, data, job.eval_batch)
    write_model(file, weights, job.card(values))
    samples = [data.samples[index] for index in found.indices]
    skipped = list(dict.fromkeys([*job.warnings(), *data.skipped]))  # each picture once
    write_run_report(job, split, metrics, job.task.sections(metrics, samples, read_sample), skipped)
    trainer.accelerator.wait_for_everyone()
