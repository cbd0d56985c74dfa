"""What a recipe becomes before the first step, in four steps: data, plan, network, job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import nn

from striate.config import Preprocess, Recipe
from striate.data import Dataset, open_dataset
from striate.data.statistics import fingerprint
from striate.device import keep_freed_memory, pick_device, pick_precision
from striate.errors import DataError, UsageError
from striate.files import write_atomic
from striate.tasks import TASKS, Task, check_name, create_task
from striate.tasks.task import FEATURES
from striate.train.adversarial import refuse_adversarial
from striate.train.checkpoints import load_checkpoint, save_checkpoint
from striate.train.job import Job, make_split, make_trainer, model_arguments
from striate.train.neighbours import learn_neighbours
from striate.train.recipe_files import make_recipe, read_recipe, recipe_yaml
from striate.train.recipes import refuse_unsupported, resolve
from striate.train.run import Run, run_folder
from striate.train.transfer import FittedHead, finetune_all, learn_head, resolve_transfer


def prepare(recipe: Recipe, resume: Path | None = None, quiet: bool = False, write: bool = True) -> Job:
    """Everything up to the first step; writes the run folder's recipe and a first checkpoint, if asked to `write`."""
    checkpoint = None
    if resume is not None:
        checkpoint = load_checkpoint(resume)
        recipe = make_recipe(read_recipe(resume / "recipe.yaml"), f"{resume / 'recipe.yaml'}:")
    data = open_data(recipe, checkpoint)
    plan = decide(recipe, data, checkpoint)
    network = build_network(plan, checkpoint)
    return assemble(network, resume, checkpoint, quiet, write)


# ---- 1. what to learn from ----


class Data(NamedTuple):
    dataset: Dataset
    mark: str  # the data's fingerprint


def open_data(recipe: Recipe, checkpoint: dict[str, Any] | None) -> Data:
    """The data set, with something to learn from and something to evaluate on, the same as when the run began.

    Raises:
        DataError: it is not.
        UsageError: no such task.
    """
    reads: tuple[str, ...] = ()
    if recipe.task != "auto":
        check_name(recipe.task)
        reads = TASKS[recipe.task].reads
    dataset = open_dataset(
        recipe.data,
        val_fraction=recipe.val_fraction,
        seed=recipe.seed,
        task=recipe.task,
        reads=reads,
        download=recipe.download,
    )
    for needed in ("train", "val"):
        if needed not in dataset.splits:
            raise DataError(
                f"{dataset.source}: there is no {needed} split to train with (found {', '.join(dataset.splits)})"
            )
    if recipe.limit:
        dataset.splits["train"] = limited(dataset.splits["train"], recipe.limit)
    mark = fingerprint(dataset)
    if checkpoint is not None and checkpoint["fingerprint"] != mark:
        raise DataError(
            f"{dataset.source}: the data changed since the run began, so it cannot be resumed exactly. Train anew"
        )
    return Data(dataset, mark)


def limited(samples: list[Any], most: int) -> list[Any]:
    """At most so many, spread evenly, so that classes in a row all stay."""
    step = max(1.0, len(samples) / most)
    return [samples[int(number * step)] for number in range(min(most, len(samples)))]


# ---- 2. what to do ----


@dataclass
class Plan:
    """A recipe with nothing left to choose, but for what public weights' features decide."""

    data: Data
    task: Task
    asked: Recipe  # as the user gave it
    recipe: Recipe
    preprocess: Preprocess
    accelerator: Accelerator
    notes: list[str]


def decide(recipe: Recipe, data: Data, checkpoint: dict[str, Any] | None) -> Plan:
    """Task, every `auto` of the recipe, preprocessing, device.

    Raises:
        UsageError: settings that exclude each other, or that the task does not support.
    """
    dataset, accelerator = data.dataset, make_accelerator(recipe)
    if checkpoint is not None:
        task = create_task(dataset.task, classes=dataset.classes, **checkpoint["task"])
        preprocess = Preprocess.model_validate(checkpoint["preprocess"])
        return Plan(data, task, recipe, recipe, preprocess, accelerator, [])
    if recipe.head == "neighbours" and (not recipe.weights or recipe.transfer in ("none", "finetune")):
        raise UsageError("head neighbours looks pictures up by their features: it needs weights and transfer features")
    task = create_task(dataset.task, classes=dataset.classes, **dataset.task_arguments, **recipe.task_options)
    refuse_unsupported(recipe, task)
    asked = recipe
    recipe, preprocess, notes = resolve(recipe, dataset, task, accelerator.device)
    task.fit_to_data(recipe.model, dataset.splits["train"], preprocess)
    told = [f"{dataset.format} data for task {dataset.task}: {len(dataset.classes)} classes", *dataset.notes, *notes]
    return Plan(data, task, asked, recipe, preprocess, accelerator, told)


# ---- 3. the network ----


@dataclass
class Network:
    plan: Plan
    model: nn.Module
    head: FittedHead | None = None  # fitted to features of public weights, before the first epoch


def build_network(plan: Plan, checkpoint: dict[str, Any] | None) -> Network:
    """The network, on fresh or public weights; on public ones the head is fitted first, which decides what else
    learns."""
    recipe, task, preprocess = plan.recipe, plan.task, plan.preprocess
    torch.set_num_threads(int(recipe.threads))  # recorded in the recipe: another number, another rounding
    if recipe.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(recipe.seed)
    fresh = checkpoint is None
    weights = {"weights": recipe.weights, "accept_license": recipe.accept_license} if fresh else {}
    arguments = model_arguments(recipe, preprocess, None if fresh else checkpoint["neighbours"])
    network = Network(plan, task.build(recipe.model, preprocess.channels, **weights, **arguments))
    if fresh and recipe.weights and recipe.transfer != "none":
        learn_on_top(network)
    refuse_adversarial(plan.recipe, network.model)
    if fresh and recipe.adversarial:
        passes = recipe.adversarial_steps + 1
        plan.notes.append(f"adversarial: {passes} passes a step instead of one, and an attack after each epoch")
    return network


def learn_on_top(network: Network) -> None:
    """Fit a head to the features of public weights, where the task can do with one, and decide what else learns."""
    plan, task, device = network.plan, network.plan.task, network.plan.accelerator.device
    if FEATURES in task.supports:
        as_they_are = plan.recipe.model_copy(update={"augment": None})
        plain = make_split(plan.data.dataset, "train", task, as_they_are, plan.preprocess)
        learn = learn_neighbours if plan.recipe.head == "neighbours" else learn_head
        network.head = learn(network.model, task, plain, device, plan.recipe.seed)
        counts, best = task.class_counts(plain.raw_targets), task.metrics().best
        plan.recipe, note = resolve_transfer(plan.recipe, plan.asked, network.head, counts, best)
    else:
        plan.recipe, note = finetune_all(plan.recipe, plan.asked, len(plan.data.dataset.splits["train"]))
    plan.notes.append(note)


# ---- 4. what learns, and where it is written ----


def assemble(network: Network, resume: Path | None, checkpoint: dict[str, Any] | None, quiet: bool, write: bool) -> Job:
    """Splits, optimisers, the run's folder; what a checkpoint holds is put back."""
    plan, dataset, task = network.plan, network.plan.data.dataset, network.plan.task
    recipe, preprocess, accelerator = plan.recipe, plan.preprocess, plan.accelerator
    train = make_split(dataset, "train", task, recipe, preprocess)
    val = make_split(dataset, "val", task, recipe, preprocess)
    trainer = make_trainer(task, recipe, network.model, preprocess, accelerator, train)
    sampler = task.sampler(train.raw_targets, int(recipe.batch), recipe.seed, recipe.sampling == "balanced")
    metrics = task.metrics()
    run = Run(
        resume if resume is not None else agreed_folder(recipe, task.name, accelerator),
        recipe.epochs,
        trainer.schedule.steps_per_epoch * recipe.accumulate,
        f"val_{'adversarial_' if recipe.adversarial else ''}{metrics.best}",
        metrics.mode,
        recipe.patience,
        recipe.accumulate,
        recipe.checkpoint_minutes,
        accelerator.num_processes,
        accelerator.is_main_process,
        quiet,
        plan.notes,
    )
    mark = plan.data.mark
    job = Job(run, dataset, task, recipe, preprocess, trainer, train, val, sampler, mark, network.head)
    if checkpoint is not None:
        trainer.load_state_dict(checkpoint["trainer"])
        if job.leads:
            for left_by_a_kill in run.folder.rglob("*.part"):
                left_by_a_kill.unlink()
    elif job.leads and write:
        write_atomic(run.folder / "recipe.yaml", recipe_yaml(absolute(recipe)))
        save_checkpoint(run.folder, job.checkpoint())
    accelerator.wait_for_everyone()
    return job


def agreed_folder(recipe: Recipe, task: str, accelerator: Accelerator) -> Path:
    """The run's folder, chosen by the leading process for all: the others would find it taken."""
    answer: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            answer = [run_folder(recipe, task)]
        except UsageError as error:
            answer = [error]
    broadcast_object_list(answer)
    if isinstance(answer[0], UsageError):
        raise answer[0]
    return answer[0]


def absolute(recipe: Recipe) -> Recipe:
    """With paths that hold from any folder, so that a run can be resumed from anywhere."""
    update = {
        key: str(Path(value).resolve())
        for key in ("data", "weights")
        if (value := getattr(recipe, key)) and Path(value).exists()
    }
    return recipe.model_copy(update=update)


def make_accelerator(recipe: Recipe) -> Accelerator:
    device = pick_device(recipe.device)
    if device.type == "cpu":
        keep_freed_memory()
    precision = pick_precision(recipe.precision, device)
    AcceleratorState._reset_state()  # a process may train several times, each with its own precision
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
