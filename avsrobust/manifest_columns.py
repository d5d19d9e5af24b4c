"""The manifest's columns: type, kind of value and range of each, declared beside the field of `manifest_values.Row` it is.

Conventions
    A new column is one field of `Row`, declared with `column`, and the place that gives it its value; schema and checks follow.
    A column with a default is written only where a row has another value: builds that do not need it keep their bytes, and
    builds from before it was there are read as if it held the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import pyarrow as pa

# Kinds of values (`Column.holds`), each with a check of its own in `avsrobust.manifest_checks`.
DATASET, NAME, LABELS, PATHS, SHA256, POLARITY, FOREGROUND, NUMBER, LEVEL, TEXT = (
    "dataset",
    "name",
    "labels",
    "paths",
    "sha256",
    "polarity",
    "foreground",
    "number",
    "level",
    "text",
)
_KEY = "column"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: The field of `Row`.
        type: Its type in the file.
        holds: Kind of its values, of the items of a list.
        nullable: A row may have none.
        has_gaps: A list may have empty items.
        low: Least number.
        high: Greatest number.
        default: Value of every row where the file lacks the column; `dataclasses.MISSING` where no file lacks it.
    """

    name: str
    type: pa.DataType
    holds: str
    nullable: bool
    has_gaps: bool
    low: float
    high: float
    default: Any

    @property
    def is_list(self) -> bool:
        """Whether its values are lists."""
        return bool(pa.types.is_list(self.type))

    @property
    def is_optional(self) -> bool:
        """Whether a file may lack it."""
        return self.default is not MISSING

    @property
    def arrow_field(self) -> pa.Field:
        """The column in the file's schema."""
        return pa.field(self.name, self.type, nullable=self.nullable)


def column(
    kind: pa.DataType,
    holds: str,
    *,
    nullable: bool = False,
    has_gaps: bool = False,
    low: float = float("-inf"),
    high: float = float("inf"),
    optional: Any = MISSING,
    default: Any = MISSING,
) -> Any:
    """Declare a field of `Row` as a column.

    Args:
        kind: Type in the file.
        holds: Kind of its values, of the items of a list.
        nullable: A row may have none.
        has_gaps: A list may have empty items.
        low: Least number.
        high: Greatest number.
        optional: Value where a file lacks the column, and the field's default.
        default: Default of a field whose column no file lacks.
    """
    declared = {"type": kind, "holds": holds, "nullable": nullable, "has_gaps": has_gaps, "low": low, "high": high}
    given = optional if default is MISSING else default
    return field(default=given, metadata={_KEY: {**declared, "default": optional}})


def columns_of(row: type) -> Mapping[str, Column]:
    """Return the columns of a dataclass of rows by name, in the order of its fields."""
    return {entry.name: Column(name=entry.name, **entry.metadata[_KEY]) for entry in fields(row)}
