"""Ctrl-C and SIGTERM during training: finish the step, save, exit 130. A second Ctrl-C does not wait."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from striate.errors import INTERRUPTED, StriateError


class Interrupted(StriateError):
    """The run was asked to stop and has saved itself."""

    exit_code = INTERRUPTED


class StopSignal:
    """Within `with StopSignal() as stop:`, `stop.asked` turns True at the first Ctrl-C or SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
