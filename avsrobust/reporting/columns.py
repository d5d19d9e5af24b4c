"""The columns of the report: their order, names for people, direction and bounds.

Conventions
    Extended conditions are those beyond clean and the negatives of G, and any condition with levels.
    Scores are fractions in [0, 1]; None is undefined. Tables for people show percent with two decimals.
    The order of `CSV_COLUMNS` is part of the product. Extended conditions follow, where a line
    has any: ``<condition>_mIoU``, ``_F`` and ``_FPR``; with levels, ``<condition>@<level>_mIoU`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from avsrobust.metrics import HIGHER_IS_BETTER, ConditionScore
from avsrobust.metrics.dataset_score import ConditionKey
from avsrobust.vocabulary import CLEAN, NEGATIVES

KEY_COLUMNS = ("model", "dataset", "split", "protocol")
CATEGORY_COLUMN = "category"
ALL_CATEGORIES = "all"
# The build of a line: lines of one model, data set and split differ in it.
BUILD_COLUMNS = ("seed", "recipe", "release")
TRIVIAL_PREFIX = "trivial_"
CEILING_PREFIX = "ceiling_"
SIGNATURE_COLUMN = "signature"
REPORTED_COLUMN = "reported_by"
RUNS_COLUMN = "runs"
# Means over classes, in json and parquet: with and without background.
HEADLINES = ("with background", "without background")
MEAN_SCORES = ("mIoU", "F", "G_mIoU", "G_F")
MEAN_COLUMNS = tuple(f"{name}_{headline.replace(' ', '_')}" for headline in HEADLINES for name in MEAN_SCORES)
CSV_COLUMNS = (*KEY_COLUMNS, "clips", *HIGHER_IS_BETTER, *BUILD_COLUMNS)

_CONDITION_TITLES = {"offscreen": "off-screen"}
DECIMALS = 2
MEASURES = ("mIoU", "F", "FPR")
MISSING = "–"  # noqa: RUF001 - an en dash, as tables have it


@dataclass(frozen=True)
class Metric:
    """One score column.

    Attributes:
        name: Name of the column.
        condition: Condition of the score, or "G" for the scores over all conditions.
        measure: "mIoU", "F" or "FPR".
        higher_is_better: Whether more is better; under a negative condition a mask is a mistake.
        lowest: Smallest value.
        highest: Largest value.
    """

    name: str
    condition: str
    measure: str
    higher_is_better: bool
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def arrow(self) -> str:
        """Arrow towards better values."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def label(self) -> str:
        """The column's heading, without the arrow."""
        if self.condition == CLEAN:
            return self.measure
        if self.condition == "G":
            return f"G-{self.measure}"
        return f"{condition_title(self.condition)} {self.measure}"

    @property
    def heading(self) -> str:
        """The column's heading, with the arrow."""
        return f"{self.label} {self.arrow}"


def _metric(name: str, higher_is_better: bool) -> Metric:
    condition, _, measure = name.rpartition("_")
    return Metric(name, condition or CLEAN, measure, higher_is_better)


METRICS: Mapping[str, Metric] = MappingProxyType({name: _metric(name, up) for name, up in HIGHER_IS_BETTER.items()})
HEADLINE = tuple(metric for metric in METRICS.values() if metric.condition in (CLEAN, "G"))
UNDER_NEGATIVES = tuple(metric for metric in METRICS.values() if metric.condition in NEGATIVES)


def condition_title(condition: str, level: float | None = None, unit: str | None = None) -> str:
    """Return a condition's name for people, with its level where it has one.

    Args:
        condition: Name of the condition.
        level: Its level, or None.
        unit: Unit of its levels; None: dB.

    >>> condition_title("offscreen"), condition_title("mixture", -3.0), condition_title("lowpass", 4000.0, "Hz")
    ('off-screen', 'mixture -3 dB', 'lowpass 4000 Hz')
    """
    title = _CONDITION_TITLES.get(condition, condition)
    return title if level is None else f"{title} {level:g} {unit or 'dB'}"


def is_extended(key: ConditionKey) -> bool:
    """Return whether a condition is beyond clean and the negatives of G: it has columns of its own and enters no G score."""
    condition, level = key
    return condition not in (CLEAN, *NEGATIVES) or level is not None


def condition_columns(conditions: Iterable[ConditionKey]) -> dict[ConditionKey, str]:
    """Return the prefix of the columns of each extended condition among `conditions`, sorted by condition and level.

    No two conditions share a prefix, and none has one that makes a column of `CSV_COLUMNS`: a number sign and a number are
    added where condition names from a file would.

    >>> condition_columns([("mixture", -3.0), ("clean", None), ("unseen", None)])
    {('mixture', -3.0): 'mixture@-3', ('unseen', None): 'unseen'}
    """
    keys = sorted(
        {key for key in conditions if is_extended(key)},
        key=lambda key: (key[0], -np.inf if key[1] is None else key[1]),
    )
    taken = {
        column.rpartition("_")[0]
        for name in CSV_COLUMNS
        for column in (name, f"{TRIVIAL_PREFIX}{name}", f"{CEILING_PREFIX}{name}")
    }
    names: dict[ConditionKey, str] = {}
    for condition, level in keys:
        plain = condition_name(condition, level)
        name, number = plain, 2
        while name in taken:
            name, number = f"{plain}#{number}", number + 1
        taken.add(name)
        names[condition, level] = name
    return names


def condition_name(condition: str, level: float | None) -> str:
    """Return the name of a condition at a level in columns and options.

    >>> condition_name("silence", None), condition_name("noisy", 10.0)
    ('silence', 'noisy@10')
    """
    return condition if level is None else f"{condition}@{level_text(level)}"


def extended_cells(scores: Iterable[ConditionScore], columns: Mapping[ConditionKey, str]) -> dict[str, float | None]:
    """Return the cells of the extended conditions named in `columns`, None where `scores` has no such condition."""
    of = {score.key: score for score in scores}
    cells: dict[str, float | None] = {}
    for key, name in columns.items():
        score = of.get(key)
        values = (None, None, None) if score is None else (score.miou, score.f, score.fpr)
        cells |= {f"{name}_{measure}": value for measure, value in zip(MEASURES, values, strict=True)}
    return cells


def level_text(level: float) -> str:
    """Return a level in dB as the shortest decimal that reads back as the same float32 (or float64, where it is none).

    >>> level_text(-3.0), level_text(float(np.float32(0.1)))
    ('-3', '0.1')
    """
    single = np.float32(level)
    text = str(single) if float(single) == level else repr(float(level))
    return text.removesuffix(".0")


def percent(value: float | None) -> str:
    """Return a fraction as percent, without the sign; `MISSING` for None.

    >>> percent(0.5)
    '50.00'
    """
    return MISSING if value is None else f"{100 * value:.{DECIMALS}f}"


def fraction(value: float | None) -> str:
    """Return a fraction with three decimals; `MISSING` for None.

    >>> fraction(0.5)
    '0.500'
    """
    return MISSING if value is None else f"{value:.3f}"
