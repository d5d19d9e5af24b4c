"""The formats of a table, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.report.data import render_csv, render_json, render_parquet
from avsrobust.report.latex import render_latex
from avsrobust.report.markdown import render_markdown
from avsrobust.report.page import render_html
from avsrobust.report.tables import Table

FORMATS: Mapping[str, Callable[[Table], str | bytes]] = MappingProxyType(
    {
        "csv": render_csv,
        "md": render_markdown,
        "latex": render_latex,
        "json": render_json,
        "parquet": render_parquet,
        "html": render_html,
    }
)


def check_format(name: str) -> None:
    """Raise `OptionError` unless `name` is one of `FORMATS`."""
    if name not in FORMATS:
        raise OptionError(
            f"--format: found '{name}'; expected one of {', '.join(FORMATS)}{did_you_mean(name, FORMATS)}"
        )


def render(table: Table, format_name: str) -> str | bytes:
    """Return `table` in the format of that name: bytes for parquet, text for all others. Raises `OptionError`."""
    check_format(format_name)
    return FORMATS[format_name](table)
