"""Sounds on disk: what is accepted, reading samples and waveforms, writing 16-bit wavs.

Conventions
    Accepted are RIFF/WAVE files with 16-bit PCM or 32/64-bit float samples, mono or stereo, 4000..384000 Hz: what every
    front end and every model's own loader reads alike. Anything else is an `AudioError`, one line that starts with the path.
    Samples are float64 [S, channels], on the grid of 16-bit PCM: int16 / 32768, as VGGish's front end reads them
    (AVSBench, torchvggish/vggish_input.py `wavfile_to_examples`). Float files are put on the same grid: round(x * 32768),
    clipped to -32768..32767.
    A data chunk that declares more bytes than the file holds is a truncated file; libraries read it without a word, so
    the chunks are read here. The one exception is the size 0xFFFFFFFF, which ffmpeg writes into a pipe and which means
    "to the end of the file": such a file is accepted, though nothing in it can tell whether it is whole.
"""

from __future__ import annotations

import struct
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from avsrobust.datasets.clips import SoundHeader
from avsrobust.errors import AudioError
from avsrobust.files import atomic_path

FULL_SCALE = 32768
LOWEST_RATE, HIGHEST_RATE = 4000, 384000

_ACCEPTED = "16-bit PCM or 32/64-bit float, mono or stereo"
_REENCODE = "re-encode it, for example: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
_REPLACE = "copy or extract it again"
_UNTIL_END_OF_FILE = 0xFFFFFFFF
_EXTENSIBLE = 0xFFFE
_FORMAT_BYTES = 40
_FORMAT_NAMES = {1: "PCM", 2: "ADPCM", 3: "float", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}
_DTYPES = {(1, 16): "<i2", (3, 32): "<f4", (3, 64): "<f8"}
_SUBTYPES = {"<i2": "PCM_16", "<f4": "FLOAT", "<f8": "DOUBLE"}
# Chunks before the samples; real files have a handful. Keeps a hostile file from being walked 8 bytes at a time.
_MOST_CHUNKS = 1000
# A float file 40 dB above full scale holds integers by mistake; clipping it would turn it into a square wave.
_LARGEST_PEAK = 100.0


@dataclass(frozen=True)
class _Layout:
    """Where the samples lie in a file, and how they are stored."""

    header: SoundHeader
    dtype: str
    offset: int


def check_sound(path: Path) -> SoundHeader:
    """Return the header of a wav file after checking that it is whole and of an accepted kind.

    Integer files are judged by their chunks alone; float files are decoded, since they may hold NaN.
    Raises `AudioError` for a file that is missing, empty, not RIFF/WAVE, broken, truncated, without samples, of another
    sample format, with more than two channels, at an unlikely rate, or with values that are not finite.
    """
    layout = _read_layout(path)
    if layout.dtype != "<i2":
        _read_stored(path, layout)
    return layout.header


def read_samples(path: Path) -> tuple[NDArray[np.float64], int]:
    """Return the samples, float64 [S, channels] in [-1, 1) on the 16-bit grid, and the sample rate in Hz.

    Raises `AudioError` as `check_sound` does.
    """
    layout = _read_layout(path)
    samples = _read_stored(path, layout).astype(np.float64)
    if layout.dtype != "<i2":
        samples = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return samples / FULL_SCALE, layout.header.sample_rate


def read_waveform(path: Path, sample_rate: int, num_samples: int) -> NDArray[np.float32]:
    """Return a recording as a model that listens to waveforms gets it: float32 [num_samples], mono, at `sample_rate` Hz.

    The channels' mean, resampled (`avsrobust.audio.resample`), then cut or extended (`fit_length`).
    Raises `AudioError` as `check_sound` does.
    """
    from avsrobust.audio.resample import resample

    samples, source_rate = read_samples(path)
    waveform = resample(samples.mean(axis=1), source_rate, sample_rate)
    if waveform.size == 0:
        raise AudioError(
            f"{path}: found {len(samples)} samples at {source_rate} Hz, which is less than one at {sample_rate} Hz; "
            f"expected a recording; {_REPLACE}"
        )
    return fit_length(waveform, sample_rate, num_samples).astype(np.float32)


def fit_length(waveform: NDArray[np.float64], sample_rate: int, num_samples: int) -> NDArray[np.float64]:
    """Cut a waveform [S] to `num_samples`, or extend it by repeating its last second (all of it where it is shorter).

    The rule is the same under every condition. It is the waveform's counterpart of AVSBench's rule for log-mels, which
    repeats the last example (preprocess_s4.py `extract_one_log_mel`).
    """
    missing = num_samples - waveform.size
    if missing <= 0:
        return waveform[:num_samples]
    return np.concatenate([waveform, np.resize(waveform[-sample_rate:], missing)])


def write_wav(path: Path, samples: NDArray[np.int16], sample_rate: int) -> None:
    """Write int16 samples [S] as a mono 16-bit PCM wav at `sample_rate` Hz; the same input gives the same bytes.

    Raises `AudioError` for any other dtype or shape: bytes of another dtype would be read back as another sound.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise AudioError(
            f"{path}: found samples of dtype {samples.dtype} and shape {samples.shape}; expected int16 [S]; "
            "scale, round and cast them first"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as stream, wave.open(stream, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(samples.astype("<i2").tobytes())


def _read_layout(path: Path) -> _Layout:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            return _parse(path, stream, size)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: found no file; expected a wav file; {_REPLACE}") from error
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror or error}); expected a wav file; check the path and its permissions"
        ) from error


def _parse(path: Path, stream: BinaryIO, size: int) -> _Layout:
    if size == 0:
        raise AudioError(f"{path}: found an empty file (0 bytes); expected a wav file; {_REPLACE}")
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        raise AudioError(f"{path}: found a file that is not RIFF/WAVE; expected {_ACCEPTED}; {_REENCODE}")
    chunks = _find_chunks(stream, size)
    if b"fmt " not in chunks or b"data" not in chunks:
        missing = "format" if b"fmt " not in chunks else "data"
        raise AudioError(f"{path}: found a wav file without a {missing} chunk; expected a whole file; {_REPLACE}")
    offset, declared = chunks[b"data"]
    present = size - offset
    if declared == _UNTIL_END_OF_FILE:
        declared = present
    if declared > present:
        raise AudioError(
            f"{path}: found {present} bytes of samples where its header declares {declared} (truncated); "
            f"expected a whole file; {_REPLACE}"
        )
    stream.seek(chunks[b"fmt "][0])
    return _describe(path, stream.read(min(chunks[b"fmt "][1], _FORMAT_BYTES)), declared, offset)


def _find_chunks(stream: BinaryIO, size: int) -> dict[bytes, tuple[int, int]]:
    """Return offset and declared size of the chunks up to the one that completes format and data."""
    chunks: dict[bytes, tuple[int, int]] = {}
    position = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        name, length = head[:4], int.from_bytes(head[4:], "little")
        chunks.setdefault(name, (position + 8, length))
        if b"fmt " in chunks and b"data" in chunks:
            break
        # Chunks start at even offsets; the padding byte is not counted in the length.
        position += 8 + length + length % 2
        if position >= size:
            break
    return chunks


def _describe(path: Path, chunk: bytes, num_bytes: int, offset: int) -> _Layout:
    """Judge the format chunk and the number of samples."""
    if len(chunk) < 16:
        raise AudioError(f"{path}: found a format chunk of {len(chunk)} bytes; expected at least 16; {_REENCODE}")
    code, channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunk[:16])
    if code == _EXTENSIBLE and len(chunk) >= 26:
        # The first two bytes of the sub-format's GUID are the plain format code.
        code = int.from_bytes(chunk[24:26], "little")
    if (code, bits) not in _DTYPES:
        kind = _FORMAT_NAMES.get(code, f"format code {code:#x}")
        raise AudioError(f"{path}: found {bits}-bit {kind}; expected {_ACCEPTED}; {_REENCODE}")
    if channels not in (1, 2):
        raise AudioError(
            f"{path}: found {channels} channels; expected 1 or 2; {_REENCODE.replace('-c:a', '-ac 2 -c:a')}"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{path}: found a sample rate of {rate} Hz; expected {LOWEST_RATE}..{HIGHEST_RATE} Hz; "
            f"{_REENCODE.replace('-c:a', '-ar 44100 -c:a')}"
        )
    if block != channels * bits // 8 or num_bytes % block:
        raise AudioError(
            f"{path}: found {num_bytes} bytes of samples in blocks of {block}; "
            f"expected whole blocks of {channels * bits // 8}; {_REPLACE}"
        )
    if num_bytes == 0:
        raise AudioError(f"{path}: found 0 samples; expected a recording; {_REPLACE}")
    dtype = _DTYPES[code, bits]
    return _Layout(SoundHeader(rate, num_bytes // block, channels, _SUBTYPES[dtype]), dtype, offset)


def _read_stored(path: Path, layout: _Layout) -> NDArray[np.int16 | np.float32 | np.float64]:
    """Return the samples as stored, [S, channels]; refuse floats that are no sound."""
    header = layout.header
    try:
        stored = np.fromfile(path, layout.dtype, header.num_samples * header.channels, offset=layout.offset)
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror or error}); expected a wav file; check the disk"
        ) from error
    if layout.dtype != "<i2":
        peak = float(np.abs(stored).max())
        if not np.isfinite(peak):
            raise AudioError(f"{path}: found NaN or infinite samples; expected finite values in [-1, 1]; {_REPLACE}")
        if peak > _LARGEST_PEAK:
            raise AudioError(
                f"{path}: found float samples up to {peak:g} (integers stored as floats?); "
                f"expected values in [-1, 1]; divide them by their full scale"
            )
    return stored.reshape(header.num_samples, header.channels)
