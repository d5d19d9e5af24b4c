"""Sounds of data sets and builds on disk: reading samples and waveforms, writing 16-bit wavs.

Conventions
    Accepted files are those of `avsrobust.audio.wav_chunks`, which finds the samples in them; any other is an `AudioError`, one
    line that starts with the path.
    Samples are float64 [S, channels], on the grid of 16-bit PCM: int16 / 32768, as VGGish's front end reads them
    (AVSBench, torchvggish/vggish_input.py `wavfile_to_examples`). Float files are put on the same grid: round(x * 32768),
    clipped to -32768..32767.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.wav_chunks import REPLACE, WavLayout, find_samples, open_sound
from avsrobust.clips import SoundHeader
from avsrobust.errors import AudioError
from avsrobust.files import write_bytes
from avsrobust.limits import SOUND_BYTES

FULL_SCALE = 32768

# Bytes of a file that are no samples: cover pictures and the like.
_MOST_AROUND = 1 << 20
# Seconds behind the last sample that is wanted: resampling reaches less far, and a file of minutes need not be decoded.
_MARGIN_S = 60
# A float file 40 dB above full scale holds integers by mistake; clipping it would turn it into a square wave.
LARGEST_PEAK = 100.0


def check_sound(path: Path) -> SoundHeader:
    """Return the header of a wav file after checking that it is whole and of an accepted kind.

    Integer files are judged by their chunks alone; float files are decoded, since they may hold NaN.

    Args:
        path: The wav file.

    Returns:
        Rate in Hz, samples per channel, channels, sample format, and whether the size is made up (`avsrobust.audio.wav_chunks`).

    Raises:
        AudioError: The file is missing, empty, no regular file, not RIFF/WAVE, broken, truncated, without samples, too large,
            of another sample format, with more than two channels, at an unlikely rate, or with values that are not finite.
    """
    with open_sound(path) as (stream, size):
        layout = find_samples(path, stream, size)
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
    with open_sound(path) as (stream, size):
        layout = find_samples(path, stream, size)
        return _read_stored(path, stream, layout, longest_s), layout.header.sample_rate


def read_content(path: Path) -> bytes:
    """Return the bytes of a wav file, for `stored_sound`.

    Raises:
        AudioError: The file is missing, no regular file, or larger than the most samples with a megabyte around them.
    """
    with open_sound(path) as (stream, size):
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
    layout = find_samples(path, stream, len(content))
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
    from avsrobust.audio.resample import resample, to_mono
    from avsrobust.audio.resample_hann import resample_hann

    def resampled(channel: NDArray[np.float64]) -> NDArray[np.float32]:
        if resampler == "torchaudio":
            waveform = resample_hann(channel, source_rate, sample_rate)
        else:
            waveform = resample(channel, source_rate, sample_rate, resampler)
        if waveform.size == 0:
            raise AudioError(
                f"{of}: found {len(samples)} samples at {source_rate} Hz, which is less than one at {sample_rate} Hz; "
                f"expected a recording; {REPLACE}"
            )
        return fit_length(waveform, sample_rate, num_samples).astype(np.float32)

    if mono:
        return resampled(to_mono(samples))
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


def _read_stored(
    path: Path, stream: BinaryIO, layout: WavLayout, longest_s: float | None = None
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
        raise AudioError(f"{path}: became shorter while it was read; expected a wav file; {REPLACE}")
    if layout.dtype != "<i2":
        peak = float(np.abs(stored).max(initial=0.0))
        if not np.isfinite(peak):
            raise AudioError(f"{path}: found NaN or infinite samples; expected finite values in [-1, 1]; {REPLACE}")
        if peak > LARGEST_PEAK:
            raise AudioError(
                f"{path}: found float samples up to {peak:g} (integers stored as floats?); "
                f"expected values in [-1, 1]; divide them by their full scale"
            )
    return stored.reshape(num_samples, header.channels)
