"""`report`: stored results in, one rendered table out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.report.escape import one_line
from avsrobust.report.formats import check_format, render
from avsrobust.report.loading import load_results, load_runs
from avsrobust.report.tables import build_table
from avsrobust.results import Scores

__all__ = ["Rendered", "load_results", "report"]


@dataclass(frozen=True)
class Rendered:
    """A table in some format: text, or bytes where the format is binary; and what to tell the user beside it, each one line."""

    content: str | bytes
    warnings: tuple[str, ...]


def report(
    results: Sequence[Scores],
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    by: str | None = None,
    format: str = "md",  # noqa: A002 - the option's name
    task: str | None = None,
) -> Rendered:
    """Render `results` under these protocols; `by` is None or "category", `format` a name in `formats.FORMATS`.

    `task` is "semantic" (only results that have classes), "binary" (all, as sounding or not) or None: each by the finest it has.
    Raises `OptionError` for an unknown protocol, grouping, task or format, `ResultsError` where there is nothing to show.
    """
    check_format(format)
    runs, damaged = load_runs(results)
    table = build_table(results, protocols, by, runs, task)
    return Rendered(render(table, format), tuple(one_line(text) for text in (*damaged, *table.warnings)))
