"""Random streams, keyed by what they are for.

Each purpose ("order", "crop", "init", …) draws from a stream of its own, so that a variant that draws more for one
purpose shifts nothing for another: variants of one seed see the same order, the same crops, the same flips.
"""

from __future__ import annotations

import hashlib


def seed_of_draws(seed: int, parent: str | None) -> int:
    """Return the seed whose streams a training draws from: `seed`, or one of its own where it continues another.

    A stage that goes on from the weights of `parent`, a fingerprint, counts its epochs from the first again. With the
    plain seed it would see its parent's order, crops, flips, mixes and dropout masks once more.
    """
    return seed if parent is None else stream(seed, "after", parent)


def stream(seed: int, *purpose: str | int) -> int:
    """Seed of the stream for `(seed, *purpose)`: an integer in [0, 2**63), stable across machines and versions.

    >>> stream(0, "flip", 3) == stream(0, "flip", 3) != stream(0, "crop", 3)
    True
    """
    key = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
