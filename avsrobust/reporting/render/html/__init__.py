"""Format html: one page with its style and charts in it, without scripts or outside references."""

from __future__ import annotations

from avsrobust.reporting.formats import Format
from avsrobust.reporting.render.html.page import render_html

FORMAT = Format("html", ".html", render_html)
