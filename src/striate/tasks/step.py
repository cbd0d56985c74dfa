"""One batch of training: which networks learn, and from which loss.

Training (`striate.train`) gives a step what it needs to go down a loss; mixed precision, accumulation, clipping, weight
averages, checkpoints and several processes are its business and hold for any step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from striate.config import Recipe
from striate.layers.penalties import l1_norm

if TYPE_CHECKING:
    from striate.tasks.task import Task

SHIPPED = "model"  # the network that a model file holds


class Learner(Protocol):
    """What training offers a step."""

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        """The step's networks as they run: compiled, wrapped for several processes."""
        ...

    def update(self, loss: Tensor, *names: str) -> None:
        """Go down a loss: backward now and, every `accumulate` batches, one step of these networks' optimisers."""
        ...


class Step(ABC):
    """Owns what learns.

    Attributes:
        networks: by name; `model` is what the model file holds, all others live in checkpoints alone (a discriminator,
            a classifier's matrix).
        optimizers: one a network, under its name; training makes them of the recipe (`make_optimizer`).
    """

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        self.networks = networks
        self.optimizers: dict[str, Optimizer] = {}

    @abstractmethod
    def __call__(self, images: Tensor, targets: Any, learner: Learner) -> dict[str, Tensor]:
        """Learn from one batch.

        Args:
            images: float [B, C, H, W], normalised.
            targets: the batch's, as the task collates them.

        Returns:
            Losses by name, detached; `loss` is the one that is shown.
        """


class SupervisedStep(Step):
    """One network, one loss: that of the task."""

    def __init__(self, task: Task, model: nn.Module, recipe: Recipe, class_weights: Tensor | None = None) -> None:
        super().__init__({SHIPPED: model})
        self.task, self.recipe, self.class_weights = task, recipe, class_weights
        # in training, some networks look at the targets themselves (two-stage detectors draw their samples)
        self.takes_targets = getattr(model, "takes_targets", False)

    def __call__(self, images: Tensor, targets: Any, learner: Learner) -> dict[str, Tensor]:
        net = learner.nets[SHIPPED]
        outputs = net(images, targets) if self.takes_targets else net(images)
        losses = self.task.loss(outputs, targets, self.recipe.label_smoothing, self.class_weights)
        loss = losses["loss"]
        if self.recipe.l1:
            loss = loss + self.recipe.l1 * l1_norm(self.networks[SHIPPED])
        learner.update(loss, SHIPPED)
        return {name: value.detach() for name, value in losses.items()} | {"loss": loss.detach()}


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Within it no gradient reaches these networks' parameters, though it passes through them: a generator learns from
    a discriminator that stays as it is."""
    held = [parameter for network in networks for parameter in network.parameters() if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
