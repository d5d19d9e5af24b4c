"""The columns of the report: their order, names for people, direction and bounds.

Conventions
    Scores are fractions in [0, 1]; None is undefined. Tables for people show percent with two decimals.
    The order of `CSV_COLUMNS` is part of the product (CONTRACT section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from avsrobust.metrics import HIGHER_IS_BETTER
from avsrobust.vocabulary import CLEAN, NEGATIVES

# They are told the answer, or nothing: what they score says how far a protocol reaches, not how good a model is.
YARDSTICKS = ("oracle", "visual_prior", "empty")

KEY_COLUMNS = ("model", "dataset", "split", "protocol")
CATEGORY_COLUMN = "category"
ALL_CATEGORIES = "all"
CSV_COLUMNS = (*KEY_COLUMNS, "clips", *HIGHER_IS_BETTER)

_CONDITION_TITLES = {"offscreen": "off-screen"}
DECIMALS = 2
MISSING = "–"  # noqa: RUF001 - an en dash, as tables have it


@dataclass(frozen=True)
class Metric:
    """One score column: `condition` is what the model hears, or "G" for the scores over all conditions.

    `measure` is mIoU, F or FPR. `higher_is_better`: under a negative condition a mask is a mistake.
    """

    name: str
    condition: str
    measure: str
    higher_is_better: bool
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def arrow(self) -> str:
        """Which way is better."""
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


def condition_title(condition: str, level: float | None = None) -> str:
    """Return a condition's name for people, with its level in dB where it has one.

    >>> condition_title("offscreen"), condition_title("mixture", -3.0)
    ('off-screen', 'mixture -3 dB')
    """
    title = _CONDITION_TITLES.get(condition, condition)
    return title if level is None else f"{title} {level:g} dB"


def percent(value: float | None) -> str:
    """Return a fraction as percent, without the sign; `MISSING` for None.

    >>> percent(0.5)
    '50.00'
    """
    return MISSING if value is None else f"{100 * value:.{DECIMALS}f}"
