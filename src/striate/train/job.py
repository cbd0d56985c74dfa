"""Training on a data set: what an epoch of it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from striate.backbones import MODELS
from striate.config import ModelCard, Preprocess, Recipe
from striate.data import Dataset
from striate.data.loaders import Split
from striate.data.samplers import Sampler
from striate.data.transforms import Normalize
from striate.inference.evaluate import EvalOutputs, collect_outputs, eval_batch_size
from striate.inference.predictor import Predictor
from striate.model_file import write_model
from striate.tasks import Metrics, Task
from striate.tasks.step import SHIPPED
from striate.train.adversarial import under_attack
from striate.train.loop import Trainer, TrainState, across_processes, train_epoch
from striate.train.neighbours import neighbours_of
from striate.train.optimizers import make_optimizer
from striate.train.run import Run
from striate.train.schedules import Schedule
from striate.train.transfer import FittedHead, rate_scales


@dataclass
class Job:
    """A training on a data set with nothing left to decide: a `Training` that a `Run` goes on with."""

    run: Run
    dataset: Dataset
    task: Task
    recipe: Recipe
    preprocess: Preprocess
    trainer: Trainer
    train_split: Split
    val: Split
    sampler: Sampler
    fingerprint: str
    head: FittedHead | None = None
    values: dict[str, float] = field(default_factory=dict)  # of the last evaluation

    @property
    def state(self) -> TrainState:
        return self.trainer.state

    @property
    def lr(self) -> float:
        return self.trainer.lr

    @property
    def leads(self) -> bool:
        """This process writes and speaks."""
        return self.trainer.accelerator.is_main_process

    @property
    def eval_batch(self) -> int:
        return max(int(self.recipe.batch), eval_batch_size(self.preprocess.size))

    def train(self, after_step: Callable[[], None]) -> None:
        if self.recipe.transfer != "features":
            train_epoch(self.trainer, self.train_split, self.sampler, after_step)
        elif self.head is not None:  # else its weights come from a checkpoint
            self.state.loss_sum, self.state.batch = self.head.loss, 1  # that of cross-validation

    def evaluate(self) -> dict[str, float]:
        """Validation: metrics of all processes together, the mean losses."""
        trainer, state = self.trainer, self.state
        trainer.averaged.eval()
        metrics, found = self.evaluated(self.val, trainer.averaged, alone=False)
        self.values = metrics.compute()
        if self.recipe.adversarial:
            self.values |= under_attack(trainer, trainer.averaged, self.val, self.eval_batch)
        fitted = {}
        if self.recipe.transfer == "features":
            seconds = self.head.seconds if self.head is not None else 1.0
            fitted = {"images_per_second": len(self.train_split) / seconds, "seconds": seconds}
        return {
            "train_loss": across_processes(trainer.accelerator, state.loss_sum) / max(state.batch, 1),
            **({} if found.loss is None else {"val_loss": found.loss}),
            **{f"val_{name}": value for name, value in self.values.items()},
            **fitted,
        }

    def evaluated(self, data: Split, model: nn.Module, *, alone: bool) -> tuple[Metrics, EvalOutputs]:
        """Metrics of a split. Every process takes its share and all get the whole; `alone`, this one does it all while
        the others wait, in full precision, so that the report says what `evaluate` will."""
        trainer, accelerator = self.trainer, self.trainer.accelerator

        def engine(images: Tensor) -> Any:
            if alone:
                return model(trainer.to_device(images))
            with accelerator.autocast():
                return model(trainer.to_device(images))

        predictor = Predictor(engine, self.task, self.preprocess, accelerator.device)
        rank, world = (0, 1) if alone else (accelerator.process_index, accelerator.num_processes)
        metrics = self.task.metrics()
        found = collect_outputs(
            predictor, data, metrics, self.eval_batch, rank=rank, world=world, loss=None if alone else self.task.loss
        )
        if world == 1:
            return metrics, found
        shares: list[Any] = [None] * world
        torch.distributed.all_gather_object(shares, (metrics, found))
        return merged(self.task.metrics(), shares)

    def epoch_ended(self, better: bool) -> None:
        self.trainer.schedule.epoch_ended(better)

    def keep(self) -> None:
        write_model(self.run.folder / "model.safetensors", self.trainer.averaged.state_dict(), self.card(self.values))

    def checkpoint(self) -> dict[str, Any]:
        return {
            "trainer": self.trainer.state_dict(),
            "preprocess": self.preprocess.model_dump(mode="json"),
            "task": self.task.arguments,
            "neighbours": neighbours_of(self.trainer.model),
            "fingerprint": self.fingerprint,
            "torch": str(torch.__version__),
        }

    def warnings(self) -> list[str]:
        return [*self.train_split.skipped, *self.val.skipped]

    def card(self, metrics: dict[str, float]) -> ModelCard:
        return ModelCard(
            task=self.task.name,
            architecture=self.recipe.model,
            arguments=model_arguments(self.recipe, self.preprocess, neighbours_of(self.trainer.model)),
            classes=list(self.task.classes),
            preprocess=self.task.deployed(self.preprocess),
            task_arguments=self.task.arguments,
            metrics=metrics,
            recipe=self.recipe.model_dump(mode="json"),
            data_fingerprint=self.fingerprint,
            striate_version=version("striate"),
        )


def merged(whole: Metrics, shares: Sequence[tuple[Metrics, EvalOutputs]]) -> tuple[Metrics, EvalOutputs]:
    """What several processes found as one: their pictures one process after another, the mean of their losses."""
    for metrics, _ in shares:
        whole.merge(metrics)
    indices = [index for _, found in shares for index in found.indices]
    losses = [found.loss * len(found.indices) for _, found in shares if found.loss is not None]
    return whole, EvalOutputs(indices, sum(losses) / max(1, len(indices)) if losses else None)


def model_arguments(recipe: Recipe, preprocess: Preprocess, neighbours: dict[str, Any] | None = None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"dropout": recipe.dropout, "image_size": list(preprocess.size)}
    if neighbours is not None:
        return arguments | {"neighbours": neighbours}
    new_head = recipe.weights is not None or (recipe.model in MODELS and not MODELS[recipe.model].own_head)
    return arguments | ({"linear_head": True} if new_head and recipe.transfer != "none" else {})


def make_split(dataset: Dataset, name: str, task: Task, recipe: Recipe, preprocess: Preprocess) -> Split:
    return Split(
        dataset.splits[name],
        task.collate,
        preprocess,
        augment=recipe.augment if name == "train" else None,  # type: ignore[arg-type]
        cache=recipe.cache,
        workers=int(recipe.workers),
        seed=recipe.seed,
        pairs=task.pairs,
        target_transform=task.target_transform,
    )


def make_trainer(
    task: Task, recipe: Recipe, model: nn.Module, preprocess: Preprocess, accelerator: Accelerator, train: Split
) -> Trainer:
    """The task's step with its networks on the device, an optimiser for each, a schedule for all."""
    device = accelerator.device
    class_weights = None
    if recipe.class_weights == "balanced":
        counts = task.class_counts(train.raw_targets)
        class_weights = (counts.sum() / (len(counts) * counts.clamp(min=1))).to(device)
    step = task.step(model, recipe, class_weights)
    assert recipe.lr is not None  # resolved
    assert recipe.weight_decay is not None
    nets: dict[str, nn.Module] = {}
    ema = None
    for name, network in step.networks.items():
        network = network.to(device)
        if recipe.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if accelerator.num_processes > 1 and device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        scales = None
        if recipe.transfer == "finetune" and name == SHIPPED:
            scales = rate_scales(network, recipe.layer_decay, recipe.frozen_stages)
        optimizer = make_optimizer(network, recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay, scales)
        if recipe.ema and name == SHIPPED:
            ema = averaged(network, recipe.ema)
        step.networks[name] = network
        nets[name] = accelerator.prepare_model(torch.compile(network) if recipe.compile is True else network)  # type: ignore[arg-type]
        # Accelerate's wrapper is for scaled fp16 gradients, and takes 0.2 ms a step
        step.optimizers[name] = optimizer if accelerator.scaler is None else accelerator.prepare_optimizer(optimizer)
    whole, batch = len(train), int(recipe.batch)
    batches = math.ceil(whole / batch) if whole < batch else whole // batch
    steps_per_epoch = math.ceil(batches / recipe.accumulate)
    schedule = Schedule(
        recipe.schedule,
        recipe.epochs * steps_per_epoch,
        steps_per_epoch,
        recipe.warmup,
        recipe.step_epochs,
        recipe.step_gamma,
    )
    return Trainer(task, recipe, step, nets, Normalize(preprocess).to(device), schedule, accelerator, ema)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics; young averages forget faster."""

    @torch.no_grad()
    def average(kept: list[Tensor], new: list[Tensor], count: Tensor) -> None:
        now = min(decay, (1 + int(count)) / (10 + int(count)))
        if kept[0].is_floating_point():
            torch._foreach_lerp_(kept, new, 1 - now)
        else:
            torch._foreach_copy_(kept, new)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
