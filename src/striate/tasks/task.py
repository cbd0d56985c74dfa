"""What a task is: the one extension point between the data's targets and a typed result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from striate.config import Preprocess, Recipe
from striate.data.facts import Facts
from striate.data.sample import Sample
from striate.data.samplers import Sampler, Shuffled, Weighted
from striate.data.targets import Target, class_ids
from striate.errors import UsageError
from striate.results import Result
from striate.tasks.metrics import Metrics
from striate.tasks.section import Section, numbers_section
from striate.tasks.step import Step, SupervisedStep

__all__ = ["FEATURES", "OPTIONS", "THRESHOLD", "TILES", "Metrics", "Task"]

# What a task may support; all else holds for every task. Options of a recipe, and what they are when not asked for.
OPTIONS: dict[str, Any] = {
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "class_weights": "none",
    "sampling": "uniform",
    "adversarial": 0.0,
}
FEATURES = "features"  # a linear layer on pooled features can do it: `--transfer features`, `--head neighbours`
TILES = "tiles"  # predictions of windows of a picture can be put together: `stitch`
THRESHOLD = "threshold"  # a result holds from a score on: `to_result` takes a threshold


def refuse_threshold(threshold: float) -> None:
    """
    Raises:
        UsageError: it is not in 0..1.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"a threshold must be in 0..1, not {threshold}")


class Task(ABC):
    """How targets are read, which head and loss they get, how outputs become results, how those are evaluated.

    Nothing outside `tasks/` knows a task's name: training, reports and the command line ask these methods. Those with
    a body here are what most tasks about a whole picture want. A network's outputs are a tensor, or a dict of tensors,
    so that any engine can give them.
    """

    name: ClassVar[str]
    result: ClassVar[type[Result]]  # what `to_result` gives
    classes: tuple[str, ...]
    supports: ClassVar[frozenset[str]] = frozenset()  # of OPTIONS, FEATURES, TILES, THRESHOLD
    hints: ClassVar[dict[str, str]] = {}  # option that is not supported → what to do instead
    reads: ClassVar[tuple[str, ...]] = ()  # other tasks whose data it takes as they are
    spatial: ClassVar[bool] = False  # targets are somewhere in the picture
    independent: bool = (
        False  # each class holds or not by itself (a sigmoid each); else all share one whole (a softmax)
    )
    pairs: tuple[int, ...] | None = None  # of landmarks: which becomes which in a horizontal flip

    @abstractmethod
    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        """The network with this task's head: float [B, C, H, W] → outputs.

        Where the module has `takes_targets = True`, training calls it with targets too.
        """

    @abstractmethod
    def collate(self, targets: Sequence[Any]) -> Any:
        """Targets of a batch's samples as one tensor or a small object with `.to(device)`; places stay in the pixels
        that they came in."""

    @abstractmethod
    def loss(
        self, outputs: Any, targets: Any, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one that is minimised. Empty where evaluation makes none."""

    @abstractmethod
    def to_result(self, prediction: Any, source: Any, threshold: float | None = None) -> Result:
        """The typed result of one picture's prediction; a `threshold` (0..1) takes the place of those stored.

        Raises:
            UsageError: the threshold is not in 0..1, or this task has no use for one.
        """

    @abstractmethod
    def metrics(self) -> Metrics: ...

    # ---- before training ----

    @property
    def arguments(self) -> dict[str, Any]:
        """What `create_task` needs besides name and classes to build this task again; stored in the model file."""
        return {}

    def backbone_of(self, architecture: str) -> str:
        """The network of the zoo that public weights are for."""
        return architecture

    def default_recipe(self, facts: Facts, device: torch.device, weights: bool, model: str) -> dict[str, Any]:
        """What suits this task where the user left it open: values of Recipe's fields by name (`model`, `epochs`,
        `lr` …), `size` (height, width), `fit`, `fill` and `pad_multiple` of Preprocess. What is not there is chosen as
        for a classifier.

        Args:
            weights: training starts from public weights.
            model: as the user named it; `auto` where not.
        """
        return {}

    def fit_to_data(self, architecture: str, samples: Sequence[Sample], preprocess: Preprocess) -> None:  # noqa: B027
        """Look at the training pictures before the network is built; what is found goes into `arguments`."""

    def target_transform(self, target: Any) -> Target | None:
        """What of a sample's target this task learns from: all of it, unless some would only be carried along."""
        return target

    # ---- training ----

    def step(self, model: nn.Module, recipe: Recipe, class_weights: Tensor | None = None) -> Step:
        """What learns from a batch, and how: one network by one loss. A task with more networks has its own."""
        return SupervisedStep(self, model, recipe, class_weights)

    def sampler(self, targets: Sequence[Any], batch: int, seed: int, balanced: bool = False) -> Sampler:
        """Which samples make up the batches of training: every one once an epoch, or so that classes appear alike."""
        if balanced:
            return Weighted(self.sample_weights(targets), batch, seed)
        return Shuffled(len(targets), batch, seed)

    def soft_targets(self, targets: Any) -> Tensor:
        """Collated targets as float [B, K], so that mixup can average them.

        Raises:
            UsageError: they have no such form.
        """
        raise UsageError(f"task {self.name}: targets cannot be mixed; leave mixup and cutmix at 0")

    def class_counts(self, targets: Sequence[Any]) -> Tensor:
        """How often each class is there, float [K]; `targets` one a sample."""
        ids = [label for target in targets for label in class_ids(target)]
        return torch.bincount(torch.tensor(ids, dtype=torch.int64), minlength=len(self.classes)).float()

    def sample_weights(self, targets: Sequence[Any]) -> Tensor:
        """How often each sample should be drawn so that classes appear alike, float [N]: as the rarest of its classes
        asks; one without any as the commonest class."""
        rarity = 1 / self.class_counts(targets).clamp(min=1)
        commonest = rarity.min()
        ids = [list(class_ids(target)) for target in targets]
        return torch.stack([rarity[labels].max() if labels else commonest for labels in ids])

    def deployed(self, preprocess: Preprocess) -> Preprocess:
        """How pictures enter the network once it is trained, where that is another way than in training."""
        return preprocess

    # ---- from outputs to results ----

    def postprocess(self, outputs: Any, sizes: Tensor, preprocess: Preprocess) -> list[Any]:
        """A prediction a picture, on the CPU: what metrics and results are made of. Places are in pixels of the
        pictures as they were read, whose heights and widths are `sizes`, int64 [B, 2]."""
        return list(outputs.float().cpu())

    def stitch(self, predictions: Sequence[Any], windows: Tensor, size: tuple[int, int]) -> Any:
        """Predictions of windows of one picture, each in its window's pixels, as that of the whole.

        Args:
            windows: int64 [T, 4], x1 y1 x2 y2 in the picture; the whole picture may be one of them.
            size: height and width of the picture.
        """
        raise UsageError(f"task {self.name} has no predictions that could be put together from tiles")

    def calibrate(self, metrics: Any) -> None:  # noqa: B027
        """Set what `to_result` needs (temperature, thresholds) from metrics of the validation split."""

    @staticmethod
    def sections(metrics: Any, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
        """What the report shows of these metrics; `samples` in the order in which they were evaluated."""
        return [numbers_section(metrics.full(), {}, f"Judged on {len(samples):,} pictures.")]
