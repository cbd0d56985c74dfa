"""Darknet's files of weights (`.weights`, `darknet53.conv.74`; github.com/pjreddie/darknet, src/parser.c).

A header: major, minor and revision as int32, then how many pictures were seen, int64 from version 0.2 on, int32 before.
Then float32 numbers, layer by layer in the order of the cfg file and without names: of a convolution with batch norm
the norm's biases, scales, means and variances, then the kernel [out, in, h, w]; of one without its biases and kernel.
All little-endian.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from striate.errors import DataError, UsageError
from striate.tasks.detect.yolov3 import YOLOv3


def load_darknet_weights(network: nn.Module, path: Path) -> int:
    """Read a file into a YOLOv3 with loss="paper", or into its `backbone` (`darknet53.conv.74`).

    The network's convolutions are taken in the order of its modules, which for YOLOv3 is that of yolov3.cfg and
    yolov3-tiny.cfg. Nothing is changed where the file does not fit.

    Returns:
        How many pictures the file's network had been trained on.

    Raises:
        DataError: the file cannot be read, is too short or too long for the network, or holds what is no number.
        UsageError: the network codes boxes otherwise than darknet.
    """
    if isinstance(network, YOLOv3) and network.coder.loss != "paper":
        raise UsageError('darknet\'s weights code boxes as the paper does: build the network with loss="paper"')
    seen, numbers = _read(path)
    layers = _tensors_in_order(network)
    wanted = sum(tensor.numel() for _, tensors in layers for tensor in tensors)
    if len(numbers) != wanted:
        raise DataError(_misfit(path, layers, len(numbers), wanted))
    start = 0
    with torch.no_grad():
        for _, tensors in layers:
            for tensor in tensors:
                tensor.copy_(torch.from_numpy(numbers[start : start + tensor.numel()]).view_as(tensor))
                start += tensor.numel()
    return seen


def _read(path: Path) -> tuple[int, np.ndarray]:
    """Pictures seen, and the numbers float32 [n]."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    major, minor = np.frombuffer(content[:8].ljust(8, b"\0"), "<i4").tolist()
    is_wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    header = 20 if is_wide else 16
    if len(content) < header or major < 0 or minor < 0:
        raise DataError(f"{path}: no file of darknet's weights: it does not begin with their version")
    if (len(content) - header) % 4:
        raise DataError(f"{path}: {len(content)} bytes are no whole number of float32: the file is cut off or damaged")
    seen = int(np.frombuffer(content[12:header], "<i8" if is_wide else "<i4")[0])
    numbers = np.frombuffer(content, "<f4", offset=header).astype(np.float32)
    if not np.isfinite(numbers).all():
        at = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(f"{path}: number {at} is {numbers[at]}, no weight: not a file of darknet's, or a damaged one")
    return seen, numbers


def _tensors_in_order(network: nn.Module) -> list[tuple[str, list[Tensor]]]:
    """Each convolution's name, and its tensors as darknet writes them."""
    known = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    found: list[tuple[str, list[Tensor]]] = []
    for (name, layer), (_, following) in zip(known, [*known[1:], ("", None)], strict=True):
        if not isinstance(layer, nn.Conv2d):
            continue
        if isinstance(following, nn.BatchNorm2d):
            statistics = [following.get_buffer("running_mean"), following.get_buffer("running_var")]
            before = [following.bias, following.weight, *statistics]
        else:
            assert layer.bias is not None
            before = [layer.bias]
        found.append((name, [*before, layer.weight]))
    return found


def _misfit(path: Path, layers: list[tuple[str, list[Tensor]]], there: int, wanted: int) -> str:
    if there > wanted:
        left = there - wanted
        return (
            f"{path}: {left:,} of its {there:,} numbers are left over after the {len(layers)} convolutions of this "
            "network: it belongs to another one, or to one for more classes"
        )
    end = 0
    for number, (name, tensors) in enumerate(layers, start=1):
        end += sum(tensor.numel() for tensor in tensors)
        if end > there:
            return (
                f"{path}: ends in convolution {number} of {len(layers)} ({name}): its {there:,} numbers are "
                f"{wanted - there:,} too few. It is cut off, or belongs to another network, or to one for fewer classes"
            )
    raise AssertionError("the last layer ends at `wanted`")
