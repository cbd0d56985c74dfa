"""Adversarial training: every batch is replaced by the worst pictures near it that a quick attack finds.

Projected gradient descent from a random start, as in Madry et al. 2018 (arXiv:1706.06083), but of three steps. One step
of 1.25 ε is the fast method of Wong, Rice & Kolter 2020 (arXiv:2001.03994): at half the cost, but where ε is large the
network then learns to hide its gradient (their section 5.4, "catastrophic overfitting"): it answers FGSM well and PGD
not at all, and its clean accuracy rises. So held-out pictures are judged under PGD after every epoch, and that decides
which weights are kept (Rice, Wong & Kolter 2020, arXiv:2002.11569). No clean pictures are mixed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from striate.config import Recipe
from striate.data.loaders import Split
from striate.data.seeds import seed_of
from striate.errors import UsageError
from striate.explain.attacks.gradient import pgd
from striate.inference.predictor import Predictor

if TYPE_CHECKING:
    from striate.train.loop import Trainer

FAST_STEP = 1.25  # of ε: Wong et al., section 4.2
RAMP = 0.3  # of training, in which ε grows from 0: at full strength from the start, large ε teach nothing for long
JUDGED = 1000  # held-out pictures attacked after an epoch, spread evenly
JUDGED_STEPS = 10


def refuse_adversarial(recipe: Recipe, model: nn.Module) -> None:
    """Nothing, where this recipe can train adversarially or does not ask to.

    Raises:
        UsageError: the network makes its loss of targets alone, or only its head is fitted.
    """
    if not recipe.adversarial:
        return
    if getattr(model, "takes_targets", False):
        raise UsageError(
            f"adversarial: {recipe.model} has no loss outside training to attack; use a one-stage detector"
        )
    if recipe.transfer == "features":
        raise UsageError("adversarial: transfer features fits the head alone; use --transfer finetune")


def attacked(trainer: Trainer, images: Tensor, targets: Tensor) -> Tensor:
    """A batch made hard: float [B, C, H, W], normalised → the same, no pixel further than `recipe.adversarial` away.

    The attack looks at the network as it trains, but for dropout, and leaves no trace.
    """
    state, recipe = trainer.state, trainer.recipe
    seed = seed_of(recipe.seed, "adversarial", state.epoch, state.batch, trainer.accelerator.process_index)
    epsilon = recipe.adversarial * min(1.0, (state.step + 1) / max(1.0, RAMP * trainer.schedule.steps))
    step = FAST_STEP * epsilon if recipe.adversarial_steps == 1 else None
    with as_it_trains(trainer.model):
        return attack(trainer, trainer.model, images, targets, epsilon, recipe.adversarial_steps, step, seed)


def attack(
    trainer: Trainer,
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    epsilon: float,
    steps: int,
    step: float | None,
    seed: int,
) -> Tensor:
    """PGD in pixels on pictures that are normalised already."""
    normalize, scaler = trainer.normalize, trainer.accelerator.scaler

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        found = trainer.task.loss(outputs, targets)["loss"]
        return found if scaler is None else scaler.scale(found)  # fp16 would round small gradients to 0

    with trainer.accelerator.autocast():
        found = pgd(
            lambda pixels: model(normalize(255 * pixels)),
            (images - normalize.shift) / (255 * normalize.scale),
            targets,
            epsilon,
            steps,
            step,
            loss,
            generator=torch.Generator().manual_seed(seed),
        )
    return normalize(255 * found)


@contextmanager
def as_it_trains(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, but batch norms by the batch at hand, without noting it; afterwards every layer as it was.

    An attack on running statistics is one on another network than that which learns from it: on MNIST (ε = 0.25) that
    one then learns to tell such pictures by the statistics of their batch, and judges clean ones no better than chance.
    """
    training = [layer for layer in model.modules() if layer.training]
    norms = [layer for layer in training if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    model.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for layer in training:
            layer.training = True


def under_attack(trainer: Trainer, model: nn.Module, data: Split, batch: int) -> dict[str, float]:
    """The task's best metric on up to 1,000 pictures of a split under PGD, by its name with `adversarial_` before."""
    metrics, task, accelerator = trainer.task.metrics(), trainer.task, trainer.accelerator
    model.eval()

    def engine(images: Tensor) -> Any:
        with accelerator.autocast():
            return model(trainer.normalize(images))

    predictor = Predictor(engine, task, data.preprocess, accelerator.device)
    for number, part in enumerate(data.eval_batches(batch, every=-(-len(data) // JUDGED))):
        targets = part.targets.to(accelerator.device)
        seed = seed_of(trainer.recipe.seed, "under attack", number)
        images = trainer.to_device(part.images)
        images = attack(trainer, model, images, targets, trainer.recipe.adversarial, JUDGED_STEPS, None, seed)
        pixels = (images - trainer.normalize.shift) / trainer.normalize.scale
        metrics.update(predictor.predict(pixels, part.sizes), task.collate(part.references))
    return {f"adversarial_{metrics.best}": metrics.compute()[metrics.best]}
