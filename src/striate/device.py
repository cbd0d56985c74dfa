"""Which device, number format and memory layout suit this machine."""

from __future__ import annotations

import ctypes
import shutil
import sys
from typing import Literal

import torch

from striate.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: the GPU if there is one, else the processor; any name torch knows (`cpu`, `cuda`, `cuda:1`, `mps`).

    Raises:
        UsageError: no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f'device "{name}" is not known; try auto, cpu, cuda or cuda:0') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f'device "{name}": torch sees {torch.cuda.device_count()} CUDA devices here; try --device auto'
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError('device "mps" is not available here; try --device auto')
    return device


def has_native_bf16(device: torch.device) -> bool:
    """True where bfloat16 is faster than float32. On a processor without the instructions it is 500 times slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def pick_precision(name: str, device: torch.device) -> Precision:
    """`auto`: bf16 where the device has it natively, else fp32.

    Raises:
        UsageError: fp16 without a GPU.
    """
    if name == "auto":
        return "bf16" if has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise UsageError("precision fp16 needs a GPU; on a processor use --precision auto")
    return name  # type: ignore[return-value]


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on a processor, Triton on a GPU."""
    if device.type == "cpu":
        return any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++"))
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    return False


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks instead of returning them to the system; True where that was possible.

    A training step on a processor frees and takes back gigabytes of activations; each time the system hands out fresh
    zeroed pages. Without that, ResNet-50 trains a third faster (`python -m bench train_step`). It holds for the whole
    process, whose memory then stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, 2**31 - 1))
    except (OSError, AttributeError):  # musl has no mallopt
        return False
