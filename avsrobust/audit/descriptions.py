"""A build's log-mel arrays described by plain statistics, row by row and condition by condition.

Conventions
    The statistics are those that a model can take from a sound's features without any understanding of it.
    A log-mel array is float [T, 1, 96, 64]: T examples of 96 time frames and 64 bands, natural logarithm of mel magnitudes
    (VGGish, vggish_input.py of AVSBench: log(mel + 0.01)). Other units (decibels, standardised values) are welcome: separating
    them is the purpose. The examples are laid end to end: one matrix [T * 96, 64] of time by band.
    A log-mel file is an ``.npy`` array [rows, T, 1, 96, 64]; the manifest's `log_mel_row` counts along its first axis.
    Arrays are mapped into memory, never loaded whole, and never unpickled; only regular files are.
    Clean and negative rows often share one array (an off-screen sound is another clip's own): it is described once.
    Where a row has no file, its sound is made, and its log-mel from that (`avsrobust.audio.made`). Rows of positive conditions
    without files are not described: their front end is named, and their sounds are no negatives.
    Loudness is the integrated loudness of the row's sound in LUFS, at least `QUIETEST_LUFS` (silence has none).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avsrobust.arrays import map_npy
from avsrobust.audio.io import FULL_SCALE
from avsrobust.audio.loudness import integrated_loudness
from avsrobust.audio.made import FileReader, log_mel_of_rendered, render_row
from avsrobust.callbacks import ProgressCallback
from avsrobust.errors import ManifestError
from avsrobust.manifest import MADE_PREFIX, Manifest, Row
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
_TOLD_AT_ONCE = 64
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
    """Read every row's array and sound once and describe them.

    Args:
        manifest: A build.
        data_root: Where its data set lies; None: sounds are not looked at, which only builds with files for all rows allow.
        progress: Called with (rows read, rows in total), once for `_TOLD_AT_ONCE` rows and at the end.

    Raises:
        ManifestError: An array is missing, damaged or not finite.
        AudioError: A sound cannot be read.
    """
    rows = tuple(row for row in manifest.rows if _is_audited(row) or not row.audio.startswith(MADE_PREFIX))
    reader = _Reader(manifest, data_root)
    known: dict[_Key, tuple[Floats, float]] = {}
    seen: dict[str, _Condition] = {}
    keys: list[_Key] = []
    for number, row in enumerate(rows, 1):
        if progress is not None and (number % _TOLD_AT_ONCE == 0 or number == len(rows)):
            progress(number, len(rows))
        key = (row.audio, row.log_mel, row.log_mel_row)
        is_loudness_known = key in known and not math.isnan(known[key][1])
        wanted = data_root is not None and _is_audited(row) and not is_loudness_known
        array, loudness = reader.read(row, with_loudness=wanted)
        if key not in known:
            known[key] = (describe(array), loudness)
        elif wanted:
            known[key] = (known[key][0], loudness)
        keys.append(key)
        seen.setdefault(row.condition, _Condition(row.condition, row.polarity)).add(array)
    return DescribedRows(
        rows,
        np.array([known[key][0] for key in keys]),
        None if data_root is None else np.array([known[key][1] for key in keys]),
        tuple(seen[name].summary() for name in sorted(seen)),
    )


def _is_audited(row: Row) -> bool:
    return row.condition == CLEAN or row.polarity == NEGATIVE


class _Reader:
    """Hands out the arrays of a manifest's rows, and the loudness of their sounds."""

    def __init__(self, manifest: Manifest, data_root: Path | None) -> None:
        self._manifest = manifest
        self._data_root = data_root
        self._sounds = FileReader(self._locate)
        # Every map holds a file descriptor, and a large build has hundreds of files.
        self._open = lru_cache(maxsize=MOST_OPEN)(_open)
        self._made = lru_cache(maxsize=_MOST_MADE)(self._make)

    def read(self, row: Row, *, with_loudness: bool) -> tuple[Array, float]:
        """Return a row's array, and the loudness of its sound, NaN unless that is wanted."""
        if row.audio.startswith(MADE_PREFIX):
            return self._made(row)
        loudness = math.nan
        if with_loudness:
            samples, sample_rate = self._sounds(row.audio, row.num_frames)
            loudness = _loudness(samples.mean(axis=1)[: row.num_frames * sample_rate], sample_rate)
        return self._array(row), loudness

    def _locate(self, name: str) -> Path:
        return self._manifest.file(name, self._data_root or Path())

    def _make(self, row: Row) -> tuple[Array, float]:
        rendered, sample_rate = render_row(row, self._sounds)
        samples = rendered.samples / FULL_SCALE
        array = log_mel_of_rendered(row, rendered, sample_rate)
        return array, _loudness(samples[: row.num_frames * sample_rate], sample_rate)

    def _array(self, row: Row) -> Array:
        path = self._manifest.log_mel_path(row)
        rows = self._open(path)
        if not 0 <= row.log_mel_row < len(rows):
            raise ManifestError(
                f"{path}: has {len(rows)} rows, but {self._manifest.path} names row {row.log_mel_row} of it; build again"
            )
        array: Array = np.asarray(rows[row.log_mel_row])
        if not np.isfinite(array).all():
            raise ManifestError(f"{path}: row {row.log_mel_row} holds NaN or infinity; expected numbers; build again")
        return array


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


class _Condition:
    """Running extremes and sums over the arrays of one condition."""

    def __init__(self, condition: str, polarity: str) -> None:
        self._names = (condition, polarity)
        self._forms: set[str] = set()
        self._lowest: dict[tuple[int, ...], Array] = {}
        self._highest: dict[tuple[int, ...], Array] = {}
        self._rows, self._sum, self._count = 0, 0.0, 0

    def add(self, array: Array) -> None:
        shape = array.shape[1:]
        self._forms.add(f"{array.dtype.name} {list(shape)}")
        lowest, highest = array.min(axis=0), array.max(axis=0)
        self._lowest[shape] = np.minimum(self._lowest.get(shape, lowest), lowest)
        self._highest[shape] = np.maximum(self._highest.get(shape, highest), highest)
        self._rows += 1
        self._sum += float(array.sum(dtype=np.float64))
        self._count += array.size

    def summary(self) -> ConditionSummary:
        fixed = np.concatenate([(self._lowest[shape] == self._highest[shape]).ravel() for shape in self._shapes()])
        return ConditionSummary(
            condition=self._names[0],
            polarity=self._names[1],
            rows=self._rows,
            forms=tuple(sorted(self._forms)),
            minimum=min(float(lowest.min()) for lowest in self._lowest.values()),
            maximum=max(float(highest.max()) for highest in self._highest.values()),
            mean=self._sum / self._count,
            fixed_share=float(fixed.mean()),
        )

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        yield from sorted(self._lowest)
