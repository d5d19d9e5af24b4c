"""A build's log-mel arrays described by plain statistics, row by row and condition by condition.

Conventions
    The statistics are those that a model can take from a sound's features without any understanding of it.
    A log-mel array is float [T, 1, 96, 64]: T examples of 96 time frames and 64 bands, natural logarithm of mel magnitudes
    (VGGish, vggish_input.py of AVSBench: log(mel + 0.01)). Other units (decibels, standardised values) are welcome: separating
    them is the purpose. The examples are laid end to end: one matrix [T * 96, 64] of time by band.
    A log-mel file is an ``.npy`` array [rows, T, 1, 96, 64]; the manifest's `log_mel_row` counts along its first axis.
    Arrays are read row by row, never loaded whole, and never unpickled; only regular files are.
    Clean and negative rows often share one array (an off-screen sound is another clip's own): it is described once.
    Where a row has no file, its sound is made, and its log-mel from that (`avsrobust.audio.made`). Rows of positive conditions
    without files are not described: their front end is named, and their sounds are no negatives.
    Loudness is the integrated loudness of the row's sound in LUFS, at least `QUIETEST_LUFS` (silence has none).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple
from weakref import proxy

import numpy as np
import numpy.typing as npt

from avsrobust.arrays import map_npy
from avsrobust.audio.io import FULL_SCALE
from avsrobust.audio.loudness import integrated_loudness
from avsrobust.audio.made import FileReader, log_mel_of_rendered, render_row
from avsrobust.audio.resample import to_mono
from avsrobust.callbacks import ProgressCallback
from avsrobust.errors import ManifestError
from avsrobust.files import open_regular, resolve_inside
from avsrobust.manifest import DATA_PREFIX, MADE_PREFIX, Manifest, Row
from avsrobust.processes import map_in_processes
from avsrobust.vocabulary import CLEAN, NEGATIVE

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.floating]

STATISTICS = (
    "mean",
    "std",
    "minimum",
    "maximum",
    "level",
    "dynamics",
    "flatness",
    "tilt",
    "change",
    "identical_frames",
    "floor_share",
)
AXES = 5
MOST_OPEN = 64
# Below what BS.1770 counts at all.
QUIETEST_LUFS = -100.0
_MOST_MADE = 64
# Rows per call of a worker, and below which number of them no worker is worth its start.
_ROWS_AT_ONCE, _FEW = 64, 4096
_Key = tuple[str, str, int]


def describe(log_mel: npt.NDArray[np.floating]) -> Floats:
    """Return the `STATISTICS` of one array.

    level: mean over time of log(mean over bands of exp(x)); dynamics: its standard deviation over time; flatness: mean over
    time of (mean of x) - log(mean of exp(x)), the log of geometric by arithmetic mean, at most 0; tilt: upper half of the
    bands minus lower half; change: mean absolute difference of neighbouring time frames; identical_frames: share of
    neighbouring time frames that are equal; floor_share: share of values equal to the array's minimum.

    Args:
        log_mel: Finite floats [T, 1, 96, 64].

    Returns:
        Float64 [11], in the order of `STATISTICS`.
    """
    values = np.asarray(log_mel, dtype=np.float64).reshape(-1, log_mel.shape[-1])
    level = _log_mean_exp(values)
    steps = np.diff(values, axis=0)
    half = values.shape[1] // 2
    lowest = values.min()
    return np.array(
        [
            values.mean(),
            values.std(),
            lowest,
            values.max(),
            level.mean(),
            level.std(),
            (values.mean(axis=1) - level).mean(),
            values[:, half:].mean() - values[:, :half].mean(),
            np.abs(steps).mean(),
            (steps == 0).all(axis=1).mean(),
            (values == lowest).mean(),
        ]
    )


def _log_mean_exp(values: Floats) -> Floats:
    # Shifted by the largest value: decibels would overflow exp.
    largest = values.max(axis=1)
    return np.asarray(np.log(np.exp(values - largest[:, None]).mean(axis=1)) + largest, dtype=np.float64)


@dataclass(frozen=True)
class ConditionSummary:
    """All arrays of one condition, summed up.

    Attributes:
        condition: Name of the condition.
        polarity: "positive" or "negative".
        rows: Number of rows.
        forms: Dtypes with the shape behind the T examples, for example ``float32 [1, 96, 64]``.
        minimum: Lowest value.
        maximum: Highest value.
        mean: Mean of all values.
        fixed_share: Share of the 96 x 64 positions at which all examples of all rows hold one and the same value, 0..1.
    """

    condition: str
    polarity: str
    rows: int
    forms: tuple[str, ...]
    minimum: float
    maximum: float
    mean: float
    fixed_share: float


@dataclass(frozen=True)
class DescribedRows:
    """Rows of a manifest, and what their arrays and sounds are like.

    Attributes:
        rows: N of them.
        statistics: Of their arrays, float64 [N, K].
        loudness: Of their sounds in LUFS, float64 [N], NaN for rows that are neither clean nor negative; None where the data
            set is not there.
        summaries: The arrays of each condition.
    """

    rows: tuple[Row, ...]
    statistics: Floats
    loudness: Floats | None
    summaries: tuple[ConditionSummary, ...]


def describe_rows(
    manifest: Manifest, data_root: Path | None, progress: ProgressCallback | None = None
) -> DescribedRows:
    """Read every row's array and sound once and describe them, those of large builds on all cores.

    Args:
        manifest: A build.
        data_root: Folder of its data set; None: sounds are not looked at, which only builds with files for all rows allow.
        progress: Called with (rows read, rows in total), once for `_ROWS_AT_ONCE` rows.

    Raises:
        ManifestError: An array is missing, damaged or not finite.
        AudioError: A sound cannot be read.
    """
    rows = tuple(row for row in manifest.rows if _is_audited(row) or not row.audio.startswith(MADE_PREFIX))
    wanted = list(_wanted(rows, data_root is not None))
    parts = [wanted[first : first + _ROWS_AT_ONCE] for first in range(0, len(wanted), _ROWS_AT_ONCE)]
    work = partial(
        _describe_part, audited=_AuditedBuild(manifest.path, manifest.folder, data_root, secrets.token_hex())
    )
    known: dict[_Key, tuple[Floats, float]] = {}
    seen: dict[str, _Condition] = {}
    done = 0
    try:
        for part, (described, conditions) in zip(parts, _results(work, parts), strict=True):
            for one, (statistics, loudness, total) in zip(part, described, strict=True):
                key = _key(one.row)
                if statistics is not None:
                    known[key] = (statistics, loudness)
                elif one.loudness:
                    # The first row of these needed none.
                    known[key] = (known[key][0], loudness)
                seen.setdefault(one.row.condition, _Condition(one.row.condition, one.row.polarity)).count(total)
            for condition in conditions:
                seen[condition.name].widen(condition)
            done += len(part)
            if progress is not None:
                progress(done, len(rows))
    finally:
        # Its files are open.
        _reader.cache_clear()
    keys = [_key(row) for row in rows]
    return DescribedRows(
        rows,
        np.array([known[key][0] for key in keys]),
        None if data_root is None else np.array([known[key][1] for key in keys]),
        tuple(seen[name].summary() for name in sorted(seen)),
    )


def _is_audited(row: Row) -> bool:
    return row.condition == CLEAN or row.polarity == NEGATIVE


def _key(row: Row) -> _Key:
    return row.audio, row.log_mel, row.log_mel_row


class _Wanted(NamedTuple):
    """A row, whether its array is described, and whether its sound's loudness is measured."""

    row: Row
    array: bool
    loudness: bool


class _AuditedBuild(NamedTuple):
    """A build and its data set, as far as files are found by them."""

    manifest: Path
    folder: Path
    data_root: Path | None
    # Tells audits apart: between two, files may change.
    audit: str

    def locate(self, name: str) -> Path:
        """Return a file by its name in ``checksums.parquet``."""
        if name.startswith(DATA_PREFIX):
            return resolve_inside(self.data_root or Path(), name.removeprefix(DATA_PREFIX), named_by=self.manifest)
        return resolve_inside(self.folder, name, named_by=self.manifest)


# Statistics of a row's array, unless another row has them; loudness or NaN; sum and number of the array's values.
_Described = tuple[Floats | None, float, tuple[float, int]]


def _wanted(rows: Sequence[Row], with_loudness: bool) -> Iterator[_Wanted]:
    described, measured = set[_Key](), set[_Key]()
    for row in rows:
        key = _key(row)
        loudness = with_loudness and _is_audited(row) and key not in measured
        yield _Wanted(row, key not in described, loudness)
        described.add(key)
        if loudness:
            measured.add(key)


def _results(
    work: Callable[[list[_Wanted]], tuple[list[_Described], list[_Condition]]], parts: list[list[_Wanted]]
) -> Iterable[tuple[list[_Described], list[_Condition]]]:
    if len(parts) * _ROWS_AT_ONCE < _FEW:
        return map(work, parts)
    from joblib import cpu_count

    return map_in_processes(work, parts, cpu_count())


def _describe_part(part: list[_Wanted], *, audited: _AuditedBuild) -> tuple[list[_Described], list[_Condition]]:
    """Describe some rows; return them, and the extremes of their arrays by condition."""
    reader = _reader(audited)
    described: list[_Described] = []
    seen: dict[str, _Condition] = {}
    for row, with_statistics, with_loudness in part:
        array, loudness = reader.read(row, with_loudness=with_loudness)
        total = (float(array.sum(dtype=np.float64)), array.size)
        described.append((describe(array) if with_statistics else None, loudness, total))
        seen.setdefault(row.condition, _Condition(row.condition, row.polarity)).add(array)
    return described, list(seen.values())


class _Reader:
    """Hands out the arrays of a manifest's rows, and the loudness of their sounds."""

    def __init__(self, audited: _AuditedBuild) -> None:
        self._audited = audited
        self._sounds = FileReader(audited.locate)
        # Every map holds a file descriptor, and a large build has hundreds of files.
        self._open = lru_cache(maxsize=MOST_OPEN)(_open)
        # Not of the method itself: the files are closed when nobody refers to this any more.
        self._made = lru_cache(maxsize=_MOST_MADE)(partial(_Reader._make, proxy(self)))

    def read(self, row: Row, *, with_loudness: bool) -> tuple[Array, float]:
        """Return a row's array, and the loudness of its sound, NaN unless that is wanted."""
        if row.audio.startswith(MADE_PREFIX):
            return self._made(row)
        loudness = math.nan
        if with_loudness:
            samples, sample_rate = self._sounds(row.audio, row.num_frames)
            loudness = _loudness(to_mono(samples)[: row.num_frames * sample_rate], sample_rate)
        return self._array(row), loudness

    def _make(self, row: Row) -> tuple[Array, float]:
        rendered, sample_rate = render_row(row, self._sounds)
        samples = rendered.samples / FULL_SCALE
        array = log_mel_of_rendered(row, rendered, sample_rate)
        return array, _loudness(samples[: row.num_frames * sample_rate], sample_rate)

    def _array(self, row: Row) -> Array:
        path = resolve_inside(self._audited.folder, row.log_mel, named_by=self._audited.manifest)
        rows = self._open(path)
        if not 0 <= row.log_mel_row < len(rows):
            raise ManifestError(
                f"{path}: has {len(rows)} rows, but {self._audited.manifest} names row {row.log_mel_row} of it; build again"
            )
        array = _read_row(path, rows, row.log_mel_row)
        if not np.isfinite(array).all():
            raise ManifestError(f"{path}: row {row.log_mel_row} holds NaN or infinity; expected numbers; build again")
        return array


@lru_cache(maxsize=1)
def _reader(audited: _AuditedBuild) -> _Reader:
    """Return the reader of a build, which keeps open files from part to part."""
    return _Reader(audited)


def _loudness(samples: Floats, sample_rate: int) -> float:
    return max(QUIETEST_LUFS, integrated_loudness(samples, sample_rate))


def _open(path: Path) -> Array:
    try:
        array = map_npy(path, ManifestError)
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: not found; expected the log-mel arrays of the build; build again") from error
    except (OSError, ManifestError) as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise ManifestError(f"{path}: cannot be read as a plain .npy array ({cause}); build again") from error
    if array.ndim != AXES or array.dtype.kind != "f" or array[:1].size == 0:
        raise ManifestError(
            f"{path}: found an array of shape {list(array.shape)}; expected floats [rows, T, 1, 96, 64]; build again"
        )
    return array


def _read_row(path: Path, rows: Array, number: int) -> Array:
    """Return a row of a mapped array in memory of its own: pages of the map would count as the process's to its end."""
    if not isinstance(rows, np.memmap) or not rows.flags.c_contiguous:
        return np.array(rows[number])
    size = rows[number].nbytes
    with open_regular(path) as stream:
        stream.seek(rows.offset + number * size)
        content = stream.read(size)
    if len(content) < size:
        raise ManifestError(f"{path}: became shorter while it was read; build again")
    return np.frombuffer(content, rows.dtype).reshape(rows.shape[1:])


class _Condition:
    """Running extremes and sums over the arrays of one condition."""

    def __init__(self, condition: str, polarity: str) -> None:
        self.name, self._polarity = condition, polarity
        self._forms: set[str] = set()
        self._lowest: dict[tuple[int, ...], Array] = {}
        self._highest: dict[tuple[int, ...], Array] = {}
        self._rows, self._sum, self._count = 0, 0.0, 0

    def add(self, array: Array) -> None:
        """Take an array's form and extremes."""
        shape = array.shape[1:]
        self._forms.add(f"{array.dtype.name} {list(shape)}")
        self._include(shape, array.min(axis=0), array.max(axis=0))

    def widen(self, other: _Condition) -> None:
        """Take the forms and extremes of other arrays of the condition."""
        self._forms |= other._forms
        for shape, lowest in other._lowest.items():
            self._include(shape, lowest, other._highest[shape])

    def count(self, total: tuple[float, int]) -> None:
        """Take the sum and the number of an array's values; sums are added row by row, so that their last bits stay."""
        self._rows += 1
        self._sum += total[0]
        self._count += total[1]

    def _include(self, shape: tuple[int, ...], lowest: Array, highest: Array) -> None:
        self._lowest[shape] = np.minimum(self._lowest.get(shape, lowest), lowest)
        self._highest[shape] = np.maximum(self._highest.get(shape, highest), highest)

    def summary(self) -> ConditionSummary:
        fixed = np.concatenate([(self._lowest[shape] == self._highest[shape]).ravel() for shape in self._shapes()])
        return ConditionSummary(
            condition=self.name,
            polarity=self._polarity,
            rows=self._rows,
            forms=tuple(sorted(self._forms)),
            minimum=min(float(lowest.min()) for lowest in self._lowest.values()),
            maximum=max(float(highest.max()) for highest in self._highest.values()),
            mean=self._sum / self._count,
            fixed_share=float(fixed.mean()),
        )

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        yield from sorted(self._lowest)
