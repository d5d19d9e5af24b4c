"""Layouts of a report, and the formats that have the one for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.reporting.model import Table
from avsrobust.reporting.paper.html import render_html
from avsrobust.reporting.paper.latex import render_latex
from avsrobust.reporting.paper.markdown import render_markdown
from avsrobust.reporting.paper.model import PaperTable
from avsrobust.reporting.paper.style import Style
from avsrobust.reporting.paper.table import paper_tables

FULL, WIDE = "full", "wide"
LAYOUTS = (FULL, WIDE)
_RENDERERS: Mapping[str, Callable[[Sequence[PaperTable], Style], str]] = MappingProxyType(
    {"md": render_markdown, "latex": render_latex, "html": render_html}
)


def check_layout(layout: str, format_name: str, style: Style | None) -> None:
    """Raise `OptionError` where there is no such layout, the format lacks it, or a style is given for another one."""
    if layout not in LAYOUTS:
        raise OptionError(f"--layout: found '{layout}'; expected {' or '.join(LAYOUTS)}{did_you_mean(layout, LAYOUTS)}")
    if layout == WIDE and format_name not in _RENDERERS:
        raise OptionError(f"--layout {WIDE}: format {format_name} has none; expected --format {', '.join(_RENDERERS)}")
    if layout == FULL and style is not None:
        raise OptionError(f"--columns, --digits, --width, --caption, --label: only --layout {WIDE} has them; add it")


def render_paper(table: Table, style: Style, format_name: str) -> str:
    """Return the table for a paper in one of the formats that have it.

    Raises:
        OptionError: A column or name is in no result.
        ResultsError: There is no line to show.
    """
    return _RENDERERS[format_name](paper_tables(table, style), style)
