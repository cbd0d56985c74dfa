"""Every error a user can cause: what was wrong, where, and what to do, in one line.

The command line prints the message after `striate: ` and exits with `exit_code`; Ctrl-C and
SIGTERM exit with 130 after a checkpoint is saved.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 130  # exit code of Ctrl-C and SIGTERM, as a shell would give it


class StriateError(Exception):
    """Something failed that is nobody's bug; the message is the whole story."""

    exit_code = 1


class UsageError(StriateError):
    """An option, name or argument that cannot be meant."""

    exit_code = 2


class MissingExtra(StriateError):
    """An optional package is needed; the message says which to install."""

    exit_code = 3

    def __init__(self, package: str, extra: str, what_for: str) -> None:
        super().__init__(f"{what_for} needs the package {package}: pip install 'striate[{extra}]'")


class DataError(StriateError):
    """The user's files are not what they should be; the message names file and line."""

    exit_code = 4


class ImageError(DataError):
    """One picture could not be read; the message begins with its path."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean "resnet18"?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.55)
    return f' Did you mean "{near[0]}"?' if near else ""
