"""A griffe extension: docstrings as Markdown, so that the API pages show them as they are meant.

Conventions
    A line that is followed by an indented block ("Conventions") becomes a line in bold, and the block's sentences that begin a
    line become paragraphs; interactive examples (``>>>``) become fenced code. Sections of Google style (``Args:`` and so on)
    stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_TITLED_BLOCK = re.compile(r"(?:(?<=\n\n)|\A)(?P<title>[A-Z][\w ,]*)\n(?P<body>(?:    .*(?:\n|\Z)|\n(?=    ))+)")
_EXAMPLE = re.compile(r"(?:(?<=\n\n)|\A)(?P<code>>>> .*(?:\n(?!\n).*)*)")


def as_markdown(text: str) -> str:
    """Return a docstring with titled blocks and interactive examples in Markdown."""
    text = _TITLED_BLOCK.sub(_titled, text)
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found['code']}\n```", text)


def _titled(found: re.Match[str]) -> str:
    body = re.sub(r"^    ", "", found["body"], flags=re.MULTILINE)
    paragraphs = re.sub(r"(?<=[.:])\n(?=\S)", "\n\n", body.strip())
    return f"**{found['title']}**\n\n{paragraphs}\n"


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
