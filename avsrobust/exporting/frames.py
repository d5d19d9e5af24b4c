"""The report's table in a notebook: a data frame that shows itself as a table for people.

Conventions
    Columns and numbers are those of the csv (`avsrobust.reporting.columns`): fractions, NaN is undefined; text is as the results
    have it. Shown as HTML there is a table per data set, split and protocol, in percent, with arrows, the best model in bold
    and the second best underlined. Neither is a baseline, nor marked where a model that marks nothing is best. What is made
    from the frame (a selection, a mean) is an ordinary `pandas.DataFrame`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
import pandas as pd

from avsrobust.errors import ResultsError
from avsrobust.inert import inert_line
from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.reporting.columns import (
    CATEGORY_COLUMN,
    HEADLINE,
    KEY_COLUMNS,
    METRICS,
    UNDER_NEGATIVES,
    Metric,
    percent,
)
from avsrobust.reporting.loading import load_runs
from avsrobust.reporting.table_builder import build_table
from avsrobust.results import Scores
from avsrobust.vocabulary import BASELINES

_BASELINES_KEY = "avsrobust.baselines"
_GROUP = tuple(name for name in KEY_COLUMNS if name != "model")
_TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{% for group in groups %}
<div style="overflow-x:auto">
<table style="border-collapse:collapse;margin:0 0 1em">
<caption style="text-align:left;caption-side:top"><b>{{ group.title }}</b> percent</caption>
<thead><tr><th scope="col" style="text-align:left">model</th>
{%- for heading in group.headings %}<th scope="col" style="text-align:right;padding:0 .6em">{{ heading }}</th>
{%- endfor %}</tr></thead>
<tbody>
{% for row in group.rows %}
<tr{% if row.baseline %} style="opacity:.65"{% endif %}><th scope="row" style="text-align:left">{{ row.name }}
{%- if row.baseline %} <i>baseline</i>{% endif %}</th>
{%- for text, mark in row.cells %}<td style="text-align:right;padding:0 .6em{% if mark %};{{ mark }}{% endif %}">{{ text }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
""")
_MARKS = ("font-weight:bold", "text-decoration:underline")


class ScoreTable(pd.DataFrame):
    """The scores of a report, a row per line of its table; shows itself as described in the module's conventions."""

    def _repr_html_(self) -> str:
        if not {*KEY_COLUMNS} <= {*self.columns} or self.empty:
            return str(pd.DataFrame(self).to_html(index=False, na_rep=""))
        return str(_TEMPLATE.render(groups=[_group(key, rows) for key, rows in self.groupby(list(_GROUP), sort=False)]))


def score_table(
    results: Sequence[Scores],
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    task: str | None = None,
    *,
    by: str | None = None,
    negatives: Sequence[str] | None = None,
    intervals: bool = False,
    aggregate: str | None = None,
) -> ScoreTable:
    """Return the report's table as a data frame; the arguments are those of `avsrobust.reporting.report.report`.

    Raises:
        OptionError: An argument is unknown.
        ResultsError: There are no results, or they cannot be true.
    """
    if not results:
        raise ResultsError("results: found none; expected at least one stored result; run 'avsrobust evaluate' first")
    runs, _ = load_runs(results)
    table = build_table(results, protocols, by, runs, task, negatives, intervals=intervals, aggregate=aggregate)
    rows, baselines = [], set(BASELINES)
    for line in table.lines:
        cells = {**table.cells(line), "model": line.subject.csv_model, "protocol": table.csv_protocol(line)}
        rows.append([cells[name] for name in table.columns])
        if line.subject.is_baseline:
            baselines.add(line.subject.csv_model)
    frame = ScoreTable(rows, columns=list(table.columns))
    # A column of undefined scores alone would hold objects.
    scores = [
        name for name in frame.columns if name.rpartition("_")[2] in ("mIoU", "F", "FPR", "low", "high", "spread")
    ]
    for name in scores:
        frame[name] = frame[name].astype("float64")
    frame.attrs[_BASELINES_KEY] = sorted(baselines)
    return frame


def _group(key: tuple[object, ...], rows: pd.DataFrame) -> dict[str, object]:
    metrics = [
        metric for metric in (*HEADLINE, *UNDER_NEGATIVES) if metric.name in rows and rows[metric.name].notna().any()
    ]
    extended = [
        name for name in map(str, rows) if name not in METRICS and name.rpartition("_")[2] in ("mIoU", "F", "FPR")
    ]
    columns = [
        *((metric.name, metric.heading, metric) for metric in metrics),
        *((name, name, None) for name in extended),
    ]
    names = [_name(rows, position) for position in range(len(rows))]
    baselines = [model in rows.attrs.get(_BASELINES_KEY, BASELINES) for model in rows["model"]]
    marks = {name: _marks(metric, list(rows[name]), baselines) for name, _, metric in columns}
    return {
        "title": inert_line(", ".join(map(str, key))),
        "headings": [inert_line(heading) for _, heading, _ in columns],
        "rows": [
            {
                "name": names[position],
                "baseline": baselines[position],
                "cells": [(_text(rows[name].iloc[position]), marks[name].get(position)) for name, _, _ in columns],
            }
            for position in range(len(rows))
        ],
    }


def _name(rows: pd.DataFrame, position: int) -> str:
    """The model, with its category and, where the rows differ in them, seed, recipe and release."""
    row = rows.iloc[position]
    varying = [name for name in ("seed", "recipe", "release") if name in rows and rows[name].nunique(dropna=False) > 1]
    notes = [f"{name} {row[name]}" for name in varying] + (
        [str(row[CATEGORY_COLUMN])] if CATEGORY_COLUMN in rows else []
    )
    return inert_line(", ".join([str(row["model"]), *notes]))


def _text(value: float) -> str:
    return percent(None if pd.isna(value) else float(value))


def _marks(metric: Metric | None, values: list[float], baselines: list[bool]) -> dict[int, str]:
    """Marks of the best two values by position; equal ones share a mark."""
    # Under a negative condition a model that marks nothing cannot be beaten.
    if metric is None or not metric.higher_is_better or metric.condition not in ("clean", "G"):
        return {}
    shown = {
        place: round(100 * value, 2)
        for place, (value, baseline) in enumerate(zip(values, baselines, strict=True))
        if not baseline and not pd.isna(value)
    }
    if len(shown) < 2:
        return {}
    best = sorted(set(shown.values()), reverse=True)[: len(_MARKS)]
    return {place: _MARKS[best.index(value)] for place, value in shown.items() if value in best}
