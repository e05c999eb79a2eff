"""Distinguish a full disk, or an exhausted quota, from other errors."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}
LEAST = 64 * 1024
"""Free bytes below which an error of a writer without a reason is attributed to a full disk."""
WRITERS = ("inline_container", "PytorchStreamWriter", "unexpected pos")
"""Texts in errors of torch's writer, which hides the reason of a failed write."""


def is_out_of_space(error: BaseException, folder: Path | None = None) -> bool:
    """Tell whether `error`, or an error in its chain, means that nothing more can be written.

    `folder`: destination, whose free space is checked if the error names no reason.
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in FULL:
            return True
        if isinstance(each, RuntimeError) and any(text in str(each) for text in WRITERS):
            return folder is None or is_full(folder)
    return False


def is_full(folder: Path) -> bool:
    """Tell whether the disk of `folder` has no room."""
    place = next((each for each in [folder, *folder.parents] if each.exists()), folder)
    try:
        return shutil.disk_usage(place).free < LEAST
    except OSError:
        return False


def where(error: BaseException, folder: Path | None = None) -> str:
    """Return `no space left on device: /runs/1a2b/checkpoint.pt`, with the file that was written, or `folder`."""
    names = (each.filename for each in _chain(error) if isinstance(each, OSError) and each.errno in FULL)
    path = next((name for name in names if name), folder)
    reasons = (each.errno for each in _chain(error) if isinstance(each, OSError) and each.errno in FULL)
    reason = os.strerror(next(reasons, errno.ENOSPC) or errno.ENOSPC).lower()
    return f"{reason}: {os.fsdecode(path)}" if path is not None else reason


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those in its chain of causes."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
