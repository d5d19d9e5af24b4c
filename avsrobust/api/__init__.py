"""The public functions: each does what the command of its name does, and returns values instead of printing.

Conventions
    Paths are text or `pathlib.Path`; folders that are read or written may be URLs (``s3://bucket/folder``, as text), which
    messages then name; what is returned has the paths of the copy on this machine. Defaults are those of the commands
    (`avsrobust.defaults`). Every error that the caller can put right is an `avsrobust.errors.AvsRobustError` with a message of
    one line.
"""

from __future__ import annotations

from avsrobust.api.building import build, read_dataset
from avsrobust.api.evaluating import evaluate
from avsrobust.api.reporting import Results, compare, compare_models, load_results, make_gallery, report

__all__ = [
    "Results",
    "build",
    "compare",
    "compare_models",
    "evaluate",
    "load_results",
    "make_gallery",
    "read_dataset",
    "report",
]
