"""Keeping picture libraries quiet: their remarks on damaged files become our errors, not lines on stderr."""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _WhileInside:
    """Does something when the first thread enters and undoes it when the last one leaves."""

    def __init__(self, begin: Callable[[], Callable[[], object]]) -> None:
        self.begin, self.inside, self.lock = begin, 0, threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self.undo = self.begin()
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self.undo()


def _ignore_pillow() -> Callable[[], object]:
    logger = logging.getLogger("PIL")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # else Python prints what no handler takes on stderr
    filters = warnings.catch_warnings()
    filters.__enter__()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return lambda: filters.__exit__(None, None, None)


@functools.cache
def _c_stderr() -> tuple[ctypes.c_void_p, int | None] | None:
    """The C library's variable `stderr`, and a stream to nowhere; None where there is no such variable (Windows)."""
    try:
        library = ctypes.CDLL(None)
        try:
            variable = ctypes.c_void_p.in_dll(library, "stderr")
        except ValueError:
            variable = ctypes.c_void_p.in_dll(library, "__stderrp")  # macOS
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(b"/dev/null", b"w")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return (variable, nowhere) if nowhere else None


def _ignore_c_libraries() -> Callable[[], object]:
    found = _c_stderr()
    if found is None:
        return lambda: None
    variable, nowhere = found
    before, variable.value = variable.value, nowhere
    return lambda: setattr(variable, "value", before)


# `warnings.catch_warnings` alone would, entered by two threads, leave its filter behind for ever.
quiet_pillow = _WhileInside(_ignore_pillow)

# libjpeg and libtiff print with `fprintf(stderr, …)`. Only that stream is changed: file descriptor 2 and Python's
# sys.stderr, which other threads draw progress on, are not touched.
quiet_c_libraries = _WhileInside(_ignore_c_libraries)
