r"""Text from files, workers and other people's names, made harmless to show: nothing in it moves a cursor or hides anything.

Conventions
    Characters that cannot be seen (control characters, with which escape sequences begin, other directions of writing, no width,
    halves of a surrogate pair) are shown as Python writes them (``\x1b``, ``\u202e``), so that two names that differ look
    different. Letters of any script stay.
"""

from __future__ import annotations

import re
import unicodedata

_ORDINARY = frozenset(map(chr, range(0x20, 0x7F)))
# Printable by Unicode's categories, and yet nothing is to be seen: fillers, joiners, variation selectors, the empty Braille cell.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def reveal(text: str) -> str:
    r"""Return `text` with everything that cannot be seen shown as an escape; tabs, ends of lines (``\n``) and blanks stay.

    >>> reveal("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    return text if _ORDINARY.issuperset(text) else "".join(map(_revealed, text))


def inert_line(text: object) -> str:
    r"""Return ``str(text)`` revealed and as one line: tabs, ends of lines and blanks of any width are a blank each.

    >>> inert_line("a\x1b[31m\nb")
    'a\\x1b[31m b'
    """
    line = str(text)
    return line if _ORDINARY.issuperset(line) else reveal(re.sub(r"\s", " ", line))


def is_unseen(character: str) -> bool:
    """Return whether there is nothing to be seen of a character, blanks apart."""
    return not (character.isprintable() or unicodedata.category(character) == "Zs") or bool(_UNSEEN.match(character))


def _revealed(character: str) -> str:
    if character in "\t\n" or not is_unseen(character):
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
