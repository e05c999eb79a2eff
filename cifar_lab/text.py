"""Text for readers: made safe to display on a terminal and in Markdown, and numbers with their nouns."""

from __future__ import annotations

import re
import unicodedata

from cifar_lab.errors import shortened

HIDDEN = {"Cc", "Zl", "Zp"}
"""Unicode categories that move the cursor, begin an escape sequence or break a line."""
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the display order of others in a terminal or a browser."""
NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
MARKDOWN = re.compile(r"([\\`*_\[\]#|~$])")
LONGEST_WORD, LONGEST_LINE = 200, 1500
"""Maximum characters of a word and of a line; the middle of longer ones is left out."""
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def printable(text: str) -> str:
    r"""Return `text` as one line that is safe on a terminal.

    Control characters, line breaks, bidirectional overrides and lone surrogates become visible escapes (`\n`,
    `\x1b`, `\u202e`). Every other character, combining marks and emoji included, stays as it is.
    """
    return "".join(_escaped(character) if _is_hidden(character) else character for character in text)


def one_line(text: str) -> str:
    """Return `text` on one line that is safe on a terminal, with the middle left out if it is too long."""
    words = [shortened(printable(word), LONGEST_WORD) for word in text.split()]
    return shortened(" ".join(words), LONGEST_LINE)


def duration(seconds: float) -> str:
    """Format a duration: `45 s`, `12 min`, `3.5 h` or `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def many(count: int, noun: str) -> str:
    """Return a number with its noun: `1 cell`, `1,200 cells`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def many_are(count: int, noun: str) -> str:
    """Return a number with its noun and verb: `1 cell is`, `1,200 cells are`."""
    return f"{many(count, noun)} {'is' if count == 1 else 'are'}"


def in_points(fraction: float) -> str:
    """Return a fraction of accuracy in percentage points: `1 point`, `0.5 points`."""
    value = f"{100 * fraction:g}"
    return f"{value} point" + ("" if value == "1" else "s")


def markdown(text: str) -> str:
    """Return `text` as one line that Markdown shows literally: no markup, no link, no HTML."""
    escaped = MARKDOWN.sub(r"\\\1", printable(text))
    return "".join(ENTITIES.get(character, character) for character in escaped)


def code(text: str) -> str:
    """Return `text` as a Markdown code span in one line; its fence is longer than any run of backticks in the text."""
    shown = printable(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence, gap = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{gap}{shown}{gap}{fence}"


def _is_hidden(character: str) -> bool:
    return character in BIDIRECTIONAL or unicodedata.category(character) in HIDDEN or "\ud800" <= character <= "\udfff"


def _escaped(character: str) -> str:
    code = ord(character)
    if character in NAMED:
        return NAMED[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def format_macs(macs: int | None) -> str:
    """Return `798 M`; `unknown` for a network whose multiply-accumulates could not be counted."""
    return f"{macs / 1e6:,.0f} M" if macs else "unknown"
