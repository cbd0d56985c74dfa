"""What a task can do besides whose networks can be explained: say how much speaks for a class, with a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Explainable(ABC):
    """An optional face of a task: `class Classify(Explainable, Task)`. Outputs are as the network gives them."""

    @abstractmethod
    def predicted_class(self, outputs: Any) -> Tensor:
        """int64 [B]: the class that outputs speak for most; -1 where they speak for none in particular."""

    @abstractmethod
    def class_score(self, outputs: Any, label: int | None = None, target_box: Tensor | None = None) -> Tensor:
        """float [B]: how much outputs speak for a class, differentiable; what explanations explain.

        Args:
            label: the class; None: whatever is predicted, each picture its own.
            target_box: what `target_box` gave, of each picture or [1, 4] of all; None: wherever it is strongest.

        Raises:
            UsageError: this network gives nothing that could be explained so.
        """

    def target_box(self, outputs: Any, label: int) -> Tensor | None:
        """float [B, 4]: where in the network that looks for objects the strongest of the class is; None: nowhere in
        particular. Of use only to `class_score`, to follow one and the same object when the picture changes."""
        return None
