"""Single precision: the default type of torch's numbers while networks are built and run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_precision() -> Iterator[None]:
    """Make float32 torch's default type, whatever a notebook has set, and restore that one.

    torch is not imported; until it is, its default is float32.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
