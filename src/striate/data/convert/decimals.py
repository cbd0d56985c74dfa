"""Numbers as short as they may be printed and still be read back as the same float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def shortest(value: float) -> float:
    """The float with the fewest digits among those that round to the same float32."""
    return float(str(np.float32(value)))


def same_when_read(value: float, wanted: float, read: Callable[[float], float]) -> float:
    """`value` to 9 digits behind the point, if `read` then still gives `wanted` as float32; else all its digits."""
    rounded = round(value, 9)
    return rounded if np.float32(read(rounded)) == np.float32(wanted) else value


def text(value: float) -> str:
    """Without exponent, and without a point where it is whole."""
    return np.format_float_positional(value, trim="-")
