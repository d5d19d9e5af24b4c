"""Choices about a paper's table: its metrics, their order, digits and names, its width, and a preset per paper.

Conventions
    Columns are those of the csv (`columns.CSV_COLUMNS`, and those of extended conditions and extra scores), chosen per data set.
    Scores are percent, but for the columns in `Style.fractions`. Widths are in points (72.27 to the inch).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.reporting.columns import DECIMALS, METRICS
from avsrobust.vocabulary import BINARY, SEMANTIC

# Clean quality, robust quality and false positives: three columns for each of three data sets fit every page.
DEFAULT_COLUMNS = ("mIoU", "G_mIoU", "G_FPR")
# Widths of text, in points. `page`: article at 10 pt, the narrowest page (llncs has 347); `neurips`: ICLR too; `two-column`: both
# columns of ICML (CVPR has 496); `column`: one of two, ACL's, the narrowest (ICML and CVPR have 235 and 237).
WIDTHS = MappingProxyType({"column": 219.0, "page": 345.0, "neurips": 397.0, "two-column": 487.0})
DEFAULT_WIDTH = "page"
_MOST_DIGITS = 6
_LEAST_WIDTH, _MOST_WIDTH = 120.0, 5000.0


@dataclass(frozen=True)
class Style:
    """Choices about a paper's table.

    Attributes:
        columns: The columns of each data set, in order.
        digits: Decimals of a column; `decimals` for those not in it.
        decimals: Decimals of all other columns.
        fractions: Columns that are shown as fractions, not in percent.
        names: Other names of columns and data sets, by theirs.
        width: Width in points that the LaTeX tabular may have.
        caption: Caption; None: one that says how to read the table.
        label: LaTeX label of the table; None: ``tab:avsrobust`` and, of several tables, the protocol.
        protocols: Protocol of each task, where one table takes different ones; empty: a table per protocol.
        preset: Name of the preset that the style comes from; empty: none.
    """

    columns: tuple[str, ...] = DEFAULT_COLUMNS
    digits: Mapping[str, int] = field(default_factory=dict)
    decimals: int = DECIMALS
    fractions: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    width: float = WIDTHS[DEFAULT_WIDTH]
    caption: str | None = None
    label: str | None = None
    protocols: Mapping[str, str] = field(default_factory=dict)
    preset: str = ""

    def text(self, column: str, value: float) -> str:
        """Return a score as the table shows it."""
        decimals = self.digits.get(column, self.decimals)
        return f"{value if column in self.fractions else 100 * value:.{decimals}f}"


# Each as the main table of its paper has them: what it reports per data set, in its order and with its digits.
PRESETS: Mapping[str, Style] = MappingProxyType(
    {
        # AVSBench-Robust (arXiv 2502.00358): the global scores; G-FPR is a fraction there.
        "avsbench_robust": Style(
            columns=("G_mIoU", "G_F", "G_FPR"),
            digits={"G_FPR": 3},
            fractions=frozenset({"G_FPR"}),
            protocols={BINARY: "avsbench", SEMANTIC: "avsbench"},
            preset="avsbench_robust",
        ),
        # bias_in_AVS (arXiv 2407.16638): mIoU (J) and F with one digit, of clean sound alone.
        "bias_in_avs": Style(
            columns=("mIoU", "F"),
            decimals=1,
            protocols={BINARY: "bias_in_avs", SEMANTIC: "avsbench"},
            preset="bias_in_avs",
        ),
    }
)


def find_preset(name: str) -> Style:
    """Return the style of a paper. Raises `OptionError` where there is none of that name.

    >>> find_preset("bias_in_avs").columns
    ('mIoU', 'F')
    """
    if name not in PRESETS:
        raise OptionError(f"--preset: found '{name}'; expected {' or '.join(PRESETS)}{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def requested_style(
    preset: str | None = None,
    columns: Sequence[str] = (),
    digits: str | int | None = None,
    names: Mapping[str, str] | None = None,
    width: str | float | None = None,
    caption: str | None = None,
    label: str | None = None,
) -> Style:
    """Return the style that options ask for; what they leave open is the preset's.

    Args:
        preset: Name of a preset, or None.
        columns: Columns, separated by commas too; empty: the preset's.
        digits: Decimals, as ``1`` or ``1,G_FPR=3``; None: the preset's.
        names: Other names of columns and data sets.
        width: One of `WIDTHS`, or a number of points; None: the preset's.
        caption: Caption; None: one that says how to read the table.
        label: LaTeX label; None: one made of the protocol.

    Raises:
        OptionError: A value cannot be used. Whether results have the columns is found when the table is made.
    """
    style = Style() if preset is None else find_preset(preset)
    if chosen := [part.strip() for text in columns for part in text.split(",")]:
        if len(set(chosen)) < len(chosen) or "" in chosen:
            problem = "an empty name" if "" in chosen else "a name twice"
            raise OptionError(f"--columns: found {problem}; expected names of columns, such as {','.join(METRICS)}")
        style = replace(style, columns=tuple(chosen))
    if digits is not None:
        decimals, of_columns = _digits(str(digits))
        style = replace(
            style,
            decimals=style.decimals if decimals is None else decimals,
            digits=of_columns if decimals is not None else {**style.digits, **of_columns},
        )
    if label is not None and not re.fullmatch(r"[\w:.+/-]+", label, flags=re.ASCII):
        raise OptionError(f"--label: found '{label}'; expected letters, digits and :.+/-_, such as tab:main")
    return replace(
        style,
        names={**style.names, **(names or {})},
        width=style.width if width is None else _width(width),
        caption=style.caption if caption is None else caption,
        label=style.label if label is None else label,
    )


def _digits(text: str) -> tuple[int | None, dict[str, int]]:
    """The decimals of all columns, or None, and those of single ones."""
    everywhere, of_columns = None, {}
    for part in text.split(","):
        column, _, number = part.strip().rpartition("=")
        if not re.fullmatch(r"\d", number, flags=re.ASCII) or int(number) > _MOST_DIGITS:
            raise OptionError(f"--digits: found '{text}'; expected 0 to {_MOST_DIGITS}, as 1 or as 1,G_FPR=3")
        if column:
            of_columns[column] = int(number)
        else:
            everywhere = int(number)
    return everywhere, of_columns


def _width(width: str | float) -> float:
    """A width in points."""
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    try:
        points = float(width)
    except ValueError:
        points = math.nan
    if not _LEAST_WIDTH <= points <= _MOST_WIDTH:
        known = ", ".join(WIDTHS)
        raise OptionError(
            f"--width: found '{width}'; expected {known}, or points from {_LEAST_WIDTH:g} to {_MOST_WIDTH:g}, such as 345"
            f"{did_you_mean(str(width), WIDTHS)}"
        )
    return points
