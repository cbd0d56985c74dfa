"""Every random number of a run is a function of where it is drawn, so a resumed run draws the same ones."""

from __future__ import annotations

import hashlib


def seed_of(*place: int | str) -> int:
    """A 63-bit seed for a place in a run, like `seed_of(seed, "augment", epoch, index)`."""
    digest = hashlib.blake2b("/".join(map(str, place)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
