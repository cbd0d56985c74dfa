"""Small words and numbers that every result prints."""

from __future__ import annotations

import math


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def visible(text: str) -> str:
    """Text on one line: line breaks and terminal codes in file names shown as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def spelt(target: str | tuple[str, ...] | float | None) -> str:
    return ", ".join(target) or "none" if isinstance(target, tuple) else str(target)
