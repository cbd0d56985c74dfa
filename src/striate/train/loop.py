"""The training loop: batch → loss → backward → step, one epoch after another.

Every random number comes from (seed, epoch, batch), so a checkpoint needs no generator states and a resumed run is the
same run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from striate.config import Recipe
from striate.data.loaders import Batch, BatchSource
from striate.data.mixing import mix
from striate.data.samplers import Sampler
from striate.data.seeds import seed_of
from striate.data.transforms import Normalize
from striate.errors import StriateError
from striate.tasks import Task
from striate.tasks.step import SHIPPED, Step
from striate.train.adversarial import attacked
from striate.train.schedules import Schedule
from striate.train.transfer import keep_still


@dataclass
class TrainState:
    """Where a run stands; all of it goes into a checkpoint."""

    epoch: int = 0  # of the batch to come
    batch: int = 0  # within the epoch
    step: int = 0  # optimiser steps so far
    loss_sum: float = 0.0  # of this epoch
    images_seen: int = 0  # of this epoch
    best: float | None = None  # value of the metric that decides
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainer:
    """What a step needs, and what it may do: it is the Learner of `striate.tasks.step`.

    Attributes:
        step: owns the networks and optimisers.
        nets: its networks as they run: compiled, wrapped for several processes.
    """

    task: Task
    recipe: Recipe
    step: Step
    nets: dict[str, nn.Module]
    normalize: Normalize
    schedule: Schedule
    accelerator: Accelerator
    ema: AveragedModel | None = None
    state: TrainState = field(default_factory=TrainState)
    pending: list[Tensor] = field(default_factory=list)  # losses not yet looked at

    @property
    def model(self) -> nn.Module:
        """The network that a model file ships."""
        return self.step.networks[SHIPPED]

    @property
    def lr(self) -> float:
        """The learning rate of the head, or of all: what the last step used."""
        group = self.step.optimizers[SHIPPED].param_groups[-1]
        return group["lr"] / group["scale"]

    @property
    def averaged(self) -> nn.Module:
        """The weights to evaluate and keep: the averaged ones where there are such."""
        return self.ema.module if self.ema is not None else self.model

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] to float, normalised, on the device, in the memory layout the network wants."""
        images = images.to(self.accelerator.device, non_blocking=True)
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return self.normalize(images.contiguous(memory_format=layout))

    def update(self, loss: Tensor, *names: str) -> None:
        """Backward and, every `accumulate` batches, a step of the optimisers of these networks; of all if none is
        named."""
        if self.accelerator.device.type == "cpu":
            # elsewhere it would wait for the device; there `train_epoch` looks now and then
            refuse_non_finite(loss.detach(), self.state)
        self.accelerator.backward(loss / self.recipe.accumulate)
        if (self.state.batch + 1) % self.recipe.accumulate == 0:
            self.optimizer_step(*names)

    def optimizer_step(self, *names: str) -> None:
        """Clip, set the learning rate, step, forget the gradients, average."""
        factor = self.schedule.factor(self.state.step)
        for name in names or self.step.networks:
            if self.recipe.clip:
                self.accelerator.clip_grad_norm_(self.step.networks[name].parameters(), self.recipe.clip)
            optimizer = self.step.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.lr * factor * group["scale"]  # type: ignore[operator]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if self.ema is not None and name == SHIPPED:
                self.ema.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        count_losses(self)
        return {
            "networks": {name: network.state_dict() for name, network in self.step.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.step.optimizers.items()},
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "schedule": {"reductions": self.schedule.reductions, "waited": self.schedule.waited},
            "state": dict(vars(self.state)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, network in self.step.networks.items():
            network.load_state_dict(state["networks"][name])
            self.step.optimizers[name].load_state_dict(state["optimizers"][name])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.schedule.reductions, self.schedule.waited = state["schedule"]["reductions"], state["schedule"]["waited"]
        self.state = TrainState(**state["state"])


def train_step(trainer: Trainer, batch: Batch) -> Tensor:
    """Learn from one batch; returns the loss, detached."""
    recipe, state, accelerator = trainer.recipe, trainer.state, trainer.accelerator
    seed_dropout(seed_of(recipe.seed, "step", state.epoch, state.batch, accelerator.process_index), accelerator.device)
    images = trainer.to_device(batch.images)  # float [B, C, H, W]
    targets = batch.targets.to(accelerator.device, non_blocking=True)
    if recipe.mixup or recipe.cutmix:
        generator = torch.Generator().manual_seed(seed_of(recipe.seed, "mix", state.epoch, state.batch))
        images, targets = mix(images, trainer.task.soft_targets(targets), recipe.mixup, recipe.cutmix, generator)
    if recipe.adversarial:
        images = attacked(trainer, images, targets)
    losses = trainer.step(images, targets, trainer)
    if (state.batch + 1) % recipe.accumulate == 0:
        state.step += 1
    return losses["loss"]


def seed_dropout(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, for the devices in use only: that one takes 0.2 ms where there is no GPU."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def train_epoch(trainer: Trainer, data: BatchSource, sampler: Sampler, after_step: Callable[[], None]) -> None:
    """The rest of the epoch from where `state` stands. `after_step` may save, show or stop."""
    state, accelerator = trainer.state, trainer.accelerator
    for net in trainer.nets.values():
        net.train()
    keep_still(trainer.model, trainer.recipe)
    batches = data.batches(
        sampler,
        epoch=state.epoch,
        start=state.batch,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    for batch in batches:
        data.skipped.extend(batch.skipped)
        trainer.pending.append(train_step(trainer, batch))
        state.batch += 1
        state.images_seen += len(batch.images)
        if accelerator.device.type == "cpu" or len(trainer.pending) == 50:
            count_losses(trainer)
        after_step()
    count_losses(trainer)
    if state.batch % trainer.recipe.accumulate:
        trainer.optimizer_step()
        state.step += 1


def count_losses(trainer: Trainer) -> None:
    """Add pending losses to the epoch's sum; this is where a GPU is waited for."""
    if trainer.pending:
        total = torch.stack(trainer.pending).sum()
        refuse_non_finite(total, trainer.state)
        trainer.state.loss_sum += total.item()
        trainer.pending.clear()


def across_processes(accelerator: Accelerator, value: float) -> float:
    """The mean of a number over all processes."""
    if accelerator.num_processes == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(tensor, "mean"))  # type: ignore[arg-type]


def refuse_non_finite(loss: Tensor, state: TrainState) -> None:
    """Stop a run whose loss is NaN or infinite, before its weights are."""
    if not torch.isfinite(loss):
        raise StriateError(
            f"the loss became {loss.item()} in epoch {state.epoch + 1}, batch {state.batch + 1}; the run stopped "
            f"there, and can be resumed from its last checkpoint. Try a lower --lr, --clip 1, or --precision fp32"
        )
