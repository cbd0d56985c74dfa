"""Writing files so that a kill at any moment leaves the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from striate.errors import StriateError, UsageError


def write_atomic(path: str | Path, content: bytes | str) -> Path:
    """Write beside, sync, rename.

    Raises:
        StriateError: the disk is full or the folder cannot be written; what stood there before still stands.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # not there, or no folder to be in
            beside.unlink()
        raise StriateError(
            f"{path}: could not be written ({error.strerror}). What stood there before is untouched."
        ) from None
    return path


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut; a no-op where folders cannot be opened (Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_overwrite(path: str | Path, overwrite: bool) -> Path:
    """The path, if it is free or may be overwritten.

    Raises:
        UsageError: something stands there.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already: choose another place, or pass --overwrite (overwrite=True)")
    return path
