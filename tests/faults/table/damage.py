"""Damage to files as disks do it, and commands that are run in this process to see what they make of it."""

from __future__ import annotations

import io
import logging
import os
import random
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from cifar_lab.cli import run

WORDS = ("damaged", "cannot be read", "not readable", "not a readable", "unreadable", "checksum", "corrupt",
         "malformed", "not a database", "no longer matches", "does not match", "half written", "lost its end",
         )  # fmt: skip
"""Words by which a message names damage."""


def harm(path: Path, chance: random.Random) -> str:
    """Damage a file at a random place; return what was done. Its time of change stays: decay does not set it."""
    before, stat = path.read_bytes(), path.stat()
    after, what = before, ""
    while after == before:
        after, what = _harmed(before, chance)
    path.write_bytes(after)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return f"{path.name}: {what}"


def _harmed(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57] if _is_text(content) else []
    kind = chance.choice(["bit", "bit", "cut", "digit" if digits else "page"])
    if kind == "cut":
        at = chance.randrange(len(content))
        return content[:at], f"truncated to {at} of {len(content)} bytes"
    if kind == "page":
        at = chance.randrange(len(content)) // 4096 * 4096
        page = content[at : at + 4096]
        return content[:at] + bytes(len(page)) + content[at + 4096 :], f"page at {at} zeroed"
    if kind == "digit":
        at = chance.choice(digits)
        other = (content[at] - 48 + chance.randint(1, 9)) % 10 + 48
        return content[:at] + bytes([other]) + content[at + 1 :], f"digit at {at} changed"
    at, bit = chance.randrange(len(content)), chance.randrange(8)
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :], f"bit {bit} of byte {at} flipped"


def _is_text(content: bytes) -> bool:
    return b"\0" not in content[:4096] and content[:1] in {b"{", b"["}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str
    crash: str
    """Kind and text of an exception that the command did not turn into a line; empty without one."""


def show(*line: str) -> Shown:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    code, crash = 0, ""
    warnings = logging.StreamHandler(err)  # pytest's own handlers keep them from standard error
    logging.getLogger().addHandler(warnings)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = run(list(line))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:  # noqa: BLE001 (a traceback for the user: it is counted)
            code, crash = 1, "".join(traceback.format_exception_only(error)).strip().splitlines()[-1][:200]
    logging.getLogger().removeHandler(warnings)
    return Shown(code=code, out=out.getvalue(), err=err.getvalue(), crash=crash)


def names_damage(text: str) -> bool:
    """Tell whether a message says that a file is damaged."""
    return any(word in text.lower() for word in WORDS)


def judge(line: str, sound: Shown, shown: Shown, warned: str = "") -> list[str]:
    """Return what is wrong with what a command makes of a damaged file: nothing, if it is equal or names the damage.

    `warned`: what earlier commands printed of the same folder, for some warnings are printed once in a process.
    """
    if shown.crash:
        return [f"{line}: traceback: {shown.crash}"]
    if "Traceback" in shown.err:
        return [f"{line}: traceback printed"]
    if (shown.code, shown.out) == (sound.code, sound.out) or names_damage(shown.out + shown.err + warned):
        return []
    return [f"{line}: another output, and no word of damage: {_first_difference(sound.out, shown.out) or shown.err}"]


def _first_difference(sound: str, shown: str) -> str:
    pairs = zip(sound.splitlines(), shown.splitlines(), strict=False)
    return next((f"'{b.strip()[:80]}' for '{a.strip()[:80]}'" for a, b in pairs if a != b), "")
