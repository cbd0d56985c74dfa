"""`striate doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

PACKAGES = ("torch", "torchvision", "torchcodec", "accelerate", "numpy", "pillow", "scikit-learn", "safetensors")
EXTRAS = {"pyarrow": "parquet"}


def doctor(*, json: bool = False) -> int:
    """Say what this machine can do, which packages are there, and what would make it faster.

    Args:
        json: as JSON on stdout.
    """
    import torch

    from striate.cli.terminal import print_json, print_table, say
    from striate.device import can_compile, has_native_bf16, pick_device
    from striate.train.run_report import processor_name

    device = pick_device()
    disk = shutil.disk_usage(".")
    facts = {
        "striate": importlib.metadata.version("striate"),
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": f"{processor_name()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "device": str(device) + (f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""),
        "bf16": "native" if has_native_bf16(device) else "not native: fp32 is used",
        "torch.compile": "yes" if can_compile(device) else "no C++ compiler found",
        "disk free here": f"{disk.free / 2**30:.1f} GiB",
        **{package: installed(package) for package in PACKAGES},
        **{f"{package} (extra {extra})": installed(package) for package, extra in EXTRAS.items()},
        "pictures": decoder(),
    }
    if json:
        print_json(facts)
    else:
        print_table(("what", "found"), list(facts.items()))
    if not can_compile(device):
        say("advice: install g++ so that long runs on the processor can be compiled")
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        say("advice: there is an NVIDIA driver, but this torch does not see a GPU: check its CUDA build")
    say("next: striate train digits")
    return 0


def installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def decoder() -> str:
    """Which decoder reads a JPEG here."""
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError) as error:
        return f"Pillow (torchcodec cannot be loaded: {str(error).splitlines()[0]})"
    return f"torchcodec ({decode_jpeg.__name__}), Pillow for odd formats"
