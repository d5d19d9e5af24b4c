"""The manifest, which building writes and evaluating reads: a row per (clip, condition).

Conventions
    Rows are sorted by split, clip_id, condition, level, draw; `avsrobust.manifest_values` says what their columns mean, and
    `avsrobust.manifest_files` which files they name.
    The parquet file's bytes depend on data, recipe and seed alone. Where the data lies is therefore no part of it: a link
    ``data_root`` beside the manifest remembers that.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from avsrobust import __version__
from avsrobust.condition_facts import BASIC_FACTS
from avsrobust.errors import ManifestError
from avsrobust.files import atomic_path, path_from_here, resolve_inside, write_bytes
from avsrobust.heap import release_unused
from avsrobust.limits import MANIFEST_ROWS, MANIFEST_VALUES
from avsrobust.manifest_checks import Columns, parse_entries, read_texts
from avsrobust.manifest_files import (
    BUILD_PREFIX,
    DATA_PREFIX,
    MADE_PREFIX,
    data_files,
    fingerprint,
    made_sha256,
    picture_entry,
    sound_files,
    used_files,
)
from avsrobust.manifest_rows import RowTable
from avsrobust.manifest_values import CLIP_COLUMNS, COLUMNS, SCHEMA, ManifestInfo, Row, Skipped
from avsrobust.parquet import Kind, parquet_bytes
from avsrobust.remote import naming_addresses
from avsrobust.remote.inputs import local_build
from avsrobust.seal import write_seal
from avsrobust.vocabulary import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BUILD_FORMAT",
    "BUILD_PREFIX",
    "CLIP_COLUMNS",
    "COLUMNS",
    "DATA_PREFIX",
    "DATA_ROOT_LINK",
    "ENVIRONMENT_DATA_ROOT",
    "MADE_PREFIX",
    "MANIFEST_NAME",
    "SCHEMA",
    "Manifest",
    "ManifestInfo",
    "Row",
    "Skipped",
    "check_fingerprints",
    "data_files",
    "fingerprint",
    "load_manifest",
    "made_sha256",
    "picture_entry",
    "remember_data_root",
    "sound_files",
    "used_files",
    "write_manifest",
]

# The format of builds: columns, metadata, files and their names. It changes where a release reads or writes them differently,
# not with the package's version: docs/formats.md has the policy.
BUILD_FORMAT = 2
MANIFEST_NAME = "manifest.parquet"
DATA_ROOT_LINK = "data_root"
_KIND = Kind(ManifestError, "a manifest made by 'avsrobust build'", "build")
ENVIRONMENT_DATA_ROOT = "AVSROBUST_DATA"

_ORDER = ("split", "clip_id", "condition", "level", "draw")
# Rows that are objects at once, and those of a row group, pyarrow's default.
_BLOCK = 1 << 14
_MOST_BUILDS = 5
_ROW_GROUP = 1 << 20


@dataclass(frozen=True, repr=False)
class Manifest:
    """A manifest in memory.

    Attributes:
        path: The file.
        info: Its metadata.
        rows: Its rows, sorted: a tuple, or, of one that was loaded, a sequence that makes them when they are asked for
            (`avsrobust.manifest_rows`).
        whole_path: The file as an absolute path, of a manifest that was loaded.
    """

    path: Path
    info: ManifestInfo
    rows: Sequence[Row]
    whole_path: Path | None = field(default=None, compare=False)

    def from_here(self) -> Manifest:
        """Return the manifest with a path that holds where the working folder has changed since it was loaded."""
        path = path_from_here(self.path, self.whole_path)
        return self if path is self.path else replace(self, path=path)

    def __repr__(self) -> str:
        splits = ", ".join(self.distinct("split")) or "no split"
        return f"Manifest({self.path}: {self.info.dataset}, seed {self.info.seed}, {counted(len(self.rows), 'row')} of {splits})"

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a data frame, a column for each field of `Row`."""
        import pandas as pd

        rows = self.rows
        there = rows.columns if isinstance(rows, RowTable) else ()
        return pd.DataFrame(
            {
                name: rows.values(name)
                if isinstance(rows, RowTable) and name in there
                else [getattr(row, name) for row in rows]
                for name in COLUMNS
            }
        )

    def distinct(self, column: str) -> list[str]:
        """Return the different values of a column of texts without gaps (``"split"``, ``"condition"``), sorted."""
        if isinstance(self.rows, RowTable):
            return sorted(self.rows.distinct(column))
        return sorted({getattr(row, column) for row in self.rows})

    def _repr_html_(self) -> str:
        counts = self.to_pandas().groupby(["split", "condition", "polarity"]).size().rename("rows").reset_index()
        return f"<p>{html.escape(repr(self))}</p>{counts.to_html(index=False)}"

    def facts(self, condition: str) -> Mapping[str, Any] | None:
        """Return polarity, levels, level_unit and draws of a condition of the build; None where it says nothing of it."""
        found: Mapping[str, Any] | None = self.info.conditions.get(condition, BASIC_FACTS.get(condition))
        return found

    @property
    def folder(self) -> Path:
        """The build's folder."""
        return self.path.parent

    def select(self, splits: Sequence[str] | None = None, conditions: Sequence[str] | None = None) -> Manifest:
        """Return the manifest with only the rows of these splits and conditions (None: all)."""
        wanted = {
            name: frozenset(given)
            for name, given in (("split", splits), ("condition", conditions))
            if given is not None
        }
        if isinstance(self.rows, RowTable):
            return replace(self, rows=self.rows.where(wanted))
        kept = (row for row in self.rows if all(getattr(row, name) in given for name, given in wanted.items()))
        return replace(self, rows=tuple(kept))

    def data_root(self, override: Path | str | None = None) -> Path:
        """Return the folder the data lies in: `override`, else the environment's, else the remembered one.

        Raises `ManifestError` where none of them is a folder.
        """
        for candidate, origin in self._data_root_candidates(override):
            if candidate.is_dir():
                return candidate.resolve()
            if origin != "the build":
                raise ManifestError(f"{origin}: found no folder {candidate}; expected the data set's root")
        raise ManifestError(
            f"{self.path}: the data root of this build is not there any more ({self._remembered_root()}); "
            f"name the folder it lies in now with --data-root or {ENVIRONMENT_DATA_ROOT}"
        )

    def _data_root_candidates(self, override: Path | str | None) -> Iterable[tuple[Path, str]]:
        if override is not None:
            yield Path(override), "--data-root"
        yield self.folder / DATA_ROOT_LINK, "the build"
        if os.environ.get(ENVIRONMENT_DATA_ROOT):
            yield Path(os.environ[ENVIRONMENT_DATA_ROOT]), ENVIRONMENT_DATA_ROOT

    def _remembered_root(self) -> str:
        link = self.folder / DATA_ROOT_LINK
        return str(link.readlink()) if link.is_symlink() else "it was not remembered"

    def audio_path(self, row: Row, data_root: Path) -> Path:
        """Return the file that holds the row's sound, of rows that have one (`audio` does not begin with ``made:``)."""
        return self.file(row.audio, data_root)

    def picture_path(self, picture: str, data_root: Path) -> Path:
        """Return the file of a picture that a row names."""
        return self.file(picture_entry(picture), data_root)

    def file(self, entry: str, data_root: Path) -> Path:
        """Return a file by its name in ``checksums.parquet``. Raises `AvsRobustError` for a path that leaves its root."""
        if entry.startswith(DATA_PREFIX):
            return resolve_inside(data_root, entry.removeprefix(DATA_PREFIX), named_by=self.path)
        return resolve_inside(self.folder, entry, named_by=self.path)

    def log_mel_path(self, row: Row) -> Path:
        """Return the array file that holds the row's log-mel input."""
        return resolve_inside(self.folder, row.log_mel, named_by=self.path)


def check_fingerprints(manifest: Manifest, data_root: Path, splits: Iterable[str]) -> None:
    """Check that `data_root` holds the files of these splits that `manifest` (whole, not a selection) was built from.

    Raises `ManifestError` where a file is missing or has another size.
    """
    for split in sorted(set(splits)):
        files = data_files(row for row in manifest.rows if row.split == split)
        if fingerprint(data_root, files, named_by=manifest.path) != manifest.info.fingerprints.get(split):
            raise ManifestError(
                f"{data_root}: the files of split '{split}' are not those that {manifest.path} was built from "
                "(names or sizes differ); name the right root with --data-root, or build again"
            )


def write_manifest(path: Path, rows: Iterable[Row], info: ManifestInfo) -> None:
    """Write `rows`, sorted, and `info` to the parquet file `path`, atomically, and before it the seal of its folder."""
    content = parquet_bytes(_table(rows, info))
    write_seal(path.parent, {path.name: content})
    write_bytes(path, content)


def _table(rows: Iterable[Row], info: ManifestInfo) -> pa.Table:
    """Return the file's table; of the rows, no more than a block are there as objects at once."""
    parts: dict[str, list[pa.Array]] = {name: [] for name in COLUMNS}
    used = {name for name, entry in COLUMNS.items() if not entry.is_optional}
    is_sorted, last = True, None
    entries = iter(rows)
    while block := tuple(islice(entries, _BLOCK)):
        for name, entry in COLUMNS.items():
            values = [getattr(row, name) for row in block]
            if name not in used and any(value != entry.default for value in values):
                used.add(name)
            parts[name].append(pa.array([_plain(value) for value in values], type=entry.type))
        keys = [row.key for row in block]
        is_sorted &= all(one <= other for one, other in pairwise(keys if last is None else (last, *keys)))
        last = keys[-1]
    named = [name for name in COLUMNS if name in used]
    schema = pa.schema([COLUMNS[name].arrow_field for name in named], metadata=_metadata(info))
    # A column of a row group in one piece: where pieces meet has a say in the file's pages.
    arrays = [_whole(parts.pop(name), COLUMNS[name].type) for name in named]
    table = pa.table(arrays, schema=schema)
    if not is_sorted:
        of_rows = zip(*(table.column(name).to_pylist() for name in _ORDER if name in used), strict=True)
        names = [
            (split, clip_id, name, -inf if level is None else level, *draw)
            for split, clip_id, name, level, *draw in of_rows
        ]
        table = table.take(pa.array(sorted(range(len(names)), key=names.__getitem__)))
    return table


def _whole(blocks: list[pa.Array], kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column whose pieces are row groups, and empty the list of blocks that it is put together from."""
    at_once, groups = _ROW_GROUP // _BLOCK, list[pa.Array]()
    blocks.reverse()
    while blocks:
        group = [blocks.pop() for _ in range(min(at_once, len(blocks)))]
        groups.append(pa.concat_arrays(group))
    return pa.chunked_array(groups, type=kind)


def remember_data_root(folder: Path, data_root: Path) -> bool:
    """Link ``folder/data_root`` to `data_root`; return whether the file system can hold the link."""
    link = folder / DATA_ROOT_LINK
    try:
        with atomic_path(link) as temporary:
            temporary.symlink_to(data_root.resolve(), target_is_directory=True)
    except (OSError, NotImplementedError):
        return False
    return True


@naming_addresses()
def load_manifest(path: Path | str, *, consistent: bool = True) -> Manifest:
    """Read a manifest, or the ``manifest.parquet`` of a build's folder, here or at a URL, of which all files are copied.

    `consistent`: whether columns that contradict each other are refused too; `verify` lists those, row by row.
    Raises `ManifestError` where the file is no manifest, is of another format, holds what no build writes (a column or a
    metadata entry of another kind) or names files outside its roots.
    """
    path = local_build(path)
    if path.is_dir():
        _require_no_folder_of_builds(path)
        path = path / MANIFEST_NAME
    opened = _KIND.open(path, [entry.name for entry in COLUMNS.values() if entry.type == pa.string()])
    info = _info(path, opened.schema_arrow.metadata or {})
    there = {
        name: entry for name, entry in COLUMNS.items() if not entry.is_optional or name in opened.schema_arrow.names
    }
    _KIND.require_types(path, opened.schema_arrow, pa.schema([entry.arrow_field for entry in there.values()]))
    _KIND.require_sizes(path, opened, MANIFEST_ROWS, MANIFEST_VALUES)
    columns = Columns.read(path, opened, there, _KIND)
    columns.check()
    if consistent:
        columns.check_together(info.dataset)
    # What reading and checking took would else stay with the process.
    release_unused()
    return Manifest(path, info, RowTable(columns, _make_rows), path.absolute())


def _require_no_folder_of_builds(folder: Path) -> None:
    """Raise `ManifestError` for a folder that is no build but holds some: it names them."""
    if (folder / MANIFEST_NAME).exists():
        return
    builds = sorted(str(path.parent) for path in folder.glob(f"*/{MANIFEST_NAME}"))
    if builds:
        shown = ", ".join(builds[:_MOST_BUILDS]) + (", .." if len(builds) > _MOST_BUILDS else "")
        raise ManifestError(f"{folder}: found a folder of builds; expected one of them; name {shown}")


def _make_rows(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[Row]:
    """Return rows of checked columns; the frozen class's own constructor takes four times as long."""
    count = len(columns[0]) if columns else 0
    rows = [object.__new__(Row) for _ in range(count)]
    given = dict(zip(names, columns, strict=True))
    for name, entry in COLUMNS.items():
        put = getattr(Row, name).__set__
        for row, value in zip(rows, given.get(name, (entry.default,) * count), strict=True):
            put(row, value)
    return rows


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _metadata(info: ManifestInfo) -> dict[str, str]:
    skipped = [[entry.clip_id, entry.condition, entry.reason] for entry in info.skipped]
    return {
        "avsrobust.build_format": str(BUILD_FORMAT),
        "avsrobust.version": info.version,
        "avsrobust.dataset": info.dataset,
        "avsrobust.seed": str(info.seed),
        "avsrobust.recipe": _json(info.recipe),
        "avsrobust.fingerprints": _json(info.fingerprints),
        "avsrobust.skipped": _json(skipped),
        "avsrobust.notes": _json(list(info.notes)),
        "avsrobust.release": info.release,
        "avsrobust.muted": _json(list(info.muted)),
        "avsrobust.survey": _json(info.survey),
        "avsrobust.checksums_sha256": info.checksums_sha256,
        **({"avsrobust.conditions": _json(info.conditions)} if info.conditions else {}),
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _info(path: Path, metadata: Mapping[bytes, bytes]) -> ManifestInfo:
    texts = read_texts(path, metadata, "avsrobust.")
    version = texts.get("build_format")
    if version is None:
        raise ManifestError(f"{path}: is parquet, but no manifest; expected a file made by 'avsrobust build'")
    if version != str(BUILD_FORMAT):
        raise ManifestError(
            f"{path}: is a build of format {version[:20]} (avsrobust {texts.get('version', '?')[:20]}); "
            f"expected format {BUILD_FORMAT} (avsrobust {__version__}); build again"
        )
    try:
        entries = parse_entries(texts)
    except (KeyError, ValueError) as error:
        raise ManifestError(f"{path}: has damaged metadata ({error}); build again") from error
    return ManifestInfo(
        dataset=entries["dataset"],
        seed=entries["seed"],
        recipe=entries["recipe"],
        fingerprints=entries["fingerprints"],
        skipped=tuple(Skipped(*entry) for entry in entries["skipped"]),
        notes=tuple(entries["notes"]),
        release=entries["release"],
        muted=tuple(entries["muted"]),
        survey=entries["survey"],
        checksums_sha256=entries["checksums_sha256"],
        conditions=entries["conditions"],
        version=entries["version"],
    )
