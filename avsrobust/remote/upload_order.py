"""Which files of a folder are put to a remote one, and in which order: so that nobody takes half of it for the whole.

Conventions
    First the marker, which makes the folder ours; then all files side by side; then what commits the parts of an evaluation that
    is under way; last, one after the other, those that say that the rest is whole. Files are deleted the other way round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from avsrobust.files import TEMPORARY_SUFFIX
from avsrobust.folders import MARKER_NAME
from avsrobust.locks import LOCK_NAME, OWNER_NAME

_PRIVATE = (LOCK_NAME, OWNER_NAME)
_PARTS_NAME, _COMMITS = "parts", ".scores.parquet"
# In this order after all others: readers take a folder for whole where the last one is there.
_LAST = ("state.json", "scores.parquet", "checksums.parquet", "seal.json", "run.json", "manifest.parquet")
_AT_ONCE = 4096


def is_public(name: str) -> bool:
    """Return whether a file of this name, without its folders, is put there: no lock, and none that is unfinished."""
    return name not in _PRIVATE and not name.endswith(TEMPORARY_SUFFIX)


def is_part(name: str) -> bool:
    """Return whether a file is of a part of an evaluation that is under way."""
    return _PARTS_NAME in name.split("/")[:-1]


def batches(names: Collection[str]) -> Iterator[list[str]]:
    """Yield names that are put side by side, in the order of the conventions.

    >>> list(batches(["run.json", "a", "b", "parts/1.scores.parquet"]))
    [['a', 'b'], ['parts/1.scores.parquet'], ['run.json']]
    """
    ordered: dict[str, list[str]] = {MARKER_NAME: [], "": [], _COMMITS: [], **{last: [] for last in _LAST}}
    for name in sorted(names):
        last = name.rpartition("/")[2]
        ordered.get(last, ordered[_COMMITS if last.endswith(_COMMITS) else ""]).append(name)
    for group in ordered.values():
        for start in range(0, len(group), _AT_ONCE):
            yield group[start : start + _AT_ONCE]
