"""Front ends: the log-mel inputs of VGGish and of AVSBench-Robust's generator.

Conventions
    A log-mel is float32 [T, 1, 96, 64]: T examples of 96 time steps and 64 mel bands, the input of VGGish's network.
    One example stands for one frame of the clip (one second), although VGGish's examples are 0.96 s long: AVSBench feeds
    example t with frame t all the same (avs_s4/dataloader.py).
    Recipes name these functions by `avsrobust.audio.front_ends.FRONT_ENDS`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.blas import one_blas_thread
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.audio.io import FULL_SCALE, read_stored
from avsrobust.audio.resample import resample, to_mono

# torchvggish/vggish_params.py.
VGGISH_RATE = 16000
_WINDOW, _HOP, _FFT = 400, 160, 512
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7500.0
_LOG_OFFSET = 0.01
_EXAMPLE = _WINDOW + (STEPS - 1) * _HOP

# AVSBench-Robust, dataset_generation/audio_processing.py `extract_log_mel_features`; the rate is librosa.load's default.
_ROBUST_RATE, _ROBUST_FFT, _ROBUST_HOP = 22050, 1024, 512


def vggish_log_mel(
    samples: NDArray[np.float64], sample_rate: int, num_frames: int | None = None
) -> NDArray[np.float32]:
    """Return VGGish's log-mel of a sound: natural log of magnitude + 0.01.

    The channels' mean at 16 kHz, windows of 25 ms
    every 10 ms (periodic Hann), 512-point spectrum, 64 HTK mel bands between 125 and 7500 Hz, examples of 0.96 s without
    overlap; an incomplete one is dropped (torchvggish/vggish_input.py `waveform_to_examples`).
    A sound too short for one example (0.975 s) gets zeros behind it up to that length; the reference returns no example
    there, and then fails.

    Args:
        samples: Float64 [S] or [S, channels] in [-1, 1).
        sample_rate: In Hz.
        num_frames: Cut to so many examples, or extend with copies of the last one, as AVSBench does with clips that end early
            (preprocess_s4.py `extract_one_log_mel`); None: as many as there are.

    Returns:
        Float32 [T, 1, 96, 64].

    >>> vggish_log_mel(np.zeros(16000 * 5), 16000, num_frames=5).shape
    (5, 1, 96, 64)
    """
    wave = resample(to_mono(samples), sample_rate, VGGISH_RATE)
    if wave.size < _EXAMPLE:
        wave = np.concatenate([wave, np.zeros(_EXAMPLE - wave.size)])
    num_examples = ((wave.size - _WINDOW) // _HOP + 1) // STEPS
    if num_frames is not None:
        num_examples = min(num_examples, num_frames)
    sliding = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::_HOP]
    examples = np.empty((num_examples, 1, STEPS, BANDS), np.float32)
    # One example at a time, in one buffer: it stays in the processor's cache.
    windows = np.zeros((STEPS, _FFT))
    with one_blas_thread():
        for number in range(num_examples):
            np.multiply(sliding[number * STEPS : (number + 1) * STEPS], _hann(), out=windows[:, :_WINDOW])
            magnitudes = np.abs(np.fft.rfft(windows))
            examples[number, 0] = np.log(magnitudes @ _mel_bands() + _LOG_OFFSET)
    return examples if num_frames is None else _extend(examples, num_frames)


def librosa_log_mel(path: Path, num_frames: int = 5) -> NDArray[np.float32]:
    """Return AVSBench-Robust's log-mel of a wav file.

    The first `num_frames` seconds at 22050 Hz (librosa.load), zeros behind a shorter sound, cut into `num_frames` equal parts;
    of each the mel power spectrogram in dB, standardised where it is not constant, zeros behind its 44 time steps
    (dataset_generation/audio_processing.py `extract_log_mel_features`, which does so for 5 frames).

    Args:
        path: The wav file.
        num_frames: Number of seconds and of examples.

    Returns:
        Float32 [num_frames, 1, 96, 64].

    Raises:
        AudioError: As for `avsrobust.audio.io.check_sound`.
    """
    # librosa.load, but for the reading: libsndfile takes other sizes than ours for made up.
    stored, sample_rate = read_stored(path, longest_s=num_frames)
    scale = np.float32(FULL_SCALE if stored.dtype == np.int16 else 1)
    return librosa_log_mel_of_samples(stored.astype(np.float32) / scale, sample_rate, num_frames)


def librosa_log_mel_of_samples(
    samples: NDArray[np.floating[Any]], sample_rate: int, num_frames: int
) -> NDArray[np.float32]:
    """Return AVSBench-Robust's log-mel of a sound, float32 [num_frames, 1, 96, 64]; see `librosa_log_mel`.

    `samples`: float64 [S] or [S, channels] on the 16-bit grid; no more than `num_frames` seconds count.
    """
    import librosa

    samples = samples[: num_frames * sample_rate].astype(np.float32)
    wave = librosa.resample(librosa.to_mono(samples.T), orig_sr=sample_rate, target_sr=_ROBUST_RATE)
    wave = np.pad(wave, (0, max(0, num_frames * _ROBUST_RATE - wave.size)))
    with one_blas_thread():
        parts = [_robust_part(part) for part in np.array_split(wave, num_frames)]
    return np.stack(parts)[:, None]


def _robust_part(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-mel [96, 64] of one second."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=wave, sr=_ROBUST_RATE, n_mels=BANDS, n_fft=_ROBUST_FFT, hop_length=_ROBUST_HOP
    )
    log_mel: NDArray[np.float32] = librosa.power_to_db(power).T[:STEPS]
    if log_mel.std() > 0:
        log_mel = (log_mel - log_mel.mean()) / log_mel.std()
    return np.pad(log_mel, ((0, STEPS - len(log_mel)), (0, 0)))


def _extend(examples: NDArray[np.float32], num_frames: int) -> NDArray[np.float32]:
    """Append copies of the last example up to `num_frames`."""
    copies = np.repeat(examples[-1:], num_frames - len(examples), axis=0)
    return np.concatenate([examples, copies])


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float64]:
    """Return the periodic Hann window (mel_features.py `periodic_hann`)."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    return window


@lru_cache(maxsize=1)
def _mel_bands() -> NDArray[np.float64]:
    """Return the weights [257, 64] of the triangular HTK mel bands (mel_features.py `spectrogram_to_mel_matrix`)."""
    bins = _mel(np.linspace(0.0, VGGISH_RATE / 2, _FFT // 2 + 1))[:, None]
    lowest, highest = _mel(np.array([_LOWEST_HZ, _HIGHEST_HZ]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bands: NDArray[np.float64] = np.maximum(
        0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    )
    return bands


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    mel: NDArray[np.float64] = 1127.0 * np.log1p(hertz / 700.0)
    return mel
