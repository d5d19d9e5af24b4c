"""Verify a build: is everything its manifest names there, unchanged and consistent?

Conventions
    A manifest that cannot be read, or whose data root is unknown, is an error; everything else that is wrong is a problem,
    one line each, and all of them are found. Damaged files of the build are made again by deleting them and building again.
    Every file that evaluating reads is compared with ``checksums.parquet``; the seal (`avsrobust.seal`) vouches for that file and
    for the manifest. Where one of these two is damaged, it alone is named: it says nothing about the others.
"""

from __future__ import annotations

import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avsrobust.arrays import map_npy
from avsrobust.audio.definitions import ReadFile, Rendered
from avsrobust.audio.front_ends import BANDS, FRONT_ENDS, STEPS
from avsrobust.audio.made import FileReader, render_row, row_definition
from avsrobust.building.contents import ProgressCounter
from avsrobust.building.map_ahead import map_ahead
from avsrobust.building.row_checks import check_rows, row_name
from avsrobust.callbacks import ProgressCallback
from avsrobust.checksums import (
    CHECKSUMS_NAME,
    FileSum,
    difference,
    located,
    read_checksums,
    remedy_for,
    sum_of_file,
)
from avsrobust.errors import AvsRobustError, ManifestError
from avsrobust.manifest import (
    MADE_PREFIX,
    MANIFEST_NAME,
    Manifest,
    Row,
    check_fingerprints,
    load_manifest,
    made_sha256,
    picture_entry,
    sound_files,
)
from avsrobust.manifest_rows import RowTable
from avsrobust.processes import usable_cores
from avsrobust.remote.inputs import local_build, local_data_root
from avsrobust.seal import SEAL_NAME, broken_seals
from avsrobust.vocabulary import counted

# Hashing leaves other threads their turn; two more than there are processors keep the disk busy.
_THREADS = usable_cores() + 2
_AHEAD = 64 * _THREADS
_ROWS_AT_ONCE = 1024
_TOLD_AT_ONCE = 64
# Bytes that take about as long to read and to compare as opening a file.
_UNIT = 1 << 16
_PICTURE, _SOUND, _LOG_MELS, _ANY = "a frame or mask", "a sound", "log-mels", "a file of the build"
_AGAIN = "delete it and build again with the same command"


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of a verification.

    Attributes:
        problems: Problems, a line each; empty: all is in order.
        rows: Number of rows checked.
        notes: Remarks about sounds that were made: how many had to be scaled down or clipped, by condition.
    """

    problems: tuple[str, ...]
    rows: int
    notes: tuple[str, ...] = ()


def verify(
    manifest_path: Path | str,
    data_root: Path | str | None = None,
    *,
    quick: bool = False,
    progress: ProgressCallback | None = None,
) -> VerifyReport:
    """Check every file and every row of a manifest.

    Checked are the bytes of all files (sounds, frames, masks, log-mel arrays, checksums, the manifest itself), the arrays' form,
    the data's fingerprint, seeds, polarity, source clips, sort order and completeness. `data_root`: where the data lies now.
    Sounds without a file are made, and what had to be scaled down or clipped is counted.
    Where either is a URL, its files are fetched again, and what is there is compared.
    `quick`: of sounds, frames, masks and arrays only presence and size, not the bytes; no sound is made.
    `progress`: called with the work done and all of it: a unit for each file, each 64 KiB that are read of it, and each sound
    to be made.
    Raises `ManifestError` where the manifest cannot be read or the data root is not there.
    """
    # What contradicts itself is listed below, row by row.
    manifest = load_manifest(local_build(manifest_path, fresh=not quick), consistent=False)
    root = manifest.data_root(local_data_root(data_root, [manifest], fresh=not quick, lenient=True))
    problems = list(check_rows(manifest))
    notes: list[str] = []
    counter = ProgressCounter(progress)
    seals = dict(_check_seals(manifest))
    sums = _trusted_checksums(manifest, seals)
    if MANIFEST_NAME in seals:
        # Its rows are not to be relied on, nor what follows from them. Only a line about the file itself says more than the seal.
        problems = [problem for problem in problems if problem.startswith(f"{manifest.path}: ")]
        seals = {name: line for name, line in seals.items() if name != MANIFEST_NAME or not problems}
        problems += [*seals.values(), *_Files(replace(manifest, rows=()), root, sums, quick, counter).check()]
    else:
        files = _Files(manifest, root, sums, quick, counter)
        problems += [*seals.values(), *files.check(), *_check_fingerprints(manifest, root)]
        made = _MadeSounds(manifest, root, sums, counter)
        problems += made.check_checksums()
        if not (quick or problems):
            made_problems, notes = made.check_samples()
            problems += made_problems
    return VerifyReport(tuple(problems), len(manifest.rows), tuple(notes))


def _check_fingerprints(manifest: Manifest, root: Path) -> Iterator[str]:
    for split in manifest.distinct("split"):
        try:
            check_fingerprints(manifest, root, [split])
        except ManifestError as error:
            yield str(error)


def _check_seals(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield damaged small files of the build by name, and a line about each."""
    if not (manifest.folder / SEAL_NAME).exists():
        yield SEAL_NAME, f"{manifest.folder / SEAL_NAME}: not found; expected the seal of the build; {_AGAIN}"
    yield from broken_seals(manifest.folder)
    if not manifest.info.checksums_sha256:
        yield (
            CHECKSUMS_NAME,
            f"{manifest.path}: names no {CHECKSUMS_NAME}; expected one made by 'avsrobust build'; build again",
        )


def _trusted_checksums(manifest: Manifest, seals: dict[str, str]) -> Mapping[str, FileSum] | None:
    """Return the checksums of the build, None where they are damaged; then adds to `seals` unless they are in it."""
    if CHECKSUMS_NAME in seals:
        return None
    # A damaged manifest may name another checksum than the seal, which is whole then.
    expected = None if MANIFEST_NAME in seals else manifest.info.checksums_sha256
    try:
        return read_checksums(manifest.folder, expected)
    except ManifestError as error:
        seals[CHECKSUMS_NAME] = str(error)
        return None


@dataclass(frozen=True)
class _Files:
    """The files that a manifest's rows name, below data root and build folder; `sums` are what they should be, where known."""

    manifest: Manifest
    root: Path
    sums: Mapping[str, FileSum] | None
    quick: bool
    counter: ProgressCounter

    def check(self) -> Iterator[str]:
        """Yield the problems: files that are missing, changed or not listed, one line each."""
        rows = self.manifest.rows
        sounds: dict[str, frozenset[str]] = {}
        arrays: dict[str, array[int]] = {}
        sums: dict[str, frozenset[str]] = {}
        self.counter.expect(sum(map(self._work, self.sums or ())))
        for position, row in enumerate(rows):
            if not row.audio.startswith(MADE_PREFIX):
                one = sums.setdefault(row.audio_sha256, frozenset({row.audio_sha256}))
                known = sounds.setdefault(row.audio, one)
                if row.audio_sha256 not in known:
                    sounds[row.audio] = known | one
            elif not self.quick:
                self.counter.expect(1)
            if not row.log_mel.startswith(MADE_PREFIX):
                arrays.setdefault(row.log_mel, array("q")).append(position)
        del sums
        kinds = used_files_by_kind(rows) if rows else ((path, _ANY) for path in sorted(self.sums or ()))
        unsaid = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for (path, kind), found in map_ahead(pool, lambda item: self._found(item[0]), kinds, _AHEAD):
                unsaid += self._work(path)
                if unsaid >= _TOLD_AT_ONCE:
                    self.counter.advance(unsaid)
                    unsaid = 0
                problems = [self._problem(path, kind, found, sounds.get(path, frozenset()))]
                if kind == _LOG_MELS and isinstance(found, FileSum):
                    # Of an array that is damaged, the contents may say how.
                    of_array = _rows_at(rows, arrays[path])
                    detailed = list(self._check_array(path, of_array, is_whole=problems[0] is None))
                    problems = list[str | None](detailed) or problems
                yield from (problem for problem in problems if problem is not None)
        self.counter.advance(unsaid)

    def _work(self, path: str) -> int:
        """Return how much work a file is, so that a thousand pictures and a shard of log-mels are told apart."""
        expected = None if self.quick or self.sums is None else self.sums.get(path)
        return 1 if expected is None else 1 + expected.num_bytes // _UNIT

    def _found(self, path: str) -> FileSum | OSError:
        file = located(path, self.manifest.folder, self.root)
        try:
            if not self.quick:
                return sum_of_file(path, file)
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError(None, "is not a regular file", str(file))
            return FileSum(path, status.st_size, "")
        except OSError as error:
            return error

    def _problem(self, path: str, kind: str, found: FileSum | OSError, of_rows: frozenset[str]) -> str | None:
        file, remedy = located(path, self.manifest.folder, self.root), remedy_for(path)
        if isinstance(found, FileNotFoundError) and kind == _PICTURE:
            return f"{file}: not found; expected {kind}; {remedy}"
        if isinstance(found, OSError):
            return f"{file}: cannot be read ({found.strerror or found}); expected {kind}; {remedy}"
        if of_rows and not self.quick and of_rows != {found.sha256}:
            return f"{file}: found sha256 {found.sha256}; expected {' or '.join(sorted(of_rows))}; {remedy}"
        if self.sums is None:
            return None
        expected = self.sums.get(path)
        if expected is None:
            return f"{file}: is named by {self.manifest.path}, but not in {CHECKSUMS_NAME}; expected both; build again"
        if found == expected or (self.quick and found.num_bytes == expected.num_bytes):
            return None
        return f"{file}: {difference(found, expected)}; {remedy}"

    def _check_array(self, log_mel: str, rows: Iterable[Row], *, is_whole: bool) -> Iterator[str]:
        path = located(log_mel, self.manifest.folder, self.root)
        try:
            array = map_npy(path, ManifestError)
        except (OSError, ManifestError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            yield f"{path}: cannot be read ({' '.join(reason.split())}); expected log-mels; {_AGAIN}"
            return
        yield from _array_problems(path, array, rows, skip_values=is_whole or self.quick)


@dataclass(frozen=True)
class _MadeSounds:
    """Sounds that have no file: their definitions, and what comes of them."""

    manifest: Manifest
    root: Path
    sums: Mapping[str, FileSum] | None
    counter: ProgressCounter

    def rows(self) -> Iterator[Row]:
        return (row for row in self.manifest.rows if row.audio.startswith(MADE_PREFIX))

    def check_checksums(self) -> Iterator[str]:
        """Yield the rows whose checksum does not follow from their definition and the files it uses."""
        known = _Digests(self.sums or {})
        for row in self.rows():
            try:
                row_definition(row)
            except AvsRobustError as error:
                yield f"row {row_name(row)}: its sound cannot be made ({error})"
                continue
            if row.log_mel.removeprefix(MADE_PREFIX) not in FRONT_ENDS.built_in:
                known_ones = " or ".join(MADE_PREFIX + name for name in FRONT_ENDS.built_in)
                yield f"row {row_name(row)}: found the log-mel {row.log_mel}; expected {known_ones}; build again"
            try:
                expected = made_sha256(row, known)
            except KeyError:
                # A file without a checksum is named by the check of files.
                continue
            if self.sums is not None and row.audio_sha256 != expected:
                yield f"row {row_name(row)}: found audio_sha256 {row.audio_sha256}; expected {expected}; build again"

    def check_samples(self) -> tuple[list[str], list[str]]:
        """Make every sound; return problems, and remarks about those that had to be scaled down or clipped."""
        problems: list[str] = []
        scaled: Counter[str] = Counter()
        clipped: Counter[str] = Counter()
        silent: Counter[str] = Counter()
        totals: Counter[str] = Counter()
        read = FileReader(lambda name: located(name, self.manifest.folder, self.root))
        with ThreadPoolExecutor(usable_cores()) as pool:
            for row, made in map_ahead(pool, lambda row: _make(row, read), self.rows(), _AHEAD):
                self.counter.advance(1)
                totals[row.condition] += 1
                if isinstance(made, AvsRobustError):
                    problems.append(f"row {row_name(row)}: its sound cannot be made ({made})")
                    continue
                scaled[row.condition] += made.gain_db < 0
                clipped[row.condition] += made.num_clipped > 0
                silent[row.condition] += made.has_silent_part
        notes = [
            f"{condition}: {counts[condition]} of {totals[condition]} sounds {verb} to stay within full scale"
            for counts, verb in ((scaled, "are scaled down as a whole"), (clipped, "are clipped"))
            for condition in sorted(+counts)
        ]
        notes += [
            f"{condition}: {silent[condition]} of {totals[condition]} sounds have a silent part, which has no level to set"
            for condition in sorted(+silent)
        ]
        return problems, notes


def used_files_by_kind(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Yield every file that rows name, as ``checksums.parquet`` does, with its kind: sorted, pictures first."""
    pictures, sounds, arrays = set[str](), set[str](), set[str]()
    before: tuple[object, ...] = ()
    for row in rows:
        named = (row.frames, row.masks, row.annotated)
        # The rows of a clip follow one another, and mostly have the same pictures.
        if named != before:
            pictures.update(picture_entry(path) for paths in named for path in paths or () if path is not None)
            before = named
        sounds.update(sound_files(row))
        if not row.log_mel.startswith(MADE_PREFIX):
            arrays.add(row.log_mel)
    pictures -= sounds | arrays
    sounds -= arrays
    for paths, kind in ((pictures, _PICTURE), (sounds, _SOUND), (arrays, _LOG_MELS)):
        for path in sorted(paths):
            yield path, kind
        paths.clear()


def _rows_at(rows: Sequence[Row], positions: array[int]) -> Iterator[Row]:
    """Yield the rows at some positions, in order, a part of them at a time."""
    for first in range(0, len(positions), _ROWS_AT_ONCE):
        part = positions[first : first + _ROWS_AT_ONCE]
        yield from rows.take(np.array(part)) if isinstance(rows, RowTable) else (rows[position] for position in part)


class _Digests(dict[str, str]):
    """The SHA-256 of files by their entry, as far as they are asked for."""

    def __init__(self, sums: Mapping[str, FileSum]) -> None:
        super().__init__()
        self._sums = sums

    def __missing__(self, path: str) -> str:
        self[path] = self._sums[path].sha256
        return self[path]


def _make(row: Row, read: ReadFile) -> Rendered | AvsRobustError:
    """Make a sound; return what had to be done to it, without its samples, or why it cannot be made."""
    try:
        return replace(render_row(row, read)[0], samples=np.empty(0, np.int16))
    except AvsRobustError as error:
        return error


def _array_problems(
    path: Path, array: np.ndarray[Any, np.dtype[Any]], rows: Iterable[Row], *, skip_values: bool
) -> Iterator[str]:
    """Check an array's form, and its values, which `skip_values` leaves out: its bytes are those that were built."""
    if array.dtype != np.float32 or array.ndim != 5 or array.shape[2:] != (1, STEPS, BANDS):
        expected = f"float32 [n, T, 1, {STEPS}, {BANDS}]"
        yield f"{path}: found {array.dtype} {list(array.shape)}; expected {expected}; {_AGAIN}"
        return
    bad = set() if skip_values else {index for index, log_mel in enumerate(array) if not np.isfinite(log_mel).all()}
    for row in rows:
        if not 0 <= row.log_mel_row < len(array) or row.num_frames != array.shape[1]:
            found = f"{counted(array.shape[1], 'frame')} in {counted(len(array), 'row')}"
            expected = f"{counted(row.num_frames, 'frame')} in row {row.log_mel_row}"
            yield f"{path}: found {found}; row {row_name(row)} expects {expected}; build again"
        elif row.log_mel_row in bad:
            yield f"{path}: found NaN or infinity in row {row.log_mel_row} ({row_name(row)}); {_AGAIN}"
