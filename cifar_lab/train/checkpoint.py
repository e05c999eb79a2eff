"""Checkpoints: written atomically, verified by checksum, and read without executing code.

A checkpoint is the zip file that torch writes. Its comment holds the SHA-256 of the rest of the file, because torch's
reader does not verify the checksums within the zip. Checkpoints of earlier versions have no comment.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from cifar_lab.errors import CellError
from cifar_lab.store import atomic_file, checksum

COMMENT = b"sha256:"
FINGERPRINT = "fingerprint"
PARTS = frozenset({"net", "optimizer", "scaler", "lookahead", "ema", "counters", "losses", "norms"})
"""Keys of the state of a training."""
_LENGTH = len(COMMENT) + 64
_NO_COMMENT = bytes(2)
"""Last two bytes of a zip file without a comment: the length of the comment."""


def save(path: Path, state: dict[str, Any], fingerprint: str | None = None) -> None:
    """Replace the checkpoint at `path` by `state`: tensors, numbers, strings, and lists and dicts of these.

    `fingerprint`: of the cell that is trained; `load_checkpoint` rejects the state of another cell.
    """
    named = state if fingerprint is None else {**state, FINGERPRINT: fingerprint}
    atomic_file.write_atomically(path, lambda file: _write(file, named))


def load_checkpoint(path: Path, fingerprint: str | None = None) -> dict[str, Any] | None:
    """Return the state at `path`, with its tensors on the CPU, or None if there is none.

    The caller copies the tensors to their device (`Trainer.load_state_dict`).

    Args:
        path: path of the checkpoint.
        fingerprint: the cell that resumes; without one, any state is returned.

    Raises:
        CellError: the file exists, but is unreadable, was changed after it was written, or belongs to another cell.
    """
    try:
        content = checksum.content(path)
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
    """Writer that hashes the data that it passes on."""

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
        """Tell whether the last two bytes are the length of an empty comment."""
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
    """Return the state in a file, after verifying its checksum."""
    unreadable = f"{path}: not a readable checkpoint"
    if (why := _damage(content)) is not None:
        raise CellError(f"{unreadable} ({why})")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a damaged file
        raise CellError(f"{unreadable} ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise CellError(f"{unreadable} (it holds no state, but {type(state).__name__})")
    return state


def _damage(content: bytes) -> str | None:
    """Return how a file differs from what was written; None if it is intact."""
    comment = content[-_LENGTH:]
    if comment.startswith(COMMENT) and content[-_LENGTH - 2 : -_LENGTH] == _LENGTH.to_bytes(2, "little"):
        digest = hashlib.sha256(memoryview(content)[: -_LENGTH - 2])
        digest.update(_NO_COMMENT)
        same = comment[len(COMMENT) :] == digest.hexdigest().encode()
        return None if same else "its checksum does not match: it was changed after it was written"
    try:  # an earlier version: the zip's own checksums
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.comment:
                return "its checksum is damaged"
            bad = archive.testzip()
    except Exception as error:  # noqa: BLE001 (zipfile raises a dozen kinds for a damaged file)
        return f"no zip file: {type(error).__name__}"
    return f"the checksum of {bad} within is another one" if bad is not None else None
