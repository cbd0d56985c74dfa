"""What a task can be besides: one that needs its network's coder to read the outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Coded(ABC):
    """An optional face of a task: `class Detect(Coded, Task)`. Its `build` adopts the network that it makes."""

    @abstractmethod
    def adopt(self, network: nn.Module) -> None:
        """From now on outputs are read as this network's, which another task of the same kind may have built."""
