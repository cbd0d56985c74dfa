"""What a task is: the one extension point between the data's targets and a typed result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from striate.data.sample import Sample
from striate.results import Result
from striate.tasks.section import Section


class Metrics(Protocol):
    """Collects a network's outputs over a split and judges them."""

    best: str  # the metric that decides which weights are kept; higher is better

    def update(self, outputs: Tensor, targets: Tensor, /) -> None: ...
    def compute(self) -> dict[str, float]: ...
    def full(self, seed: int = 0) -> dict[str, Any]: ...


class Task(Protocol):
    """How targets are read, which head and loss they get, how outputs become results, how those are judged.

    Nothing outside `tasks/` knows a task's name: training, reports and the command line ask these methods.
    """

    name: str
    result: ClassVar[type[Result]]  # what `decode` gives
    classes: tuple[str, ...]

    @property
    def independent(self) -> bool:
        """Whether each class holds or not by itself (a sigmoid each), or all share one whole (a softmax)."""
        ...

    @property
    def arguments(self) -> dict[str, Any]:
        """What `create_task` needs besides name and classes to build this task again; stored in the model file."""
        ...

    def build(self, architecture: str, in_channels: int, **arguments: Any) -> nn.Module:
        """The network with this task's head: float [B, C, H, W] → outputs."""
        ...

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Targets of several samples as one tensor."""
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
        self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one that is minimised."""
        ...

    def calibrate(self, outputs: Tensor, targets: Tensor) -> None:
        """Set what decoding needs (temperature, thresholds) from outputs on the validation split."""
        ...

    def decode(self, outputs: Tensor, sources: Sequence[Any], threshold: float | None = None) -> list[Result]:
        """One typed result a picture; a `threshold` (0..1) takes the place of those stored.

        Raises:
            UsageError: the threshold is not in 0..1, or this task has no use for one.
        """
        ...

    def metrics(self) -> Metrics: ...

    def sections(self, metrics: Any, samples: Sequence[Sample], read: Callable[[Sample], Tensor]) -> list[Section]:
        """What the report shows of these metrics; `samples` in the order in which they were judged."""
        ...
