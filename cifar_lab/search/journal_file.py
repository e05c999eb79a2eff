"""Journal file of studies on one machine: Optuna's log of operations, one JSON object per line.

Any Optuna can read it. In addition to Optuna's own backend, each line carries a checksum, an incomplete last line is
cut off before the next line is written, damage is reported with its line number, and the lock of a dead process is
released. Reading takes no lock and writes nothing.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from cifar_lab.errors import TrackingError, UsageError
from cifar_lab.store import checksum

Say = Callable[[str], None]

STALE = 20.0
"""Seconds after which a lock is stale; its holder appends one line, which takes milliseconds."""
PATIENT = 3.0
"""Seconds of waiting for a lock before a message."""
LONGEST_SLEEP = 0.1
CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\r?\n\Z')
"""End of a line: the checksum of what precedes it. Lines of other programs have none."""
NUMBER, COUNT, TEXT, TREE, LIST = (int, float), (int,), (str,), (dict,), (list,)
NONE = (type(None),)
FIELDS: dict[int, dict[str, tuple[type, ...]]] = {
    0: {"study_name": TEXT, "directions": LIST},
    1: {"study_id": COUNT},
    2: {"study_id": COUNT, "user_attr": TREE},
    3: {"study_id": COUNT, "system_attr": TREE},
    4: {"study_id": COUNT, "datetime_start": TEXT + NONE},
    5: {"trial_id": COUNT, "param_name": TEXT, "param_value_internal": NUMBER, "distribution": TEXT},
    6: {"trial_id": COUNT, "state": COUNT, "values": LIST + NONE},
    7: {"trial_id": COUNT, "step": COUNT, "intermediate_value": NUMBER},
    8: {"trial_id": COUNT, "user_attr": TREE},
    9: {"trial_id": COUNT, "system_attr": TREE},
    10: {},
}
"""Required fields with their types, by operation of `optuna.storages.journal`."""


def _silent(_line: str) -> None:
    return


class JournalFile(BaseJournalBackend):
    """Backend for `optuna.storages.JournalStorage`; several processes may share the file at `path`.

    `say` is called with one line if a tail was cut off, or a lock was waited for or released. The file is created with
    its first line, so an empty file has been truncated.
    """

    def __init__(self, path: Path, say: Say = _silent, *, only_reads: bool = False) -> None:
        """Prepare the backend without opening the file; `only_reads`: report an incomplete line, do not cut it off."""
        self.path, self._say, self._only_reads = path, say, only_reads
        self._lock = SymlinkLock(path, say)
        self._offsets: dict[int, int] = {0: 0}
        self.line = 0
        """Number of the last line read, from 1 on."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from that number on; an incomplete last line is ignored.

        Raises:
            UsageError: a line is damaged, or the file is shorter than before.
            TrackingError: the file cannot be read.
        """
        number = log_number_from if log_number_from in self._offsets else 0
        offset = self._offsets[number]
        try:
            with checksum.open_regular(self.path) as file:
                if os.fstat(file.fileno()).st_size < offset:
                    raise UsageError(f"{self.path}: it has become shorter while it was in use; {_advice()}")
                file.seek(offset)
                for text in file:
                    if not text.endswith(b"\n"):
                        if self._only_reads and log_number_from == 0:
                            self._say(f"{self.path}: the last line is half written, and what it held is not counted")
                        return
                    number, offset = number + 1, offset + len(text)
                    self._offsets[number] = offset
                    if number > log_number_from:
                        self.line = number
                        yield self._parsed(text)
        except FileNotFoundError:
            return
        except OSError as error:
            raise TrackingError(f"{self.path}: cannot be read ({error.strerror or error})") from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append one line per operation, forced to the disk; all of them or none.

        Raises:
            TrackingError: the file or its lock cannot be written.
        """
        text = b"".join(map(encoded, logs))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                self._cut_torn_tail()
                self._append(text)
        except OSError as error:
            raise TrackingError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def _append(self, text: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                written = file.write(text)
                while written < len(text):  # on a nearly full disk a write is partial, and the next one fails
                    written += file.write(text[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

    def _cut_torn_tail(self) -> None:
        """Cut off an incomplete last line: while the lock is held, nobody is writing it. Its bytes are kept."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole == len(content):
                return
            aside = self.path.with_name(f"{self.path.name}.torn-{time.time_ns() // 1_000_000}")
            aside.write_bytes(content[whole:])
            file.truncate(whole)
            os.fsync(file.fileno())
        self._say(f"{self.path}: the last line was half written and is cut off; its bytes are kept in {aside.name}")

    def _parsed(self, text: bytes) -> dict[str, Any]:
        log = parsed(text)
        if isinstance(log, str):
            raise self.damage(log)
        return log

    def damage(self, why: str) -> UsageError:
        """Return an error that names the last line read and its damage."""
        return UsageError(f"{self.path}:{self.line}: damaged: {why}; {_advice()}")


def first_damage(path: Path) -> str | None:
    """Return the first damaged line of a journal of studies, `line 7: not JSON`; None if all complete lines are sound.

    Raises:
        OSError: the file cannot be read.
    """
    with checksum.open_regular(path) as file:
        for number, text in enumerate(file, start=1):
            if text.endswith(b"\n") and isinstance(rule := parsed(text), str):
                return f"line {number}: {rule}"
    return None


def parsed(text: bytes) -> dict[str, Any] | str:
    """Return the operation of a complete line, or the rule that it violates."""
    checksum = CHECKSUM.search(text)
    if checksum is not None and checksum[1] != _checksum(text[: checksum.start()]):
        return "its checksum is of another line"
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    rule = _broken(tree) or ("its checksum cannot be read" if checksum is None and "crc32" in tree else None)
    log: dict[str, Any] = tree
    return log if rule is None else rule


def encoded(log: dict[str, Any]) -> bytes:
    """Return the line of an operation: JSON with a checksum of the preceding text as its last field."""
    body = json.dumps(log, separators=(",", ":")).encode()[:-1]
    return body + b',"crc32":"' + _checksum(body) + b'"}\n'


def _checksum(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)


def _broken(tree: object) -> str | None:
    """Return the reason why Optuna could not execute an operation; None if it could."""
    if not isinstance(tree, dict):
        return "not a JSON object"
    code = tree.get("op_code")
    if not isinstance(code, int) or code not in FIELDS:
        return f"no operation has the number {code!r:.40}"
    for name, types in {"worker_id": TEXT, **FIELDS[code]}.items():
        if name not in tree:
            return f"'{name}' is missing"
        if not isinstance(tree[name], types) or (isinstance(tree[name], bool) and types != TEXT):
            return f"'{name}' is {tree[name]!r:.40}"
    return None


def _advice() -> str:
    return "bring back a copy, or move it away: a new study does not train finished cells again"


class SymlinkLock:
    """The lock that Optuna puts beside a journal, a symbolic link, so that both exclude one another.

    Optuna checks the link's target, and waits forever if the folder was moved; this class checks the link itself. The
    link's target is the absolute path, which Optuna can follow from any folder.
    """

    def __init__(self, path: Path, say: Say = _silent) -> None:
        self._target = str(path.absolute())
        self._file = Path(f"{self._target}.lock")
        self._say, self._mine = say, ""

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait for the lock; one that is unchanged for `STALE` seconds was left by a process that died.

        Raises:
            OSError: no link can be created here.
        """
        began = since = time.monotonic()
        seen, pause, is_said = "", 0.001, False
        while True:
            try:
                self._file.symlink_to(self._target)
                self._mine = self._mark()
                return
            except FileExistsError:
                pass
            mark, now = self._mark(), time.monotonic()
            if mark != seen:
                seen, since = mark, now
            elif mark and now - since > STALE:
                self._give_up(mark)
                pause = 0.001
            if not is_said and now - began > PATIENT:
                is_said = True
                self._say(f"{self._file}: held by another process; waiting")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_SLEEP)

    def release(self) -> None:
        """Release the lock, unless another process considered it stale and took it."""
        if self._mine and self._mark() == self._mine:
            self._file.unlink(missing_ok=True)
        self._mine = ""

    def _mark(self) -> str:
        """Return an identifier that distinguishes this link from a later one of its name; empty without a link."""
        try:
            status = os.lstat(self._file)
        except FileNotFoundError:
            return ""
        return f"{status.st_ino} {status.st_mtime_ns}"

    def _give_up(self, stale: str) -> None:
        """Remove the link if it is still the stale one: another waiting process may have been faster."""
        aside = Path(f"{self._file}.{uuid.uuid4()}")
        if self._mark() != stale:
            return
        try:
            self._file.rename(aside)
        except FileNotFoundError:
            return
        aside.unlink()
        self._say(f"{self._file}: left by a process that ended; removed after {STALE:.0f} s")
