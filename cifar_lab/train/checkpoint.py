"""The state from which a training goes on, on disk: whole or not there, unchanged, and read without running code.

A checkpoint is the zip file that torch writes. Its comment holds the SHA-256 of the rest of the file, for torch's
reader does not look at the checksums within the zip. Checkpoints of earlier versions have no comment.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from cifar_lab.errors import CellError
from cifar_lab.tracking import atomic, seal

COMMENT = b"sha256:"
FINGERPRINT = "fingerprint"
PARTS = frozenset({"net", "optimizer", "scaler", "lookahead", "ema", "counters", "losses", "norms"})
"""What the state of a training consists of."""
_LENGTH = len(COMMENT) + 64
_NO_COMMENT = bytes(2)
"""The last two bytes of a zip file without a comment: the length of the comment."""


def save(path: Path, state: dict[str, Any], fingerprint: str | None = None) -> None:
    """Replace the checkpoint at `path` by `state`: tensors, numbers, strings, and lists and dicts of these.

    fingerprint: of the cell that is trained; `load` refuses the state of another one.
    """
    named = state if fingerprint is None else {**state, FINGERPRINT: fingerprint}
    atomic.write(path, lambda file: _write(file, named))


def load(path: Path, fingerprint: str | None = None) -> dict[str, Any] | None:
    """Return the state at `path`, its tensors on the CPU, or None when there is none.

    Whoever goes on from it copies the tensors to where they belong (`Trainer.load_state_dict`).

    Args:
        path: where the checkpoint is.
        fingerprint: the cell that goes on; without one, any state is returned.

    Raises:
        CellError: the file is there and cannot be read, was changed after it was written, or is another cell's.
    """
    try:
        content = seal.content(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CellError(f"{path}: cannot be read ({error.strerror or error})") from error
    state = _read(path, content)
    if fingerprint is None:
        return state
    owner = state.pop(FINGERPRINT, fingerprint)
    if owner != fingerprint:
        raise CellError(f"{path}: the checkpoint of another cell, {str(owner)[:12]}")
    if missing := sorted(PARTS - state.keys()):
        raise CellError(f"{path}: not the checkpoint of a training: '{missing[0]}' is missing")
    return state


class _Hashing:
    """Pass on what is written, and hash it on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._last, self.digest = file, b"", hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self._last = (self._last + bytes(content[-2:]))[-2:]
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def ends_without_comment(self) -> bool:
        """The last two bytes are the length of no comment."""
        return self._last == _NO_COMMENT


def _write(file: BinaryIO, state: dict[str, Any]) -> None:
    """Let torch write the zip file, then replace the length of its comment, 0, by a comment with the checksum."""
    hashing = _Hashing(file)
    torch.save(state, cast(IO[bytes], hashing))
    if not hashing.ends_without_comment:
        raise CellError("torch wrote a checkpoint that does not end like a zip file without a comment")
    comment = COMMENT + hashing.digest.hexdigest().encode()
    file.seek(-len(_NO_COMMENT), io.SEEK_END)
    file.write(len(comment).to_bytes(2, "little") + comment)


def _read(path: Path, content: bytes) -> dict[str, Any]:
    """Return the state that a file holds, once it is proved to be as it was written."""
    unreadable = f"{path}: not a readable checkpoint"
    if (why := _damage(content)) is not None:
        raise CellError(f"{unreadable} ({why})")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise CellError(f"{unreadable} ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise CellError(f"{unreadable} (it holds no state, but {type(state).__name__})")
    return state


def _damage(content: bytes) -> str | None:
    """Return how a file differs from what was written; None for a sound one."""
    comment = content[-_LENGTH:]
    if comment.startswith(COMMENT) and content[-_LENGTH - 2 : -_LENGTH] == _LENGTH.to_bytes(2, "little"):
        digest = hashlib.sha256(memoryview(content)[: -_LENGTH - 2])
        digest.update(_NO_COMMENT)
        same = comment[len(COMMENT) :] == digest.hexdigest().encode()
        return None if same else "its checksum does not match: it was changed after it was written"
    try:  # of an earlier version: the zip's own checksums
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.comment:
                return "its checksum is damaged"
            bad = archive.testzip()
    except Exception as error:  # noqa: BLE001 (zipfile raises a dozen kinds for a damaged file)
        return f"no zip file: {type(error).__name__}"
    return f"the checksum of {bad} within is another one" if bad is not None else None
