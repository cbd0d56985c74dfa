"""The training loop: batch → loss → backward → step, one epoch after another.

Every random number comes from (seed, place), so a checkpoint needs no generator states and a resumed run is the
same run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from striate.config import Recipe
from striate.data.loaders import Batch, Split
from striate.data.mixing import mix
from striate.data.seeds import seed_of
from striate.data.transforms import Normalize
from striate.errors import StriateError
from striate.tasks import Task
from striate.train.adversarial import attacked
from striate.train.optimizers import l1_norm
from striate.train.schedules import Schedule
from striate.train.transfer import keep_still


@dataclass
class Place:
    """Where a run stands; all of it goes into a checkpoint."""

    epoch: int = 0  # of the batch to come
    batch: int = 0  # within the epoch
    step: int = 0  # optimiser steps so far
    loss_sum: float = 0.0  # of this epoch
    seen: int = 0  # pictures of this epoch
    best: float = -math.inf
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainer:
    """What a step needs. `net` is `model` as it runs: compiled, wrapped for several processes."""

    task: Task
    recipe: Recipe
    model: nn.Module
    net: nn.Module
    normalize: Normalize
    optimizer: Any
    schedule: Schedule
    accelerator: Accelerator
    ema: AveragedModel | None = None
    class_weights: Tensor | None = None
    place: Place = field(default_factory=Place)
    pending: list[Tensor] = field(default_factory=list)  # losses not yet looked at

    @property
    def lr(self) -> float:
        """The learning rate of the head, or of all: what the last step used."""
        group = self.optimizer.param_groups[-1]
        return group["lr"] / group["scale"]

    @property
    def takes_targets(self) -> bool:
        """In training, the network itself looks at the targets (two-stage detectors draw their samples)."""
        return getattr(self.model, "takes_targets", False)

    @property
    def averaged(self) -> nn.Module:
        """The weights to judge and keep: the averaged ones where there are such."""
        return self.ema.module if self.ema is not None else self.model

    def to_device(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] to float, normalised, on the device, in the memory layout the network wants."""
        images = images.to(self.accelerator.device, non_blocking=True)
        if self.recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.normalize(images)

    def state_dict(self) -> dict[str, Any]:
        count_losses(self)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            "schedule": {"reductions": self.schedule.reductions, "waited": self.schedule.waited},
            "place": dict(vars(self.place)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.schedule.reductions, self.schedule.waited = state["schedule"]["reductions"], state["schedule"]["waited"]
        self.place = Place(**state["place"])


def train_step(trainer: Trainer, batch: Batch) -> Tensor:
    """One batch: loss, backward and, every `accumulate` batches, the optimiser's step. Returns the loss, detached."""
    recipe, place, accelerator = trainer.recipe, trainer.place, trainer.accelerator
    seed_dropout(seed_of(recipe.seed, "step", place.epoch, place.batch, accelerator.process_index), accelerator.device)
    images = trainer.to_device(batch.images)  # float [B, C, H, W]
    targets = batch.targets.to(accelerator.device, non_blocking=True)
    if recipe.mixup or recipe.cutmix:
        generator = torch.Generator().manual_seed(seed_of(recipe.seed, "mix", place.epoch, place.batch))
        images, targets = mix(images, trainer.task.dense(targets), recipe.mixup, recipe.cutmix, generator)
    if recipe.adversarial:
        images = attacked(trainer, images, targets)
    outputs = trainer.net(images, targets) if trainer.takes_targets else trainer.net(images)
    losses = trainer.task.loss(outputs, targets, recipe.label_smoothing, trainer.class_weights)
    loss = losses["loss"]
    if recipe.l1:
        loss = loss + recipe.l1 * l1_norm(trainer.model)
    detached = loss.detach()
    if (
        accelerator.device.type == "cpu"
    ):  # elsewhere it would wait for the device; there `train_epoch` looks now and then
        refuse_non_finite(detached, place)
    accelerator.backward(loss / recipe.accumulate)
    if (place.batch + 1) % recipe.accumulate == 0:
        optimizer_step(trainer)
    return detached


def seed_dropout(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, for the devices in use only: that one takes 0.2 ms where there is no GPU."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def optimizer_step(trainer: Trainer) -> None:
    """Clip, set the learning rate, step, forget the gradients, average."""
    recipe, place = trainer.recipe, trainer.place
    if recipe.clip:
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), recipe.clip)
    factor = trainer.schedule.factor(place.step)
    for group in trainer.optimizer.param_groups:
        group["lr"] = recipe.lr * factor * group["scale"]  # type: ignore[operator]
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.ema is not None:
        trainer.ema.update_parameters(trainer.model)
    place.step += 1


def train_epoch(trainer: Trainer, data: Split, weights: Tensor | None, after_step: Callable[[], None]) -> None:
    """The rest of the epoch from where `place` stands. `after_step` may save, show or stop."""
    place, accelerator = trainer.place, trainer.accelerator
    trainer.net.train()
    keep_still(trainer.model, trainer.recipe)
    batches = data.batches(
        int(trainer.recipe.batch),
        epoch=place.epoch,
        start=place.batch,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        weights=weights,
    )
    for batch in batches:
        data.skipped.extend(batch.skipped)
        trainer.pending.append(train_step(trainer, batch))
        place.batch += 1
        place.seen += len(batch.images)
        if accelerator.device.type == "cpu" or len(trainer.pending) == 50:
            count_losses(trainer)
        after_step()
    count_losses(trainer)
    if place.batch % trainer.recipe.accumulate:
        optimizer_step(trainer)


def count_losses(trainer: Trainer) -> None:
    """Add pending losses to the epoch's sum; this is where a GPU is waited for."""
    if trainer.pending:
        total = torch.stack(trainer.pending).sum()
        refuse_non_finite(total, trainer.place)
        trainer.place.loss_sum += total.item()
        trainer.pending.clear()


def across_processes(accelerator: Accelerator, value: float) -> float:
    """The mean of a number over all processes."""
    if accelerator.num_processes == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(tensor, "mean"))  # type: ignore[arg-type]


def refuse_non_finite(loss: Tensor, place: Place) -> None:
    """Stop a run whose loss is NaN or infinite, before its weights are."""
    if not torch.isfinite(loss):
        raise StriateError(
            f"the loss became {loss.item()} in epoch {place.epoch + 1}, batch {place.batch + 1}; the run stopped "
            f"there, and can be resumed from its last checkpoint. Try a lower --lr, --clip 1, or --precision fp32"
        )


class Judged(NamedTuple):
    """A whole split, in its order: settled outputs [N, …], targets as the samples have them [N, …], indices [N], and
    the mean loss, None where judging makes none."""

    outputs: Tensor
    targets: Tensor
    indices: Tensor
    loss: float | None


@torch.inference_mode()
def outputs_of(model: nn.Module, trainer: Trainer, data: Split, batch: int, alone: bool = False) -> Judged:
    """What a network says of a split, on the CPU.

    Every process takes its share and all get the whole; `alone`, this one does it all while the others wait, in full
    precision, so that the report says what `evaluate` will.
    Unreadable pictures are left out and remembered.
    """
    model.eval()
    accelerator = trainer.accelerator
    rank, world = (0, 1) if alone else (accelerator.process_index, accelerator.num_processes)
    shares: list[Any] = []
    for part in data.eval_batches(batch, rank, world):
        with nullcontext() if alone else accelerator.autocast():
            outputs = model(trainer.to_device(part.images))
        losses = trainer.task.loss(outputs, part.targets.to(accelerator.device))
        kept = trainer.task.settle(outputs, part.sizes, data.preprocess)
        loss = float(losses["loss"]) * len(kept) if losses else math.nan
        shares.append((kept, part.indices, torch.tensor([loss], dtype=torch.float64)))
        data.skipped.extend(part.skipped)
    if world > 1:
        gathered: list[Any] = [None] * world
        torch.distributed.all_gather_object(gathered, shares)
        shares = [share for process in gathered for share in process]
    outputs, indices, losses = (torch.cat(parts) for parts in zip(*shares, strict=True))
    order = indices.argsort()
    indices = indices[order]
    mean = float(losses.sum()) / len(indices)
    return Judged(outputs[order], data.targets[indices], indices, None if math.isnan(mean) else mean)
