"""Reading a parquet file of ours: what can be wrong with it, said in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from avsrobust.errors import AvsRobustError


@dataclass(frozen=True)
class Kind:
    """A kind of file: the error for bad ones, what one is called ("a manifest made by .."), and how to make it again."""

    error: type[AvsRobustError]
    expected: str
    again: str

    def read(self, path: Path) -> pa.Table:
        """Return the file's table. Raises `error` where it is missing or no parquet file."""
        try:
            return pq.read_table(path)
        except FileNotFoundError as error:
            raise self.error(f"{path}: not found; expected {self.expected}") from error
        except (OSError, pa.ArrowException) as error:
            raise self.error(
                f"{path}: cannot be read as parquet; expected {self.expected}; {self.again} again"
            ) from error

    def require_columns(self, path: Path, table: pa.Table, names: Iterable[str]) -> None:
        """Raise `error` where `table`, read from `path`, lacks a column of `names`."""
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise self.error(
                f"{path}: has no column {', '.join(missing)}; {self.again} again with this version of avsrobust"
            )
