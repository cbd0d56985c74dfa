"""How much of the picture a value sees, followed through any network while it runs once.

Every function that torch calls is watched; each tensor carries the size of its receptive field, its jump (input pixels
between two neighbours) and where the field of its first value begins, below 0 where padding is seen. Where branches
meet, the widest wins: along a residual network that is the path through every convolution. Source of the rules: Araujo,
Norris & Sim, Distill 2019, doi:10.23915/distill.00021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Field = tuple[int, int]  # height, width


class Place(NamedTuple):
    """Value (i, j) of a map sees `field` pixels from `first + (i, j) * jump` on; each is (height, width)."""

    field: Field
    jump: Field
    first: Field


Trace = Place | None  # None: the whole picture
START = Place((1, 1), (1, 1), (0, 0))

CONVOLUTIONS = (F.conv2d, torch.conv2d)
TRANSPOSED = (F.conv_transpose2d, torch.conv_transpose2d)
POOLS = (F.max_pool2d, torch.max_pool2d, F.avg_pool2d)


class FieldTracker(TorchFunctionMode):
    """Use as a context: `begin` with the images, run the network, ask `field` for any tensor it made."""

    def __init__(self) -> None:
        super().__init__()
        self._traces = WeakTensorKeyDictionary()

    def begin(self, images: Tensor) -> None:
        self._traces[images] = START

    def field(self, tensor: Tensor) -> Field | None:
        """(height, width) in input pixels; None: it sees the whole picture."""
        place = self.place(tensor)
        return None if place is None else place.field

    def place(self, tensor: Tensor) -> Trace:
        """Where each value of a map looks; None: everywhere."""
        return self._traces.get(tensor, START)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor | tuple | list):
            return result
        sources = [tensor for tensor in _tensors((args, kwargs)) if tensor in self._traces]
        if sources:
            trace = _widest([self._traces[tensor] for tensor in sources])
            for made in _tensors(result):
                self._traces[made] = _step(func, args, kwargs, sources[0], made, trace)
        return result


def _step(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], source: Tensor, made: Tensor, trace: Trace
) -> Trace:
    """What a function's result sees, given what its inputs see."""
    if trace is None:
        return None
    if func in CONVOLUTIONS or func in TRANSPOSED:
        kernel = args[1].shape[-2:] if len(args) > 1 else kwargs["weight"].shape[-2:]
        stride = _pair(_argument(args, kwargs, 3, "stride", 1))
        padding = _argument(args, kwargs, 4, "padding", 0)
        dilation = _pair(_argument(args, kwargs, 5 if func in CONVOLUTIONS else 7, "dilation", 1))
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        if isinstance(padding, str):
            padding = tuple((e - 1) // 2 if padding == "same" else 0 for e in extent)
        move = _slide if func in CONVOLUTIONS else _spread
        return move(trace, extent, stride, _pair(padding))
    if func in POOLS:
        window = _pair(_argument(args, kwargs, 1, "kernel_size", 1))
        stride = _pair(_argument(args, kwargs, 2, "stride", None) or window)
        return _slide(trace, window, stride, _pair(_argument(args, kwargs, 3, "padding", 0)))
    if func is F.pad:
        left, _, top, _ = (*_argument(args, kwargs, 1, "pad", ()), 0, 0, 0, 0)[:4]
        first = (trace.first[0] - top * trace.jump[0], trace.first[1] - left * trace.jump[1])
        return trace._replace(first=first)
    if func is F.interpolate and made.ndim == 4:
        sides = zip(trace.jump, source.shape[-2:], made.shape[-2:], strict=True)
        rows, columns = (max(1, jump * before // after) for jump, before, after in sides)
        return trace._replace(jump=(rows, columns))
    if source.ndim == 4 and tuple(source.shape[-2:]) != (1, 1):
        pooled_away = made.ndim < 4 or tuple(made.shape[-2:]) == (1, 1)  # flatten, mean, global pooling
        return None if pooled_away else trace
    return trace


def _slide(trace: Place, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> Place:
    field, jump, first = trace
    return Place(
        (field[0] + (window[0] - 1) * jump[0], field[1] + (window[1] - 1) * jump[1]),
        (jump[0] * stride[0], jump[1] * stride[1]),
        (first[0] - padding[0] * jump[0], first[1] - padding[1] * jump[1]),
    )


def _spread(trace: Place, window: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]) -> Place:
    """A transposed convolution: each output value sees at most ⌈f / s⌉ neighbours, which now lie closer together."""
    field, jump, first = trace
    seen = tuple(ceil(f / s) for f, s in zip(window, stride, strict=True))
    start = tuple(ceil((p - f + 1) / s) for f, s, p in zip(window, stride, padding, strict=True))
    return Place(
        (field[0] + (seen[0] - 1) * jump[0], field[1] + (seen[1] - 1) * jump[1]),
        (max(1, jump[0] // stride[0]), max(1, jump[1] // stride[1])),
        (first[0] + start[0] * jump[0], first[1] + start[1] * jump[1]),
    )


def _widest(traces: list[Trace]) -> Trace:
    known = [trace for trace in traces if trace is not None]
    if len(known) < len(traces):
        return None
    (rows, columns), (row_jumps, column_jumps), (tops, lefts) = (
        tuple(zip(*(trace[part] for trace in known), strict=True)) for part in (0, 1, 2)
    )
    return Place((max(rows), max(columns)), (max(row_jumps), max(column_jumps)), (min(tops), min(lefts)))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str, default: Any) -> Any:
    return args[index] if len(args) > index else kwargs.get(name, default)


def _pair(value: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    values = (value, value) if isinstance(value, int) else tuple(value)
    return values if len(values) == 2 else values * 2


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
