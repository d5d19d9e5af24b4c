"""``checksums.parquet``: size and SHA-256 of every file that a build's rows name.

Conventions
    A path is the manifest's: relative to the build's folder, or, with the prefix ``data:``, to the data root. Entries are sorted
    by path, so that the file's bytes follow from the files alone. Its own SHA-256 stands in the manifest's metadata.
    `bytes` (int64) is the file's size, `sha256` (string) the checksum of its content in hex.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from avsrobust.errors import ManifestError
from avsrobust.files import open_regular, resolve_inside, sha256_of_file
from avsrobust.manifest import DATA_PREFIX, MANIFEST_NAME, Manifest
from avsrobust.parquet import Kind, write_parquet

CHECKSUMS_NAME = "checksums.parquet"
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
_CHUNK = 1 << 20
_ENTRIES_AT_ONCE = 1 << 16
_BLOCK, _BLOCKS_HELD = 64, 64
_KIND = Kind(ManifestError, "the checksums that 'avsrobust build' writes beside the manifest", "build")


@dataclass(frozen=True)
class FileSum:
    """A file by its path (see the module's conventions), its size in bytes and its SHA-256."""

    path: str
    num_bytes: int
    sha256: str


def sum_of_content(path: str, content: bytes) -> FileSum:
    """Return the entry of a file with this content."""
    return FileSum(path, len(content), hashlib.sha256(content).hexdigest())


def sum_of_file(path: str, file: Path) -> FileSum:
    """Return the entry of `file`. Raises `OSError` where it cannot be read or is no regular file."""
    digest, num_bytes = hashlib.sha256(), 0
    with open_regular(file) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            num_bytes += len(chunk)
    return FileSum(path, num_bytes, digest.hexdigest())


def write_checksums(folder: Path, sums: Iterable[FileSum]) -> str:
    """Write the checksums of a build in `folder`, flushed to disk; return the SHA-256 of the file itself."""
    ordered = sorted(sums, key=lambda entry: entry.path)
    columns = {
        "path": [entry.path for entry in ordered],
        "bytes": [entry.num_bytes for entry in ordered],
        "sha256": [entry.sha256 for entry in ordered],
    }
    write_parquet(folder / CHECKSUMS_NAME, pa.table(columns, schema=SCHEMA))
    return sha256_of_file(folder / CHECKSUMS_NAME)


def read_checksums(folder: Path, expected_sha256: str | None = None) -> Mapping[str, FileSum]:
    """Return the entries of the build in `folder` by path.

    `expected_sha256`: the file's own checksum, as the manifest has it (None: not compared).
    Raises `ManifestError` where the file is missing, damaged or not the one that is expected.
    """
    path = folder / CHECKSUMS_NAME
    if expected_sha256 is not None:
        _require(path, expected_sha256)
    table = _KIND.read(path)
    _KIND.require_types(path, table.schema, SCHEMA)
    if not any(table.column(name).null_count for name in SCHEMA.names):
        table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()
        if table.num_rows == 0:
            return {}
        columns = [table.column(name).chunk(0) for name in SCHEMA.names]
        paths = columns[0]
        if pc.all(pc.less(paths.slice(0, len(paths) - 1), paths.slice(1))).as_py() is not False:
            return _SumTable(*columns)
        if pc.count_distinct(paths).as_py() == len(paths):
            order = pc.array_sort_indices(paths)
            return _SumTable(*(column.take(order) for column in columns))
    raise ManifestError(f"{path}: is damaged (an entry is empty or there twice); expected one per file; build again")


class _SumTable(Mapping[str, FileSum]):
    """Entries in columns, sorted by path: as objects those of a million files take a gigabyte."""

    def __init__(self, paths: pa.Array, sizes: pa.Array, digests: pa.Array) -> None:
        self._paths, self._sizes, self._digests = paths, sizes, digests
        # The last path of every block: two short searches, since each value of a column is slow to get.
        ends = [*range(_BLOCK - 1, len(paths), _BLOCK), *([len(paths) - 1] if len(paths) % _BLOCK else [])]
        self._last: list[str] = paths.take(pa.array(ends, pa.int64())).to_pylist()
        # The files of a clip lie in one or two blocks.
        self._held: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _ENTRIES_AT_ONCE):
            yield from self._paths.slice(first, _ENTRIES_AT_ONCE).to_pylist()

    def __getitem__(self, path: str) -> FileSum:
        first = bisect_left(self._last, path) * _BLOCK
        block = self._paths_from(first)
        within = bisect_left(block, path)
        if within == len(block) or block[within] != path:
            raise KeyError(path)
        place = first + within
        return FileSum(path, self._sizes[place].as_py(), self._digests[place].as_py())

    def _paths_from(self, first: int) -> list[str]:
        """Return a block's paths; several threads may ask at once."""
        block = self._held.get(first)
        if block is None:
            if len(self._held) >= _BLOCKS_HELD:
                self._held.clear()
            block = self._held[first] = self._paths.slice(first, _BLOCK).to_pylist()
        return block

    def items(self) -> ItemsView[str, FileSum]:
        """Return the entries with their paths."""
        return _Items(self)

    def entries(self) -> Iterator[FileSum]:
        """Yield all entries, in order."""
        for first in range(0, len(self), _ENTRIES_AT_ONCE):
            columns = (column.slice(first, _ENTRIES_AT_ONCE) for column in (self._paths, self._sizes, self._digests))
            yield from map(FileSum, *(column.to_pylist() for column in columns))


class _Items(ItemsView[str, FileSum]):
    """The items of a table of checksums, in the order of the file and without a search for each."""

    def __init__(self, table: _SumTable) -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[tuple[str, FileSum]]:
        return ((entry.path, entry) for entry in self._table.entries())


def located(path: str, folder: Path, data_root: Path) -> Path:
    """Return the file that an entry is about. Raises `AvsRobustError` for a path that leaves its root."""
    root = data_root if path.startswith(DATA_PREFIX) else folder
    return resolve_inside(root, path.removeprefix(DATA_PREFIX), named_by=folder / CHECKSUMS_NAME)


class Checksums:
    """The checksums of a build, for comparing what is read with what was built; `named_by` is the manifest, for messages."""

    def __init__(self, sums: Mapping[str, FileSum], named_by: Path) -> None:
        self._sums = sums
        self._named_by = named_by

    def check(self, path: str, file: Path, content: bytes) -> None:
        """Raise `ManifestError` unless `content`, read from `file`, is what was built under `path`."""
        self._compare(file, sum_of_content(path, content))

    def check_file(self, path: str, file: Path) -> None:
        """Raise `ManifestError` unless `file` holds what was built under `path`."""
        try:
            found = sum_of_file(path, file)
        except OSError as error:
            reason = error.strerror or error
            raise ManifestError(f"{file}: cannot be read ({reason}); {self._named_by} needs it; build again") from error
        self._compare(file, found)

    def _compare(self, file: Path, found: FileSum) -> None:
        expected = self._sums.get(found.path)
        if expected is None:
            raise ManifestError(f"{self._named_by}: names {file}, of which {CHECKSUMS_NAME} knows nothing; build again")
        if found != expected:
            remedy = remedy_for(found.path)
            raise ManifestError(f"{file}: {difference(found, expected)}; {remedy}")


def load_checksums(manifest: Manifest, paths: Collection[str] | None = None) -> Checksums | None:
    """Return the checksums of a manifest's build, None where it was written without any (not by 'avsrobust build').

    `paths`: only those of these files (None: all). Raises `ManifestError` as `read_checksums`.
    """
    expected = manifest.info.checksums_sha256
    if not expected:
        return None
    sums = read_checksums(manifest.folder, expected)
    kept = sums if paths is None else {path: sums[path] for path in paths if path in sums}
    return Checksums(kept, manifest.path)


def difference(found: FileSum, expected: FileSum) -> str:
    """Return how a file's content differs from what was built, ``found ..; expected ..``."""
    if found.num_bytes != expected.num_bytes:
        return f"found {found.num_bytes:,} bytes; expected {expected.num_bytes:,}"
    return f"found sha256 {found.sha256}; expected {expected.sha256}"


def remedy_for(path: str) -> str:
    """Return what puts a changed or missing file of a build right, by the entry's path."""
    return "restore the data set" if path.startswith(DATA_PREFIX) else "delete it and build again with the same command"


def _require(path: Path, expected_sha256: str) -> None:
    try:
        found = sha256_of_file(path)
    except OSError as error:
        reason = error.strerror or error
        raise ManifestError(
            f"{path}: cannot be read ({reason}); expected the checksums that belong to {MANIFEST_NAME} beside it; build again"
        ) from error
    if found != expected_sha256:
        raise ManifestError(
            f"{path}: found sha256 {found}; expected {expected_sha256}, as {MANIFEST_NAME} beside it says; "
            "delete it and build again with the same command"
        )
