"""Remove passwords and tokens from text before it is printed, logged or stored."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from urllib.parse import quote, unquote

HIDDEN = "***"

DATABASES = r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|cockroachdb|ssh|git|rediss?|mongodb)(?:\+\w+)?"
"""Schemes whose addresses often hold a user name alone, which is no secret. Elsewhere it may be a token."""
REST = r"(?:(?!\s+\S*://)[^\n])*"
"""What follows on the line, up to the word that holds the next address."""
PORT = rf"\d{{1,5}}(?:/[^\s@]*)?(?:\s|[,;'\")\]](?!\S*@)|$)(?!{REST}@[\w.-]+(?::\d|/))"
"""A port, where no `@` ends the word and no `@host/` or `@host:80/` follows: then it begins a password."""
PASSWORD = re.compile(rf"(://(?!\[)[^\s/:]*):(?!{PORT}){REST}@")
"""`://user:password@`. A user may be an email address, and a password may hold blanks, `/` and `@`."""
TOKEN = re.compile(rf"(?<![\w+.-])((?!{DATABASES}://)[a-z][a-z0-9+.-]*://)(?!\*\*\*@)[^\s/:@]+@", re.IGNORECASE)
"""`http://token@host`."""
NAME = (
    r"[\w-]*(?:password|passwd|passphrase|pwd|token|secret|credentials?|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|account[_-]?key|signature)"
)
ASSIGNED = re.compile(
    rf"""({NAME})(\s*=\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^&\s]+?(?=['"](?:[\s,;:.)]|$)|:?(?:[&\s]|$)))""",
    re.IGNORECASE,
)
"""`password=…` in a query, for libpq, and in a shell. A quote or colon that ends a word belongs to the sentence."""
KEYED = re.compile(rf"""((["']){NAME}\2\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.IGNORECASE)
"""`"password": "…"` in JSON and in Python literals."""
HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+)[^\s'\"]+", re.IGNORECASE)

BARE = re.compile(r"\b((?:basic|bearer)\s+)(?=[\w.-]*[\d+/=])[\w+/=.-]{8,}", re.IGNORECASE)
"""Value of an `Authorization` header, repeated by a server without the header's name."""

NOTIFY_OPTION, NOTIFY_URLS = "--notify", "CIFAR_LAB_NOTIFY"
"""Option and environment variable with addresses of services, of which any part may be a token."""
NOTIFIED = re.compile(
    rf"""({NOTIFY_OPTION}(?:=|\s+)|{NOTIFY_URLS}=)(?!\S+://\*\*\*)('[^']*://[^']*'|"[^"]*://[^"]*"|[\w+.-]+://[^\s`]+)"""
)
"""Such an address in a command line."""

ADDRESSES = ("MLFLOW_TRACKING_URI", "CIFAR_LAB_STORAGE", "DATABASE_URL")
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD", "POSTGRES_PASSWORD")
"""Environment variables that hold a password, or an address with one."""
SHORTEST = 8
"""Minimum length of a password that is hidden everywhere: a shorter one may be a common word."""


def redacted(text: str) -> str:
    """Return `text` without passwords and tokens.

    Hidden are `user:password@` and `token@` in addresses, values of `password=`, `token=`, `api_key=` and the like,
    addresses after `--notify`, and the passwords in the environment. `http://user:secret@host` keeps everything but the
    secret; if a password contains `/`, `@` or blanks, more than the password may be hidden.
    """
    for secret in _of_environment():
        text = text.replace(secret, HIDDEN)
    text = NOTIFIED.sub(lambda match: match[1] + hidden_target(match[2]), text)
    text = PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = TOKEN.sub(rf"\1{HIDDEN}@", text)
    text = KEYED.sub(rf'\1"{HIDDEN}"', text)
    text = ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    return BARE.sub(rf"\1{HIDDEN}", HEADER.sub(rf"\1{HIDDEN}", text))


def redacted_command(words: str | Sequence[str]) -> str:
    """Return a command line, as separate words or already joined, without passwords and tokens.

    Words are processed before shell quoting: quotes would end a quoted password too early.
    """
    if not isinstance(words, str):
        return shlex.join(_clean(words))
    whole, split = redacted(words), _split(words)
    if split is None:  # not a command line: a quote is open
        return whole
    clean = _clean(split)
    return whole if _split(whole) == clean else shlex.join(clean)


def hidden_target(address: str) -> str:
    """Return the address of a service without all that follows its scheme, which may be a token: `slack://***`."""
    scheme, separator, _ = address.strip("'\"").partition("://")
    return f"{scheme}://{HIDDEN}" if separator and re.fullmatch(r"[\w+.-]+", scheme) else HIDDEN


def _clean(words: Sequence[str]) -> list[str]:
    """Return the words of a command line, each without passwords and tokens."""
    clean = [redacted(word) for word in words]
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == NOTIFY_OPTION and equals:
            clean[place] = f"{option}={hidden_target(value)}"
        elif place and words[place - 1] == NOTIFY_OPTION:
            clean[place] = hidden_target(word)
    return clean


def _split(line: str) -> list[str] | None:
    try:
        return shlex.split(line)
    except ValueError:
        return None


def _of_environment() -> list[str]:
    """Return the passwords in the environment, plain and quoted as in an address, the longest first."""
    whole = [os.environ.get(name, "") for name in SECRETS]
    in_addresses = [password_of(os.environ.get(name, "")) for name in ADDRESSES]
    notified = os.environ.get(NOTIFY_URLS, "").split()
    in_addresses += [part for url in notified for part in (url.partition("://")[2], password_of(url))]
    plain = [secret for secret in (*whole, *in_addresses) if len(secret) >= SHORTEST]
    forms = {form for secret in plain for form in (secret, unquote(secret), quote(secret, safe=""))}
    return sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)


def password_of(address: str) -> str:
    """Return the password in an address as typed; empty without one."""
    _, _, rest = address.partition("://")
    user, found, _ = rest.rpartition("@")
    return user.partition(":")[2] if found else ""
