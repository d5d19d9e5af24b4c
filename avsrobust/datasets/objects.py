"""What S4's and MS3's trees of AVSBench-object have in common: three data folders, and a table whose name column varies.

Conventions
    The loaders of the papers take the table's first column for the clip's name, whatever it is called
    (AVSBench, avs_scripts/avs_s4/dataloader.py); so does this reader where it knows none of the headers.
"""

from __future__ import annotations

from pathlib import Path

from avsrobust.datasets.tables import Table
from avsrobust.errors import DataSetError

FOLDERS = ("visual_frames", "gt_masks", "audio_wav")
NAME_COLUMNS = ("name", "video_name", "video_id", "vid", "uid", "file_name", "filename")
_OTHER_COLUMNS = ("category", "split")


def require_folders(root: Path, data: str) -> None:
    """Check that the folders for frames, masks and sounds are in ``data``. Raises `DataSetError` naming the missing ones."""
    missing = [folder for folder in FOLDERS if not (root / data / folder).is_dir()]
    if missing:
        raise DataSetError(
            f"{root / data}: found no folder {', '.join(missing)}; expected {', '.join(FOLDERS)}; "
            "unpack AVSBench-object here in full"
        )


def name_column(table: Table) -> tuple[int, tuple[str, ...]]:
    """Return the index of the column with the clips' names, and what is worth noting about the table's columns.

    Raises `DataSetError` where no column can be it.
    """
    columns = f"{table.path} has the columns {', '.join(table.columns)}"
    index = table.column(*NAME_COLUMNS)
    if index is not None:
        return index, (columns,)
    for index, column in enumerate(table.columns):
        # pandas calls an index that was saved along "Unnamed: 0", or leaves its header empty.
        if column and not column.startswith("Unnamed") and column.casefold() not in _OTHER_COLUMNS:
            return index, (f"{columns}; none is called {NAME_COLUMNS[0]}, '{column}' serves as the clip's name",)
    raise DataSetError(
        f"{table.path}: has no column with the clips' names; found the columns {', '.join(table.columns)}; "
        f"expected one called {NAME_COLUMNS[0]}; take the table that comes with AVSBench"
    )
