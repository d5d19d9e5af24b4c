"""Format html: one page with its style, charts and script in it, without outside references."""

from __future__ import annotations

from avsrobust.reporting.formats import Format
from avsrobust.reporting.render.html.page import render_html

FORMAT = Format("html", ".html", render_html)
