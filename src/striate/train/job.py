"""A run with nothing left to decide: data opened, recipe settled, network and optimiser made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from striate.backbones import MODELS
from striate.config import ModelCard, Preprocess, Recipe
from striate.data import Dataset, open_dataset
from striate.data.loaders import Split
from striate.data.statistics import fingerprint
from striate.data.transforms import Normalize
from striate.device import keep_freed_memory, pick_device, pick_precision
from striate.errors import DataError, UsageError
from striate.files import write_atomic
from striate.tasks import Task, check_name, create_task
from striate.train.adversarial import refuse_adversarial
from striate.train.checkpoints import load_checkpoint, save_checkpoint
from striate.train.loop import Trainer
from striate.train.neighbours import learn_neighbours, neighbours_of
from striate.train.optimizers import make_optimizer
from striate.train.recipes import resolve
from striate.train.run import make_recipe, read_recipe, recipe_yaml, run_folder
from striate.train.schedules import Schedule
from striate.train.transfer import Learnt, learn_head, rate_scales, settle, settle_places


@dataclass
class Job:
    """A run with nothing left to decide."""

    run: Path
    dataset: Dataset
    task: Task
    recipe: Recipe
    preprocess: Preprocess
    trainer: Trainer
    train: Split
    val: Split
    draw_weights: Tensor | None  # float [N]: how often each training picture is drawn, if not equally
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    quiet: bool = False
    head: Learnt | None = None  # fitted to features of public weights, before the first epoch

    @property
    def leads(self) -> bool:
        """This process writes and speaks."""
        return self.trainer.accelerator.is_main_process

    def card(self, metrics: dict[str, float]) -> ModelCard:
        return ModelCard(
            task=self.task.name,
            architecture=self.recipe.model,
            arguments=model_arguments(self.recipe, self.preprocess, neighbours_of(self.trainer.model)),
            classes=list(self.task.classes),
            preprocess=self.preprocess,
            task_arguments=self.task.arguments,
            metrics=metrics,
            recipe=self.recipe.model_dump(mode="json"),
            data_fingerprint=self.fingerprint,
            striate_version=version("striate"),
        )


def model_arguments(recipe: Recipe, preprocess: Preprocess, neighbours: dict[str, Any] | None = None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dropout": recipe.dropout, "image_size": list(preprocess.size)}
    if neighbours is not None:
        return arguments | {"neighbours": neighbours}
    new_head = recipe.weights is not None or (recipe.model in MODELS and not MODELS[recipe.model].own_head)
    return arguments | ({"linear_head": True} if new_head and recipe.transfer != "none" else {})


def prepare(recipe: Recipe, resume: Path | None = None, quiet: bool = False, write: bool = True) -> Job:
    """Everything up to the first step; writes the run folder's recipe and a first checkpoint, if asked to `write`."""
    state = None
    if resume is not None:
        state = load_checkpoint(resume)
        recipe = make_recipe(read_recipe(resume / "recipe.yaml"), f"{resume / 'recipe.yaml'}:")
    if recipe.task != "auto":
        check_name(recipe.task)
    dataset = open_dataset(
        recipe.data, val_fraction=recipe.val_fraction, seed=recipe.seed, task=recipe.task, download=recipe.download
    )
    for needed in ("train", "val"):
        if needed not in dataset.splits:
            raise DataError(
                f"{dataset.source}: there is no {needed} split to train with (found {', '.join(dataset.splits)})"
            )
    if recipe.limit:
        dataset.splits["train"] = limited(dataset.splits["train"], recipe.limit)
    mark = fingerprint(dataset)
    if state is not None and state["fingerprint"] != mark:
        raise DataError(
            f"{dataset.source}: the data changed since the run began, so it cannot be resumed exactly. Train anew"
        )
    if recipe.head == "neighbours" and (not recipe.weights or recipe.transfer in ("none", "finetune")):
        raise UsageError("head neighbours looks pictures up by their features: it needs weights and transfer features")
    accelerator = make_accelerator(recipe)
    asked = recipe
    known = state["task"] if state is not None else dataset.task_arguments
    task = create_task(dataset.task, classes=dataset.classes, **known)
    if state is None:
        recipe, preprocess, notes = resolve(recipe, dataset, task, accelerator.device)
        task.fit_to_data(recipe.model, dataset.splits["train"], preprocess)
        notes = [
            f"{dataset.format} data for task {dataset.task}: {len(dataset.classes)} classes",
            *dataset.notes,
            *notes,
        ]
    else:
        preprocess, notes = Preprocess.model_validate(state["preprocess"]), []
    torch.set_num_threads(int(recipe.threads))  # recorded in the recipe: another number, another rounding
    if recipe.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(recipe.seed)
    weights = {"weights": recipe.weights, "accept_license": recipe.accept_license} if state is None else {}
    remembered = state["neighbours"] if state is not None else None
    arguments = model_arguments(recipe, preprocess, remembered)
    model = task.build(recipe.model, preprocess.channels, **weights, **arguments)
    head = None
    if recipe.weights and recipe.transfer != "none" and state is None and task.spatial:
        recipe, note = settle_places(recipe, asked, len(dataset.splits["train"]))
        notes.append(note)
    elif recipe.weights and recipe.transfer != "none" and state is None:
        plain = make_split(dataset, "train", task, recipe.model_copy(update={"augment": None}), preprocess)
        learn = learn_neighbours if recipe.head == "neighbours" else learn_head
        head = learn(model, task, plain, accelerator.device, recipe.seed)
        recipe, note = settle(recipe, asked, head, task.class_counts(plain.targets), task.metrics().best)
        notes.append(note)
    refuse_adversarial(recipe, model)
    if recipe.adversarial:
        passes = recipe.adversarial_steps + 1
        notes.append(f"adversarial: {passes} passes a step instead of one, and an attack after each epoch")
    train = make_split(dataset, "train", task, recipe, preprocess)
    val = make_split(dataset, "val", task, recipe, preprocess)
    draw_weights = task.sample_weights(train.targets) if recipe.sampling == "balanced" else None
    trainer = make_trainer(task, recipe, model, preprocess, accelerator, train)
    run = resume if resume is not None else agreed_folder(recipe, task.name, accelerator)
    job = Job(run, dataset, task, recipe, preprocess, trainer, train, val, draw_weights, mark, notes, quiet, head)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
        if job.leads:
            for left_by_a_kill in run.rglob("*.part"):
                left_by_a_kill.unlink()
    elif job.leads and write:
        write_atomic(run / "recipe.yaml", recipe_yaml(absolute(recipe)))
        save(job)
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


def limited(samples: list[Any], most: int) -> list[Any]:
    """At most so many, spread evenly, so that classes in a row all stay."""
    step = max(1.0, len(samples) / most)
    return [samples[int(number * step)] for number in range(min(most, len(samples)))]


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


def make_split(dataset: Dataset, name: str, task: Task, recipe: Recipe, preprocess: Preprocess) -> Split:
    samples = dataset.splits[name]
    return Split(
        samples,
        task.collate([sample.target for sample in samples]),
        preprocess,
        augment=recipe.augment if name == "train" else None,  # type: ignore[arg-type]
        cache=recipe.cache,
        workers=int(recipe.workers),
        seed=recipe.seed,
        collate=task.collate if task.spatial else None,
        pairs=task.pairs,
    )


def make_trainer(
    task: Task, recipe: Recipe, model: torch.nn.Module, preprocess: Preprocess, accelerator: Accelerator, train: Split
) -> Trainer:
    device = accelerator.device
    model = model.to(device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if accelerator.num_processes > 1 and device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert recipe.lr is not None  # resolved
    assert recipe.weight_decay is not None
    scales = None
    if recipe.transfer == "finetune":
        scales = rate_scales(model, recipe.layer_decay, recipe.frozen_stages)
    optimizer = make_optimizer(model, recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay, scales)
    ema = averaged(model, recipe.ema) if recipe.ema else None
    net = accelerator.prepare_model(torch.compile(model) if recipe.compile is True else model)  # type: ignore[arg-type]
    class_weights = None
    if recipe.class_weights == "balanced":
        counts = task.class_counts(train.targets)
        class_weights = (counts.sum() / (len(counts) * counts.clamp(min=1))).to(device)
    batches = (
        math.ceil(len(train) / int(recipe.batch)) if len(train) < int(recipe.batch) else len(train) // int(recipe.batch)
    )
    steps_per_epoch = math.ceil(batches / recipe.accumulate)
    schedule = Schedule(
        recipe.schedule,
        recipe.epochs * steps_per_epoch,
        steps_per_epoch,
        recipe.warmup,
        recipe.step_epochs,
        recipe.step_gamma,
    )
    return Trainer(
        task=task,
        recipe=recipe,
        model=model,
        net=net,
        normalize=Normalize(preprocess).to(device),
        # Accelerate's wrapper is for scaled fp16 gradients, and takes 0.2 ms a step
        optimizer=optimizer if accelerator.scaler is None else accelerator.prepare_optimizer(optimizer),
        schedule=schedule,
        accelerator=accelerator,
        ema=ema,
        class_weights=class_weights,
    )


def averaged(model: torch.nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics; young averages forget faster."""

    @torch.no_grad()
    def average(kept: list[Tensor], new: list[Tensor], count: Tensor) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, new, 1 - now)
        else:
            torch._foreach_copy_(kept, new)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]


def save(job: Job) -> None:
    """The checkpoint for resume."""
    state = {
        "trainer": job.trainer.state_dict(),
        "preprocess": job.preprocess.model_dump(mode="json"),
        "task": job.task.arguments,
        "neighbours": neighbours_of(job.trainer.model),
        "fingerprint": job.fingerprint,
        "torch": str(torch.__version__),
    }
    save_checkpoint(job.run, state)
