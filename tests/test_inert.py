"""Text that is shown on a terminal does nothing there."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from avsrobust.inert import inert_line, reveal


@given(st.text())
def test_no_character_of_control_direction_or_line_is_left(text: str) -> None:
    shown = inert_line(text)
    assert shown.isprintable()
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_ordinary_text_stays() -> None:
    assert inert_line("results/größe/音: 3 %") == "results/größe/音: 3 %"
    assert inert_line("a\tb\r\nc\u2028d\u00a0e") == "a b  c d e"
    assert inert_line("\x1b]0;title\x07\u202e\u200b\ud800\x9b") == r"\x1b]0;title\x07\u202e\u200b\ud800\x9b"
    assert inert_line(3) == "3"
    assert reveal("a\tb\nc\rd") == "a\tb\nc\\rd"
