"""Text from outside, made safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_lab.text import markdown, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("r16", "r16"),
        ("two\nlines\r\tand a tab", r"two\nlines\r\tand a tab"),
        ("\x1b]0;title\x07\x1b[31mred", r"\x1b]0;title\x07\x1b[31mred"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("\u2028\x85\x9b", r"\u2028\x85\x9b"),
        ("lone \ud800", r"lone \ud800"),
        ("Größe 猫 é 👩\u200d🔬", "Größe 猫 é 👩\u200d🔬"),
    ],
)
def test_what_moves_a_terminal_is_shown_as_an_escape_and_all_else_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_every_text_becomes_one_line_that_is_printable_already(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    assert "\x1b" not in shown
    shown.encode()


def test_markdown_shows_markup_and_html_literally() -> None:
    assert markdown("<script>*a* [b](c) `d`_e_\n") == r"&lt;script&gt;\*a\* \[b\](c) \`d\`\_e\_\\n"
