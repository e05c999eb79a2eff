"""Random streams, one per purpose.

Each purpose ("order", "crop", "init", …) has a separate stream, so that a variant that draws more numbers for one
purpose does not change another: variants with one seed have the same order, the same crops, the same flips.
"""

from __future__ import annotations

import hashlib


def seed_of_draws(seed: int, parent: str | None) -> int:
    """Return the seed of a training's random streams: `seed`, or a derived one if it continues another training.

    A stage that continues from the weights of `parent`, a fingerprint, counts its epochs from the first again. With the
    plain seed it would repeat its parent's order, crops, flips, mixes and dropout masks.
    """
    return seed if parent is None else stream(seed, "after", parent)


def stream(seed: int, *purpose: str | int) -> int:
    """Return the seed of the stream for `(seed, *purpose)`: in [0, 2**63), stable across machines and versions.

    >>> stream(0, "flip", 3) == stream(0, "flip", 3) != stream(0, "crop", 3)
    True
    """
    key = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
