"""Which values of a table are the best of their column.

Conventions
    Compared are lines of one data set, split, protocol and category, as they are displayed: values that look equal are equally
    good. Baselines compete only among themselves, where no model is in the table. One line alone has no best value.
"""

from __future__ import annotations

from collections.abc import Sequence

from avsrobust.report.columns import DECIMALS, METRICS
from avsrobust.report.tables import Line


def best_columns(lines: Sequence[Line]) -> list[frozenset[str]]:
    """Return for each of these comparable lines the score columns in which no other is better."""
    models = [line for line in lines if not line.subject.is_baseline]
    competing = models or list(lines)
    if len(competing) < 2:
        return [frozenset()] * len(lines)
    best = {name: _best(competing, name) for name in METRICS}
    return [
        frozenset(
            name
            for name in METRICS
            if line in competing and best[name] is not None and _displayed(line, name) == best[name]
        )
        for line in lines
    ]


def _best(lines: Sequence[Line], name: str) -> float | None:
    values = [value for line in lines if (value := _displayed(line, name)) is not None]
    choose = max if METRICS[name].higher_is_better else min
    return choose(values, default=None)


def _displayed(line: Line, name: str) -> float | None:
    value = line.score.columns()[name]
    return None if value is None else round(100 * value, DECIMALS)
