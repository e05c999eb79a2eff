"""Uncommitted changes of the code as a diff, with possible secrets removed and its length limited."""

from __future__ import annotations

import math
import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

LONGEST = 1_000_000
"""Maximum length of a diff in characters."""
SECRET_FILES = (
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", "credentials*", "*credentials.json", "secrets*", "*.secret", ".netrc", ".pgpass",
    ".npmrc", ".pypirc", "htpasswd", ".htpasswd", "kubeconfig", "service-account*.json", "service_account*.json",
)  # fmt: skip
"""Lower-case names of files that conventionally hold secrets."""
KEYS = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
    r"|\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bglpat-[\w-]{20,}|\bhf_[A-Za-z0-9]{20,}|\bsk-[\w-]{20,}|\bsk_live_\w{16,}|\bxox[abpors]-[\w-]{10,}"
    r"|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|://[^\s/:@'\"]+:[^\s@'\"{}$*]+@"
)
"""Tokens of known form, private keys, and addresses with a password."""
ASSIGNED = re.compile(
    r"""(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|credential)\w*['"]?\s*[:=]\s*['"]([^'"\s]{8,})['"]"""
)
"""Literal assigned to a name that suggests a secret."""
WORD = re.compile(r"[A-Za-z0-9+/=_-]{32,}")
"""Candidates for random tokens; they must have letters of both cases and digits."""
RANDOM = 4.2
"""Bits per character from which a word counts as random: English and identifiers have less, base64 keys more."""


def cleaned(diff: str) -> str:
    """Return `git diff`'s output with each file that may hold a secret replaced by a line that says so.

    Output longer than `LONGEST` is truncated, and a last line says so.
    """
    kept = "".join(_without_secret(part) for part in _files(diff))
    if len(kept) <= LONGEST:
        return kept
    return kept[:LONGEST].rpartition("\n")[0] + f"\n# cut: {len(kept) - LONGEST:,} more characters were changed\n"


def _files(diff: str) -> list[str]:
    """Split a diff into one part per file."""
    return [part for part in re.split(r"(?m)^(?=diff --git )", diff) if part]


def _without_secret(part: str) -> str:
    header = part.partition("\n")[0]
    reason = _reason(header, part)
    return part if reason is None else f"{header}\n# left out: {reason}\n"


def _reason(header: str, part: str) -> str | None:
    """Return the reason for hiding a file's changes; None if they are shown."""
    if any(_is_secret_name(name) for name in re.findall(r'[ab]/[^"\n]+?(?="? "?b/|"?$)', header)):
        return "files of this name hold secrets by custom"
    lines = [line for line in part.split("\n") if line[:1] in {"+", "-", " "}]
    if any(KEYS.search(line) for line in lines):
        return "a key, a token or a password is in it"
    if any(_looks_random(found[1], 3.0) for line in lines for found in ASSIGNED.finditer(line)):
        return "a literal that is called a secret is in it"
    if any(_looks_random(word, RANDOM) for line in lines for word in WORD.findall(line)):
        return "a word that looks like a random token is in it"
    return None


def _is_secret_name(path: str) -> bool:
    parts = [part.lower() for part in PurePosixPath(path).parts[1:]]
    return any(fnmatchcase(part, pattern) for part in parts for pattern in SECRET_FILES if not part.endswith(".py"))


def _looks_random(word: str, bits: float) -> bool:
    """Tell whether a word looks like a random string: letters and digits of high entropy."""
    if not (re.search(r"[a-zA-Z]", word) and re.search(r"\d", word)):
        return False
    if bits >= RANDOM and not (re.search(r"[a-z]", word) and re.search(r"[A-Z]", word)):
        return False  # a hexadecimal digest is no secret
    counts = Counter(word)
    return -sum(n / len(word) * math.log2(n / len(word)) for n in counts.values()) >= bits
