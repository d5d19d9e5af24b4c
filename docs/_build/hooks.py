"""Hooks of the site's build: a page that would load anything from another host is a warning, and so, strictly, an error."""

from __future__ import annotations

import logging
import re
from typing import Any

_LOG = logging.getLogger("mkdocs.hooks.hosts")
# Elements that a browser loads by itself; links (a href) are the reader's own choice.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|<link\b(?![^>]*\brel=[\"']?(?:canonical|next|prev))[^>]*\bhref=[\"']?(?:https?:)?//[^\"'\s>]+"
    r"|@import\s+[^;]*//[^;]+",
    re.IGNORECASE,
)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Check one finished page."""
    for found in _LOADED.finditer(output):
        _LOG.warning("%s: loads %s from another host; put the file into docs/", page.file.src_uri, found[0])
    return output
