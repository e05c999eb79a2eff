"""Formatting of paths and names in one-line messages."""

from __future__ import annotations

import re

from cifar_lab.errors import shortened
from cifar_lab.text import printable

LONGEST = 240
"""Maximum number of characters shown of a path or name; longer ones are cut in the middle."""

_IGNORED = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin")


def shown(name: object) -> str:
    """Return `name` quoted, printable and on one line; more than `LONGEST` characters are cut in the middle."""
    return shortened(repr(str(name)), LONGEST)


def short_line(reason: object) -> str:
    """Return the text of `reason` printable and on one line, cut in the middle if it is very long."""
    return shortened(printable(" ".join(str(reason).split())), 2 * LONGEST)


def is_ignored(name: str) -> bool:
    """Tell whether a file or folder with this name is hidden, or a companion file of an operating system."""
    return name.startswith(".") or name.lower() in _IGNORED


def parts(name: str) -> list[str]:
    """Split an archive member's name into folders and file, without `./` and empty parts."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def leads_out(name: str) -> bool:
    """Tell whether a member with this name would be unpacked outside of the target folder."""
    return name.startswith(("/", "\\")) or bool(re.match(r"[A-Za-z]:[\\/]", name)) or ".." in parts(name)


def title(name: str) -> str:
    """Return the name of a file without archive extensions: `images` for `images.tar.gz`."""
    return re.sub(r"(\.(zip|npz|tar|tgz|tbz2?|gz|bz2))+$", "", name, flags=re.IGNORECASE) or name
