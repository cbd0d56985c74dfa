"""Tasks by name. A new task is one file or folder here and one line in `TASKS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from striate.errors import UsageError, did_you_mean
from striate.tasks.classify.task import Classify
from striate.tasks.detect.task import Detect
from striate.tasks.keypoints.task import Keypoints
from striate.tasks.localize.task import Localize
from striate.tasks.score.task import Score
from striate.tasks.stylize.task import Stylize
from striate.tasks.task import Metrics, Task

__all__ = ["TASKS", "Metrics", "Task", "create_task"]

TASKS: dict[str, type[Task]] = {
    "classify": Classify,
    "score": Score,
    "detect": Detect,
    "localize": Localize,
    "keypoints": Keypoints,
    "stylize": Stylize,
}


def create_task(name: str, *, classes: Sequence[str], **arguments: Any) -> Task:
    """The task of that name for these classes.

    Raises:
        UsageError: no such task.
    """
    check_name(name)
    return TASKS[name](classes=classes, **arguments)  # type: ignore[call-arg]


def check_name(name: str) -> None:
    """Refuse the name of no task, before data is looked at.

    Raises:
        UsageError: no such task.
    """
    if name not in TASKS:
        raise UsageError(f'task "{name}" is not known; there are {", ".join(TASKS)}.{did_you_mean(name, TASKS)}')
