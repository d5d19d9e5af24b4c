"""csv tables, read by column name, whatever wrote them.

Conventions
    Accepted are UTF-8 with or without a byte order mark, any line ending, quoted cells. Cells and headers are stripped of
    surrounding blanks; headers are compared without regard to case. Blank lines are skipped.
    Lines count from 1, the header included. Only regular files of bounded size are read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsrobust.beginnings import LENGTH, is_lfs_pointer, is_web_page, recognise
from avsrobust.datasets.dataset import Finding
from avsrobust.errors import DataSetError
from avsrobust.files import read_regular
from avsrobust.inert import inert_line
from avsrobust.limits import TABLE_BYTES, TABLE_ROWS

# AVSBench's widest table has seven.
_MOST_COLUMNS = 1000
# What spreadsheets write where a comma stands in numbers.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "'|'"}
_MOST_NAMED, _MOST_SHOWN = 10, 50


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: Its line, from 1, the header included.
        cells: As many texts as the table has columns.
    """

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A csv table.

    Attributes:
        path: Its file, relative to the data root.
        columns: Its header.
        rows: Rows that fit the header.
        findings: Rows that do not.
        source: The data set it comes with, for messages.
    """

    path: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    findings: tuple[Finding, ...] = ()
    source: str = "AVSBench"

    def column(self, *names: str) -> int | None:
        """Return the index of the first column that has one of these names, in lower case, or None.

        Raises:
            DataSetError: That name is there twice.
        """
        folded = [column.casefold() for column in self.columns]
        for index, name in enumerate(folded):
            if name in names:
                if folded.count(name) > 1:
                    raise DataSetError(f"{self.path}: has the column '{name}' twice; expected it once; remove one")
                return index
        return None

    def require(self, *names: str) -> Mapping[str, int]:
        """Return the index of each of these columns.

        Raises:
            DataSetError: Some are missing; it names them and those found.
        """
        found = {name: self.column(name) for name in names}
        missing = [name for name, index in found.items() if index is None]
        if missing:
            raise DataSetError(
                f"{self.path}: has no column {', '.join(missing)}; found the columns {_named(self.columns)}; "
                f"expected {', '.join(names)}{self._separated_otherwise()}; take the table that comes with {self.source}"
            )
        return {name: index for name, index in found.items() if index is not None}

    def _separated_otherwise(self) -> str:
        """Return that other signs than commas separate the cells, where that is likely, for messages."""
        signs = [sign for sign in _OTHER_SEPARATORS if len(self.columns) == 1 and sign in self.columns[0]]
        return f", separated by commas, not by {_OTHER_SEPARATORS[signs[0]]}" if signs else ""

    def where(self, row: TableRow) -> str:
        """Return the file and line of a row, for findings."""
        return f"{self.path}:{row.line}"


def read_table(root: Path, path: str, source: str = "AVSBench") -> Table:
    """Read a csv table.

    Args:
        root: The data root.
        path: The file, relative to `root`.
        source: The data set that the table comes with, for messages.

    Raises:
        DataSetError: It cannot be read, is no UTF-8 or no csv, or has no rows.
    """
    advice = f"expected the csv table that comes with {source}"
    lines: list[TableRow] = []
    try:
        content = read_regular(root / path, TABLE_BYTES, DataSetError)
        _require_text(path, content[:LENGTH], advice)
        text = content.decode("utf-8-sig")
        # strict: an unclosed quote would otherwise swallow the rest of the table.
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        for cells in reader:
            if len(cells) > _MOST_COLUMNS:
                raise DataSetError(
                    f"{path}: has {len(cells):,} cells in line {reader.line_num}; expected at most {_MOST_COLUMNS}; {advice}"
                )
            TABLE_ROWS.check(len(lines), root / path, DataSetError)
            if any(cell.strip() for cell in cells):
                lines.append(TableRow(reader.line_num, tuple(cell.strip() for cell in cells)))
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except UnicodeDecodeError as error:
        raise DataSetError(
            f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); {advice}; take that, or save yours as csv in UTF-8"
        ) from error
    except csv.Error as error:
        raise DataSetError(f"{path}: is no well-formed csv, line {reader.line_num} ({error}); {advice}") from error
    if len(lines) < 2:
        raise DataSetError(f"{path}: found {'a header without rows' if lines else 'no header'}; {advice}")
    return _table(path, source, lines[0].cells, lines[1:])


def _require_text(path: str, beginning: bytes, advice: str) -> None:
    """Raise `DataSetError` for what a table never begins with: binary files, web pages, pointers of Git LFS."""
    is_binary = any(byte < 9 or byte > 127 for byte in beginning)
    found = recognise(beginning) if is_binary or is_web_page(beginning) or is_lfs_pointer(beginning) else None
    if found is not None:
        raise DataSetError(
            f"{path}: is {found.noun}; {advice}; {found.remedy or 'take that, or save yours as csv in UTF-8'}"
        )


def _named(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _MOST_NAMED} more" if len(columns) > _MOST_NAMED else ""
    return ", ".join(inert_line(column[:_MOST_SHOWN]) for column in columns[:_MOST_NAMED]) + more


def _table(path: str, source: str, columns: tuple[str, ...], lines: Sequence[TableRow]) -> Table:
    rows: list[TableRow] = []
    findings: list[Finding] = []
    for row in lines:
        cells = row.cells
        while len(cells) > len(columns) and not cells[-1]:
            cells = cells[:-1]
        if len(cells) == len(columns):
            rows.append(TableRow(row.line, cells))
        else:
            found, expected = f"{len(cells)} cells", f"{len(columns)}, as in the header"
            findings.append(Finding(f"{path}:{row.line}", found, expected, clip_id=f"line {row.line}"))
    return Table(path, columns, tuple(rows), tuple(findings), source)
