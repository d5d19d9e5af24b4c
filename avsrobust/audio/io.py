"""Sounds of data sets and builds on disk: accepted formats, reading samples and waveforms, writing 16-bit wavs.

Conventions
    Accepted are RIFF/WAVE files with 16-bit PCM or 32/64-bit float samples, mono or stereo, 4000..384000 Hz: all
    front ends and all models' own loaders read these alike. Anything else is an `AudioError`, one line that starts with the path.
    Samples are float64 [S, channels], on the grid of 16-bit PCM: int16 / 32768, as VGGish's front end reads them
    (AVSBench, torchvggish/vggish_input.py `wavfile_to_examples`). Float files are put on the same grid: round(x * 32768),
    clipped to -32768..32767.
    A data chunk that declares more bytes than the file holds is a truncated file. libsndfile reads it without an error, so
    the chunks are read here. The exception is a size that a program makes up when it writes into a pipe and cannot know it:
    near 2^32 (ffmpeg), near 2^31 (sox, arecord, espeak), or 0 with samples behind it (gstreamer). It means "to the end of the
    file", and an incomplete block there is dropped: such a file is accepted and its header is marked `streamed`, since
    nothing in it can tell whether it is whole.
    Only regular files are opened, and no more than `limits.SOUND_BYTES` of samples are read.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from avsrobust.clips import SoundHeader
from avsrobust.errors import AudioError
from avsrobust.files import open_regular, write_bytes
from avsrobust.limits import SOUND_BYTES

FULL_SCALE = 32768
LOWEST_RATE, HIGHEST_RATE = 4000, 384000

_ACCEPTED = "16-bit PCM or 32/64-bit float, mono or stereo"
_REENCODE = "re-encode it, for example: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
_REPLACE = "copy or extract it again"
# Made-up sizes: ffmpeg 0xFFFFFFFF, others that less the header's 36 or 44 bytes; sox 0x7FFFF000, arecord 0x80000000, others
# 0x7FFFFFFF, with or without their header, or cut to whole blocks. So: what is this close below or about a power of two.
_MADE_UP_NEAR = (1 << 31, 1 << 32)
_MADE_UP_WITHIN = 1 << 13
# Bytes of a file that are no samples: cover pictures and the like.
_MOST_AROUND = 1 << 20
_EXTENSIBLE = 0xFFFE
_FORMAT_BYTES = 40
_FORMAT_NAMES = {1: "PCM", 2: "ADPCM", 3: "float", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}
_DTYPES = {(1, 16): "<i2", (3, 32): "<f4", (3, 64): "<f8"}
_SUBTYPES = {"<i2": "PCM_16", "<f4": "FLOAT", "<f8": "DOUBLE"}
# Seconds behind the last sample that is wanted: resampling reaches less far, and a file of minutes need not be decoded.
_MARGIN_S = 60
# Chunks before the samples; real files have a handful. Keeps a hostile file from being walked 8 bytes at a time.
_MOST_CHUNKS = 1000
# A float file 40 dB above full scale holds integers by mistake; clipping it would turn it into a square wave.
LARGEST_PEAK = 100.0


@dataclass(frozen=True)
class _Layout:
    """Position of the samples in a file (offset in bytes), and their dtype."""

    header: SoundHeader
    dtype: str
    offset: int


def check_sound(path: Path) -> SoundHeader:
    """Return the header of a wav file after checking that it is whole and of an accepted kind.

    Integer files are judged by their chunks alone; float files are decoded, since they may hold NaN.

    Args:
        path: The wav file.

    Returns:
        Rate in Hz, samples per channel, channels, sample format, and whether the size is made up (see the conventions).

    Raises:
        AudioError: The file is missing, empty, no regular file, not RIFF/WAVE, broken, truncated, without samples, too large,
            of another sample format, with more than two channels, at an unlikely rate, or with values that are not finite.
    """
    with _open(path) as (stream, size):
        layout = _parse(path, stream, size)
        if layout.dtype != "<i2":
            _read_stored(path, stream, layout)
    return layout.header


def read_samples(path: Path, longest_s: float | None = None) -> tuple[NDArray[np.float64], int]:
    """Read the samples of a wav file on the 16-bit grid.

    Args:
        path: The wav file.
        longest_s: Read no more than the first so many seconds.

    Returns:
        Samples, float64 [S, channels] in [-1, 1), and the sample rate in Hz.

    Raises:
        AudioError: As for `check_sound`.
    """
    stored, sample_rate = read_stored(path, longest_s)
    samples = stored.astype(np.float64)
    if stored.dtype != np.int16:
        samples = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    samples /= FULL_SCALE
    return samples, sample_rate


def read_stored(path: Path, longest_s: float | None = None) -> tuple[NDArray[np.int16 | np.float32 | np.float64], int]:
    """Read the samples of a wav file as they are stored.

    Args:
        path: The wav file.
        longest_s: Read no more than the first so many seconds.

    Returns:
        Samples, int16, float32 or float64 [S, channels], and the sample rate in Hz.

    Raises:
        AudioError: As for `check_sound`.
    """
    with _open(path) as (stream, size):
        layout = _parse(path, stream, size)
        return _read_stored(path, stream, layout, longest_s), layout.header.sample_rate


def read_content(path: Path) -> bytes:
    """Return the bytes of a wav file, for `stored_sound`.

    Raises:
        AudioError: The file is missing, no regular file, or larger than the most samples with a megabyte around them.
    """
    with _open(path) as (stream, size):
        SOUND_BYTES.check(max(0, size - _MOST_AROUND), path, AudioError)
        return stream.read(size)


def stored_sound(path: Path, content: bytes) -> tuple[SoundHeader, NDArray[np.int16 | np.float32 | np.float64]]:
    """Decode a wav file whose bytes were read already.

    Args:
        path: Names the file in messages.
        content: Its bytes (`read_content`).

    Returns:
        Header, and samples as those of `read_stored`.

    Raises:
        AudioError: As for `check_sound`.
    """
    stream = io.BytesIO(content)
    layout = _parse(path, stream, len(content))
    return layout.header, _read_stored(path, stream, layout)


def read_waveform(
    path: Path | str, sample_rate: int, num_samples: int, *, resampler: str = "resampy", mono: bool = True
) -> NDArray[np.float32]:
    """Read a wav file as the input of a model on waveforms.

    The channels' mean, resampled (`avsrobust.audio.resample`), then cut or extended (`fit_length`).

    Args:
        path: The wav file.
        sample_rate: Rate of the result in Hz.
        num_samples: Length of the result.
        resampler: As for `to_waveform`.
        mono: As for `to_waveform`.

    Returns:
        Float32 [num_samples], mono; or [2, num_samples].

    Raises:
        AudioError: As for `check_sound`; or the sound is shorter than one sample at `sample_rate`.
    """
    samples, source_rate = read_samples(Path(path), longest_s=num_samples / sample_rate + _MARGIN_S)
    return to_waveform(samples, source_rate, sample_rate, num_samples, of=str(path), resampler=resampler, mono=mono)


def to_waveform(
    samples: NDArray[np.float64],
    source_rate: int,
    sample_rate: int,
    num_samples: int,
    *,
    of: str,
    resampler: str = "resampy",
    mono: bool = True,
) -> NDArray[np.float32]:
    """Return samples as the input of a model on waveforms, as `read_waveform` does with those of a file.

    Args:
        samples: Float64 [S] or [S, channels].
        source_rate: Their rate in Hz.
        sample_rate: Rate of the result in Hz.
        num_samples: Length of the result.
        of: Name of the sound, for messages.
        resampler: "resampy" or "soxr" (`audio.resample`), or "torchaudio" (`audio.resample_hann`).
        mono: Return the mean of the channels; otherwise both channels, a mono sound twice.

    Raises:
        AudioError: The sound is shorter than one sample at `sample_rate`.
    """
    from avsrobust.audio.resample import resample
    from avsrobust.audio.resample_hann import resample_hann

    def resampled(channel: NDArray[np.float64]) -> NDArray[np.float32]:
        if resampler == "torchaudio":
            waveform = resample_hann(channel, source_rate, sample_rate)
        else:
            waveform = resample(channel, source_rate, sample_rate, resampler)
        if waveform.size == 0:
            raise AudioError(
                f"{of}: found {len(samples)} samples at {source_rate} Hz, which is less than one at {sample_rate} Hz; "
                f"expected a recording; {_REPLACE}"
            )
        return fit_length(waveform, sample_rate, num_samples).astype(np.float32)

    if mono:
        return resampled(samples.mean(axis=1) if samples.ndim == 2 else samples)
    channels = samples[:, None] if samples.ndim == 1 else samples
    # Files have one channel or two (`check_sound`).
    return np.stack([resampled(channels[:, side]) for side in (0, channels.shape[1] - 1)])


def fit_length(waveform: NDArray[np.float64], sample_rate: int, num_samples: int) -> NDArray[np.float64]:
    """Cut a waveform [S] to `num_samples`, or extend it by repeating its last second (all of it where it is shorter).

    The rule is the same under every condition. It is the waveform's counterpart of AVSBench's rule for log-mels, which
    repeats the last example (preprocess_s4.py `extract_one_log_mel`).

    >>> fit_length(np.array([1.0, 2.0, 3.0]), sample_rate=2, num_samples=6)
    array([1., 2., 3., 2., 3., 2.])
    """
    missing = num_samples - waveform.size
    if missing <= 0:
        return waveform[:num_samples]
    return np.concatenate([waveform, np.resize(waveform[-sample_rate:], missing)])


def write_wav(path: Path, samples: NDArray[np.int16], sample_rate: int, *, flush: bool = True) -> None:
    """Write a mono 16-bit PCM wav atomically.

    Args:
        path: The file; parent folders are made.
        samples: Int16 [S].
        sample_rate: In Hz.
        flush: Flush file and folder to disk at once (`avsrobust.files.atomic_path`).

    Raises:
        AudioError: The samples have another dtype or shape.
        OptionError: The folder cannot be written.
    """
    write_bytes(path, wav_bytes(path, samples, sample_rate), flush=flush)


def wav_bytes(path: Path, samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """Return the bytes of a mono 16-bit PCM wav; the same input gives the same bytes.

    Args:
        path: Names the file in messages.
        samples: Int16 [S].
        sample_rate: In Hz.

    Raises:
        AudioError: The samples have another dtype or shape: bytes of another dtype would be read back as another sound.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise AudioError(
            f"{path}: found samples of dtype {samples.dtype} and shape {samples.shape}; expected int16 [S]; "
            "scale, round and cast them first"
        )
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, subtype="PCM_16", format="WAV")
    return stream.getvalue()


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the opened file and its size in bytes; turn errors of the operating system into an `AudioError`."""
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            yield stream, size
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
    is_streamed = _is_streamed(stream, size, offset, declared)
    present = size - offset
    if is_streamed:
        declared = present
    if declared > present:
        raise _truncated(path, present, declared)
    SOUND_BYTES.check(declared, path, AudioError)
    stream.seek(chunks[b"fmt "][0])
    return _describe(path, stream.read(min(chunks[b"fmt "][1], _FORMAT_BYTES)), declared, offset, is_streamed)


def check_whole(path: Path) -> None:
    """Check that a RIFF/WAVE file of any sample format holds as many bytes of samples as its header declares.

    Decoders read a truncated file without a word. Files of other containers pass, and so do those whose chunks cannot be
    found: their decoder judges them.

    Args:
        path: A regular file.

    Raises:
        AudioError: The file cannot be opened or is truncated.
    """
    with _open(path) as (stream, size):
        head = stream.read(12)
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return
        chunks = _find_chunks(stream, size)
        if b"fmt " not in chunks or b"data" not in chunks:
            return
        offset, declared = chunks[b"data"]
        if declared > size - offset and not _is_streamed(stream, size, offset, declared):
            raise _truncated(path, size - offset, declared)


def _truncated(path: Path, present: int, declared: int) -> AudioError:
    """Return the error of a file that ends before its samples do."""
    return AudioError(
        f"{path}: found {present} bytes of samples where its header declares {declared} (truncated); "
        f"expected a whole file; {_REPLACE}"
    )


def _is_streamed(stream: BinaryIO, size: int, offset: int, declared: int) -> bool:
    """Tell whether the size of the data chunk is made up by a program that wrote into a pipe."""
    return _is_made_up(declared, size - offset) or (declared == 0 and not _is_chunks(stream, offset, size))


def _is_made_up(declared: int, present: int) -> bool:
    """Tell whether a data chunk's size is one that a program makes up that cannot know it, rather than a number of bytes."""
    near = any(abs(declared - value) <= _MADE_UP_WITHIN for value in _MADE_UP_NEAR)
    return near and declared != present


def _is_chunks(stream: BinaryIO, position: int, size: int) -> bool:
    """Tell whether nothing but whole chunks (such as LIST) lies from `position` to the end: then 0 samples are meant."""
    for _ in range(_MOST_CHUNKS):
        if position >= size:
            return True
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
            return False
        length = int.from_bytes(head[4:], "little")
        position += 8 + length
        if position > size:
            return False
        position += length % 2
    return False


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


def _describe(path: Path, chunk: bytes, num_bytes: int, offset: int, is_streamed: bool) -> _Layout:
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
    if is_streamed and block == channels * bits // 8:
        num_bytes -= num_bytes % block
    if block != channels * bits // 8 or num_bytes % block:
        raise AudioError(
            f"{path}: found {num_bytes} bytes of samples in blocks of {block}; "
            f"expected whole blocks of {channels * bits // 8}; {_REPLACE}"
        )
    if num_bytes == 0:
        raise AudioError(f"{path}: found 0 samples; expected a recording; {_REPLACE}")
    dtype = _DTYPES[code, bits]
    header = SoundHeader(rate, num_bytes // block, channels, _SUBTYPES[dtype], is_streamed)
    return _Layout(header, dtype, offset)


def _read_stored(
    path: Path, stream: BinaryIO, layout: _Layout, longest_s: float | None = None
) -> NDArray[np.int16 | np.float32 | np.float64]:
    """Return the samples as stored, [S, channels], no more than the first `longest_s`; refuse floats that are no sound."""
    header = layout.header
    num_samples = header.num_samples
    if longest_s is not None:
        num_samples = min(num_samples, math.ceil(longest_s * header.sample_rate))
    stream.seek(layout.offset)
    content = stream.read(num_samples * header.channels * np.dtype(layout.dtype).itemsize)
    stored = np.frombuffer(content, layout.dtype)
    if stored.size < num_samples * header.channels:
        raise AudioError(f"{path}: became shorter while it was read; expected a wav file; {_REPLACE}")
    if layout.dtype != "<i2":
        peak = float(np.abs(stored).max(initial=0.0))
        if not np.isfinite(peak):
            raise AudioError(f"{path}: found NaN or infinite samples; expected finite values in [-1, 1]; {_REPLACE}")
        if peak > LARGEST_PEAK:
            raise AudioError(
                f"{path}: found float samples up to {peak:g} (integers stored as floats?); "
                f"expected values in [-1, 1]; divide them by their full scale"
            )
    return stored.reshape(num_samples, header.channels)
