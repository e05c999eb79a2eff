"""Validation of a study's name and storage, before anything is created."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from cifar_lab.errors import UsageError, shortened
from cifar_lab.redaction import redacted

NAME = re.compile(r"[^\W_](?:[\w.+ -]*[\w.+-])?", re.ASCII)
"""Valid names: they become part of file names, of an experiment's name, and of a tracking server's search filters."""
LONGEST = 80
KEYWORDS = re.compile(
    r"(?:^|[\s;])(?:host|hostaddr|port|user|password|passfile|dbname|service|sslmode)\s*=", re.IGNORECASE
)
"""Keywords of a libpq connection string, `host=db password=…`, which Optuna does not accept as a storage."""
SHOWN = 60
"""Maximum characters of a name in a message."""


def require_study_name(name: str) -> None:
    """Check the name of a new study.

    Raises:
        UsageError: empty, longer than `LONGEST`, or with an invalid character; the message suggests a valid name.
    """
    if len(name) <= LONGEST and NAME.fullmatch(name) and ".." not in name:
        return
    slug = slug_of(name)
    hint = f"; for example '{slug}'" if slug else ""
    raise UsageError(
        f"--study takes 1 to {LONGEST} letters, digits, blanks and . _ + - that begin with a letter or digit, "
        f"got {shortened(repr(name), SHOWN)}{hint}"
    )


def slug_of(name: str) -> str:
    """Return the valid name closest to `name`; empty if no letter or digit is left."""
    plain = re.sub(r"[^A-Za-z0-9_.+ -]+", "-", name)
    plain = re.sub(r"\.{2,}", ".", plain)
    return plain.lstrip("._+ -")[:LONGEST].rstrip("._+ -")


def ablation_name(prefix: str, study: str) -> str:
    """Return the name of an ablation that is generated from a study: `confirm_wide`.

    Ablations have fewer valid characters than studies. A name that has to be changed ends with a digest, so that two
    studies never share an ablation.
    """
    plain = re.sub(r"[^a-z0-9_.+-]", "-", study.lower())
    name = f"{prefix}_{plain}"
    if plain == study and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(study.encode()).hexdigest()[:6]
    return f"{name[: LONGEST - len(digest) - 1]}-{digest}"


def require_storage(url: str | None) -> None:
    """Reject a connection string in place of a URL: it would become a file name, including the password.

    An existing file with such a name is accepted: it was created before this rule.

    Raises:
        UsageError: empty, keywords and values, or an address without a scheme; no password is repeated.
    """
    if url is None or "://" in url:
        return
    if not url.strip() or "\0" in url:
        raise UsageError("--storage takes a database's URL or the path of a journal file, got nothing of either")
    if KEYWORDS.search(url) and not _exists(url):
        keys = " ".join(f"{key}=***" for key in re.findall(r"(\w+)\s*=", url))
        raise UsageError(
            "--storage takes a database's URL, postgresql+psycopg://user@host/name, or the path of a journal file, "
            f"got keywords and values: {keys}"
        )
    if re.match(r"[^/]*:.*@", url) and not _exists(url):
        raise UsageError(
            f"--storage {redacted(f'http://{url}').removeprefix('http://')}: names no scheme; a database's URL begins "
            "with postgresql+psycopg:// or sqlite:///"
        )


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
