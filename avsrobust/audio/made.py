"""Sounds of manifest rows that have no file, and their log-mels, made by the row's definition when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.definitions import Definition, ReadFile, Rendered, parse_definition, rate_and_length, render
from avsrobust.audio.front_ends import FRONT_ENDS, MARGIN_S, log_mel_of
from avsrobust.audio.io import FULL_SCALE, read_samples
from avsrobust.errors import AudioError
from avsrobust.manifest import MADE_PREFIX, Row

Locate = Callable[[str], Path]

# A clip's own sound is read for dozens of its rows, one after the other.
_MOST_KEPT = 8


def render_row(row: Row, read: ReadFile) -> tuple[Rendered, int]:
    """Return the sound of a row without a file, and its rate in Hz.

    Args:
        row: Its `audio` begins with ``made:``.
        read: Reads the recordings it is made from.

    Raises:
        AudioError: The definition is none, or of another rate or length than the row's, or a recording cannot be read.
    """
    definition = row_definition(row)
    return render(definition, read), rate_and_length(definition)[0]


def row_definition(row: Row) -> Definition:
    """Return the definition of the sound of a row without a file. Raises `AudioError` as `render_row`; makes nothing."""
    definition = parse_definition(row.sound or "")
    sample_rate, num_samples = rate_and_length(definition)
    if sample_rate != row.sample_rate or abs(num_samples - row.duration_s * sample_rate) > max(1, num_samples * 1e-6):
        raise AudioError(
            f"found a definition of {num_samples} samples at {sample_rate} Hz; expected {row.duration_s:g} s at "
            f"{row.sample_rate} Hz, as the row says; build again"
        )
    return definition


def log_mel_of_row(row: Row, read: ReadFile) -> NDArray[np.float32]:
    """Return the log-mel of a row without a file, float32 [T, 1, 96, 64]; arguments and errors as `render_row`.

    It is made of the samples as a wav file would hold them, by the front end that the row names.
    """
    return log_mel_of_rendered(row, *render_row(row, read))


def log_mel_of_rendered(row: Row, rendered: Rendered, sample_rate: int) -> NDArray[np.float32]:
    """Return the log-mel of a row's sound that was made already (`render_row`); otherwise as `log_mel_of_row`."""
    front_end = row.log_mel.removeprefix(MADE_PREFIX)
    if front_end not in FRONT_ENDS.built_in:
        # A build may come from anywhere: it names no code to run.
        raise AudioError(
            f"row {row.clip_id}/{row.condition}: found the front end '{front_end:.100}'; "
            f"expected one of {', '.join(FRONT_ENDS.built_in)}; build again"
        )
    named = f"{row.clip_id}/{row.condition}"
    return log_mel_of(front_end, rendered.samples / FULL_SCALE, sample_rate, row.num_frames, of=named)


class FileReader:
    """Reads the recordings that sounds are made from, and remembers the last few. May be copied to other processes.

    Args:
        locate: Returns the file of a name in ``checksums.parquet``, checked or not.
    """

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        # Of no method: what refers to itself is freed some time later, and with it the maps of files that `locate` may hold.
        self._read = lru_cache(_MOST_KEPT)(partial(_from_file, locate))

    def __call__(self, name: str, seconds: float) -> tuple[NDArray[np.float64], int]:
        """Return the samples, float64 [S, channels], `seconds` of them at least where there are as many, and the rate in Hz."""
        return self._read(name, seconds)

    def __getstate__(self) -> dict[str, object]:
        return {"_locate": self._locate}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["_locate"])  # type: ignore[misc]


def _from_file(locate: Locate, name: str, seconds: float) -> tuple[NDArray[np.float64], int]:
    samples, sample_rate = read_samples(locate(name), longest_s=seconds + MARGIN_S)
    samples.setflags(write=False)
    return samples, sample_rate
