"""Whether a file that a report is to be written to may give way to it: an earlier report may, anybody's else may not."""

from __future__ import annotations

import stat
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import open_regular

_BEGINNING = 1 << 16
_FORMATS = ("csv", "html", "json", "latex", "md", "parquet")
_PARQUET = b"PAR1"
# What reports of each format begin with: csv, md, md of the wide layout.
_FIRST = (b"model,dataset,split,", b"## ", b"| model")
# What stands near their beginning: LaTeX, json, the page, the page's wide layout.
_EARLY = (b"% \\usepackage{booktabs}", b'"report_version":', b"<title>avsrobust", b'<table class="avsrobust">')


def require_replaceable(path: Path, format_name: str) -> None:
    """Raise `OptionError` where a file is there that holds anything but a report.

    Reports of formats of plug-ins may look like anything: where one is requested, nothing is said.
    """
    if format_name not in _FORMATS:
        return
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return
        with open_regular(path) as stream:
            beginning = stream.read(_BEGINNING)
    except OSError:
        # It is not there; or the writing will say what is wrong with it.
        return
    if not beginning.strip() or _is_report(path, beginning):
        return
    raise OptionError(
        f"--output {path}: is there already, and is no report; expected a new file, or an earlier report, which is replaced; "
        "choose another name, or move it away"
    )


def _is_report(path: Path, beginning: bytes) -> bool:
    if beginning.startswith(_PARQUET):
        return _has_our_columns(path)
    return beginning.startswith(_FIRST) or any(mark in beginning for mark in _EARLY)


def _has_our_columns(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return {"model", "dataset", "split", "protocol"} <= set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return False
