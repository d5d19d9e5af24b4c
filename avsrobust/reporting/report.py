"""`report`: stored results in, one rendered table out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.formats import find_format
from avsrobust.reporting.loading import load_results, load_runs
from avsrobust.reporting.media import Gallery
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores

__all__ = ["Rendered", "load_results", "report"]


@dataclass(frozen=True)
class Rendered:
    """A table in some format.

    Attributes:
        content: The table: text, or bytes where the format is binary.
        warnings: Sentences for the user, each one line.
        suffix: Suffix of a file in this format, with its dot.
    """

    content: str | bytes
    warnings: tuple[str, ...]
    suffix: str


def report(
    results: Sequence[Scores],
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    by: str | None = None,
    format: str = "md",  # noqa: A002 - the option's name
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    scores: Sequence[str] = (),
    gallery: Gallery | None = None,
) -> Rendered:
    """Render `results` as one table.

    Args:
        results: Stored results (`load_results`).
        protocols: Protocols, each a name, ``package.module:OBJECT`` or ``file.py:OBJECT`` (`metrics.find_protocol`).
        by: A breakdown for a line per part as well (`breakdowns.GROUPINGS`), or None.
        format: A format: a name, ``package.module:OBJECT`` or ``file.py:OBJECT`` (`formats.find_format`).
        task: "semantic" for the results that hold classes, "binary" for all as foreground and background, or None: semantic
            where available.
        negatives: The negative conditions that G averages over; None: silence, noise and offscreen.
        scores: Groups of extra scores (`extra_scores.GROUPS`), or "all".
        gallery: Clips to look at and listen to (`avsrobust.gallery.collect.make_gallery`), for the format html.

    Raises:
        OptionError: A protocol, breakdown, task, negative, group of scores or format is unknown, or a plug-in fails.
        ResultsError: The results cannot be true, or none can be shown.
    """
    chosen = find_format(format)
    runs, damaged = load_runs(results)
    table = build_table(results, protocols, by, runs, task, negatives, scores)
    if gallery is not None:
        table = replace(table, gallery=gallery)
    return Rendered(
        chosen(table),
        tuple(one_line(text) for text in (*damaged, *table.warnings, *(gallery.notes if gallery else ()))),
        chosen.suffix,
    )
