"""What a task is: the one extension point between the data's targets and a typed result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from striate.config import Preprocess
from striate.data.facts import Facts
from striate.data.sample import Sample
from striate.results import Result
from striate.tasks.section import Section


class Metrics(Protocol):
    """Collects settled outputs over a split, with targets as the samples have them, and judges them."""

    best: str  # the metric that decides which weights are kept; higher is better

    def update(self, outputs: Tensor, targets: Tensor, /) -> None: ...
    def compute(self) -> dict[str, float]: ...
    def full(self, seed: int = 0) -> dict[str, Any]: ...


class Task(Protocol):
    """How targets are read, which head and loss they get, how outputs become results, how those are judged.

    Nothing outside `tasks/` knows a task's name: training, reports and the command line ask these methods. Those with
    a body here are what most tasks about a whole picture want.
    """

    name: str
    result: ClassVar[type[Result]]  # what `decode` gives
    classes: tuple[str, ...]
    spatial: ClassVar[bool] = False  # targets are places in the picture, and move with it
    pairs: tuple[int, ...] | None = None  # of landmarks: which becomes which in the mirror

    @property
    def independent(self) -> bool:
        """Whether each class holds or not by itself (a sigmoid each), or all share one whole (a softmax)."""
        ...

    @property
    def arguments(self) -> dict[str, Any]:
        """What `create_task` needs besides name and classes to build this task again; stored in the model file."""
        ...

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

    def fit_to_data(self, architecture: str, samples: Sequence[Sample], preprocess: Preprocess) -> None:
        """Look at the training pictures before the network is built; what is found goes into `arguments`."""

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        """The network with this task's head: float [B, C, H, W] → outputs.

        Where the module has `takes_targets = True`, training calls it with targets too.
        """
        ...

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Targets of several samples as one tensor; places stay in the pixels that they came in."""
        ...

    def dense(self, targets: Tensor) -> Tensor:
        """Targets as float [B, K], so that mixup can average them.

        Raises:
            UsageError: they have no such form.
        """
        ...

    def class_counts(self, targets: Tensor) -> Tensor:
        """How many samples each class has, float [K]."""
        ...

    def sample_weights(self, targets: Tensor) -> Tensor:
        """How often each sample should be drawn so that classes appear alike, float [N]."""
        ...

    def loss(
        self, outputs: Any, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one that is minimised. Empty where judging makes none."""
        ...

    def settle(self, outputs: Any, sizes: Tensor, preprocess: Preprocess) -> Tensor:
        """What is kept of a network's outputs to be judged and decoded: float32 [B, …] on the CPU, places in pixels of
        the pictures as they were read, whose heights and widths are `sizes`, int64 [B, 2]."""
        return outputs.float().cpu()

    def calibrate(self, outputs: Tensor, targets: Tensor) -> None:
        """Set what decoding needs (temperature, thresholds) from settled outputs on the validation split."""
        ...

    def decode(self, outputs: Tensor, sources: Sequence[Any], threshold: float | None = None) -> list[Result]:
        """One typed result a picture, of settled outputs; a `threshold` (0..1) takes the place of those stored.

        Raises:
            UsageError: the threshold is not in 0..1, or this task has no use for one.
        """
        ...

    def metrics(self) -> Metrics: ...

    def sections(self, metrics: Any, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
        """What the report shows of these metrics; `samples` in the order in which they were judged."""
        ...
