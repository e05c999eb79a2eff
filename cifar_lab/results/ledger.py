"""Ledger of looks: an account of how often the results of a study were judged, one question per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from cifar_lab.errors import UsageError
from cifar_lab.store import atomic_file

PATIENCE = 20.0
"""Seconds after which a ledger that another process holds is given up."""
NOT_ASKED = frozenset({"file", "sha256", "variant", "seed", "value"})
"""Fields of an entry that say where its numbers came from, and are no part of the question."""
NOT_ASKED_EARLIER = frozenset({"file", "rows"})
"""The same, for entries without a digest of the numbers."""


def enter_look(ledger: Path, asked: Mapping[str, Any]) -> int:
    """Return the number of this look; one at the same numbers with the same question is no new one.

    Args:
        ledger: file of the ledger; made where there is none.
        asked: the question, with `rows`, the digest of its numbers. Entries of earlier versions have none: they are
            compared by `sha256`, the digest of the file, and by the names of its columns.

    Raises:
        UsageError: the ledger cannot be written, or has a line that is not one.
    """
    if not ledger.parent.is_dir() or (ledger.exists() and not ledger.is_file()):
        raise UsageError(f"--ledger {ledger}: {'not a file' if ledger.exists() else 'its folder does not exist'}")
    try:
        with FileLock(f"{ledger}.lock", timeout=PATIENCE):
            text = ledger.read_text(encoding="utf-8") if ledger.exists() else ""
            entries = _entries(text, ledger)
            for number, entry in enumerate(entries, 1):
                leave_out = NOT_ASKED if "rows" in entry else NOT_ASKED_EARLIER
                if _without(entry, leave_out) == _without(asked, leave_out):
                    return number
            whole = (text if text.endswith("\n") or not text else f"{text}\n") + json.dumps(asked) + "\n"
            atomic_file.write_text(ledger, whole)
            return len(entries) + 1
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"--ledger {ledger} cannot be read and written: {why}") from error


def _without(entry: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def _entries(text: str, ledger: Path) -> list[dict[str, Any]]:
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or "sha256" not in entry:
            raise UsageError(
                f"{ledger}, line {number}: not an entry of a ledger of looks; delete it if writing it was interrupted"
            )
        entries.append(entry)
    return entries
