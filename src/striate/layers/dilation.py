"""Strides that become dilations: the same weights, at more places (DeepLab, Chen et al. 2016, arXiv:1606.00915)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from striate.errors import UsageError


class Step(NamedTuple):
    """How a stage starts: `dilations` of its first layer, which a stride would have belonged to, and of the others."""

    stride: int
    dilations: tuple[int, int]
    reduction: int

    def of_block(self, number: int) -> tuple[int, tuple[int, int]]:
        """Stride and dilations of the stage's block `number`, from 0."""
        return (self.stride, self.dilations) if number == 0 else (1, (self.dilations[1], self.dilations[1]))


def dilated_steps(strides: Sequence[int], reduction: int, output_stride: int) -> list[Step]:
    """The strides of stages, or dilations in their place where maps would get more than `output_stride` times smaller.

    The layer that loses its stride sees what it always saw, those after it step over the places a stride would have
    left out: the same weights give the same values, at more places.

    Args:
        reduction: of what the first stage reads.

    Raises:
        UsageError: an output stride that is no power of 2 or below `reduction`.
    """
    choices = [value for value in (1, 2, 4, 8, 16, 32) if value >= reduction]
    if output_stride not in choices:
        raise UsageError(f"output_stride must be one of {', '.join(map(str, choices))}, not {output_stride!r}")
    steps: list[Step] = []
    dilation = 1
    for wanted in strides:
        stride = wanted if reduction * wanted <= output_stride else 1
        before, dilation = dilation, dilation * wanted // stride
        reduction *= stride
        steps.append(Step(stride, (before, dilation), reduction))
    return steps


def max_pool(kernel_size: int, step: Step, ceil_mode: bool = False) -> nn.Module:
    """Halves the map; where the step has lost its stride, the map keeps its size and the window is dilated.

    What that window meets beyond the border are zeros, which change no maximum behind a rectifier. An even one has no
    middle: it reaches one pixel, or half of its dilation, further down and right than up and left.
    """
    if step.stride == 2:
        return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=ceil_mode)
    dilation = step.dilations[0]
    before, after = (kernel_size - 1) * dilation // 2, ((kernel_size - 1) * dilation + 1) // 2
    pad = nn.ZeroPad2d((before, after, before, after))  # torch's own padding takes no account of dilation
    return nn.Sequential(pad, nn.MaxPool2d(kernel_size, stride=1, dilation=dilation))
