"""Word what is said about paths and names in one line."""

from __future__ import annotations

import re

from cifar_lab.errors import shortened
from cifar_lab.text import printable

LONGEST = 240
"""Characters of a path or name that are shown; a longer one is cut in the middle."""

_IGNORED = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin")


def shown(name: object) -> str:
    """Return `name` quoted, printable and on one line; more than `LONGEST` characters are cut in the middle."""
    return shortened(repr(str(name)), LONGEST)


def one_line(reason: object) -> str:
    """Return the text of `reason` printable and on one line, cut in the middle if it is very long."""
    return shortened(printable(" ".join(str(reason).split())), 2 * LONGEST)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or a companion that an operating system leaves behind."""
    return name.startswith(".") or name.lower() in _IGNORED


def parts(name: str) -> list[str]:
    """Return the folders and the file of an archive member's name; `./` and empty parts are dropped."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def leads_out(name: str) -> bool:
    """Return whether unpacking a member of this name would write outside the folder it is unpacked into."""
    return name.startswith(("/", "\\")) or bool(re.match(r"[A-Za-z]:[\\/]", name)) or ".." in parts(name)


def title(name: str) -> str:
    """Return the name of a file without the endings of an archive: `images` for `images.tar.gz`."""
    return re.sub(r"(\.(zip|npz|tar|tgz|tbz2?|gz|bz2))+$", "", name, flags=re.IGNORECASE) or name
