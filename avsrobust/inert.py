"""Text from files, workers and other people's names, made harmless to show on a terminal.

Conventions
    Control characters (escape sequences begin with one) and characters that reverse the direction of writing or have no width
    become ``?``; tabs, ends of lines and blanks of any width become a space. Letters of any script stay.
"""

from __future__ import annotations

_ORDINARY = frozenset(map(chr, range(0x20, 0x7F)))


def inert_line(text: object) -> str:
    """Return ``str(text)`` as one line that moves no cursor, changes no colour and hides nothing.

    >>> inert_line("a" + chr(27) + "[31m" + chr(10) + "b" + chr(0x202E))
    'a?[31m b?'
    """
    line = str(text)
    if _ORDINARY.issuperset(line):
        return line
    return "".join(map(_inert, line))


def _inert(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character in "\t\n\r" or (character.isspace() and ord(character) > 0x9F) else "?"
