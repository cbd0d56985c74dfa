"""Where tests find real data: `../shared/data` beside the checkout, or the folder STRIATE_TEST_DATA names."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same_examples", derandomize=True)
settings.load_profile("same_examples")

DATA = Path(os.environ.get("STRIATE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "striate-tests"

os.environ.setdefault("NO_COLOR", "1")  # what commands print is compared as text
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads that wait for each other only spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def unpacked(name: str) -> Path:
    """The unpacked folder of one zip of the shared data; unpacked once, beside the repository's reach."""
    archive = DATA / f"{name}.zip"
    if not archive.exists():
        pytest.skip(f"needs {name}.zip: set STRIATE_TEST_DATA to the folder that holds it")
    folder = CACHE / f"{name}-{archive.stat().st_size}"
    if not folder.exists():
        beside = CACHE / f"{name}.{os.getpid()}.part"
        with zipfile.ZipFile(archive) as file:
            file.extractall(beside)
        with contextlib.suppress(OSError):  # another worker was first
            beside.rename(folder)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    return unpacked


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """A file of the shared data by its name, or a skip."""

    def found(name: str) -> Path:
        if not (DATA / name).exists():
            pytest.skip(f"needs {name}: set STRIATE_TEST_DATA to the folder that holds it")
        return DATA / name

    return found
