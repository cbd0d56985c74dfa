"""The arithmetic of layers: output sizes, parameters, multiply-adds and receptive fields.

    output          floor((n + 2p - f) / s) + 1
    parameters      f * f * c_in * c_out + c_out
    receptive field r' = r + (f - 1) * jump,  jump' = jump * s

Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285;
receptive fields: Araujo, Norris & Sim, "Computing receptive fields of convolutional networks", Distill 2019.
No torch here: everything is whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

from striate.errors import UsageError


def conv_output(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """How many places a kernel takes along one side of `size` pixels; a stride that does not fit is floored.

    >>> conv_output(32, 5, stride=1, padding=2)
    32

    Raises:
        UsageError: a size below 1, a negative padding, or a kernel wider than the padded side.
    """
    return _room(size, kernel, stride, padding, dilation) // stride + 1


def exact_output(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> float:
    """`conv_output` before the floor: 2.33 for 7 pixels, a kernel of 3 and a stride of 3.

    Raises:
        UsageError: as `conv_output`.
    """
    return _room(size, kernel, stride, padding, dilation) / stride + 1


def uneven_stride(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> str | None:
    """What is wrong with a stride that does not fit evenly, in one line; None where it fits.

    >>> uneven_stride(7, 3, stride=3)
    'a stride of 3 does not fit evenly: (7 + 2·0 - 3) / 3 + 1 = 2.33, floored to 2: the last 1 pixel is never seen'

    Raises:
        UsageError: as `conv_output`.
    """
    left_over = _room(size, kernel, stride, padding, dilation) % stride
    if not left_over:
        return None
    exact = exact_output(size, kernel, stride, padding, dilation)
    unseen = max(0, left_over - padding)  # padding on the far side is given up first
    loss = f": the last {unseen} pixel{'s are' if unseen > 1 else ' is'} never seen" if unseen else ""
    return (
        f"a stride of {stride} does not fit evenly: ({size} + 2·{padding} - {_extent(kernel, dilation)}) / {stride} + 1"
        f" = {exact:.2f}, floored to {int(exact)}{loss}"
    )


def pool_output(size: int, kernel: int, stride: int | None = None, padding: int = 0) -> int:
    """The same for a pooling window, whose stride is its own width when not given.

    Raises:
        UsageError: as `conv_output`.
    """
    return conv_output(size, kernel, kernel if stride is None else stride, padding)


def same_padding(kernel: int, dilation: int = 1) -> int:
    """The padding p = (f - 1) / 2 that keeps the size at stride 1.

    Raises:
        UsageError: an even kernel, which no equal padding of both sides can centre.
    """
    if _extent(kernel, dilation) % 2 == 0:
        raise UsageError(f"a kernel of {kernel} has no middle, so no padding keeps the size: use an odd kernel")
    return (_extent(kernel, dilation) - 1) // 2


def conv_parameters(kernel: int, in_channels: int, out_channels: int, bias: bool = True, groups: int = 1) -> int:
    """Learnt numbers of a square convolution: f·f·c_in·c_out (+ c_out).

    Raises:
        UsageError: a count below 1, or groups that do not divide the channels.
    """
    _positive(kernel=kernel, in_channels=in_channels, out_channels=out_channels, groups=groups)
    if in_channels % groups or out_channels % groups:
        raise UsageError(f"{groups} groups do not divide {in_channels} and {out_channels} channels")
    return kernel * kernel * in_channels // groups * out_channels + bias * out_channels


def conv_multiply_adds(
    kernel: int, in_channels: int, out_channels: int, output: tuple[int, int], groups: int = 1
) -> int:
    """Multiplications of a square convolution for one picture; `output` is (height, width) of its result.

    Raises:
        UsageError: as `conv_parameters`.
    """
    _positive(height=output[0], width=output[1])
    return conv_parameters(kernel, in_channels, out_channels, bias=False, groups=groups) * prod(output)


def dense_parameters(widths: Sequence[int], bias: bool = True) -> int:
    """Learnt numbers of fully connected layers of these widths, input first.

    >>> dense_parameters((784, 256, 128, 10))
    235146

    Raises:
        UsageError: fewer than two widths, or a width below 1.
    """
    if len(widths) < 2:
        raise UsageError(f"a dense network needs its input and output widths, not {list(widths)}")
    _positive(**{f"width {index}": width for index, width in enumerate(widths, start=1)})
    return sum(inputs * outputs + bias * outputs for inputs, outputs in pairwise(widths))


def receptive_field(layers: Iterable[tuple[int, ...]]) -> tuple[int, int]:
    """How many input pixels, along one side, one output value sees, and how many lie between two neighbours.

    Args:
        layers: (kernel, stride) or (kernel, stride, dilation) of each convolution or pooling, in order.

    >>> receptive_field([(3, 1), (3, 1), (2, 2)])
    (6, 2)

    Raises:
        UsageError: a layer that is not two or three numbers above 0.
    """
    field, jump = 1, 1
    for index, layer in enumerate(layers, start=1):
        if len(layer) not in (2, 3):
            raise UsageError(f"layer {index}: {layer} is not (kernel, stride) or (kernel, stride, dilation)")
        kernel, stride, dilation = (*layer, 1)[:3]
        _positive(kernel=kernel, stride=stride, dilation=dilation)
        field += (kernel - 1) * dilation * jump
        jump *= stride
    return field, jump


def _room(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How far the kernel can travel: n + 2p - f."""
    _positive(size=size, kernel=kernel, stride=stride, dilation=dilation)
    if padding < 0:
        raise UsageError(f"padding must be 0 or more, not {padding}")
    room = size + 2 * padding - _extent(kernel, dilation)
    if room < 0:
        raise UsageError(
            f"a kernel of {_extent(kernel, dilation)} does not fit in {size} + 2·{padding} pixels: "
            "use a larger picture, more padding or a smaller kernel"
        )
    return room


def _extent(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"{name} must be 1 or more, not {value}")
