"""Checkpoints for exact resume: one file, replaced atomically, loaded with `weights_only=True`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from striate.errors import DataError
from striate.files import write_atomic

FORMAT = 2  # 1 knew one network and one optimiser


def save_checkpoint(run: Path, state: dict[str, Any]) -> Path:
    """Write `last/checkpoint.pt`: tensors and plain values only.

    Raises:
        StriateError: the disk is full; the checkpoint before still stands.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    return write_atomic(run / "last" / "checkpoint.pt", buffer.getvalue())


def load_checkpoint(run: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote.

    Raises:
        DataError: none there, or not readable.
    """
    path = run / "last" / "checkpoint.pt"
    if not path.is_file():
        raise DataError(f"{run}: nothing to resume: there is no last/checkpoint.pt in it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise DataError(f"{path}: not readable as a checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DataError(f"{path}: saved by another version of striate, which alone can go on with it. Train anew")
    return state
