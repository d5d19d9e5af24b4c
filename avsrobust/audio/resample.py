"""Change of sampling rate: resampy's `kaiser_best` as a polyphase filter, or torchaudio's or soxr's resampler.

Conventions
    Waveforms are float64 [S] with finite values; rates are whole numbers of Hz.
    VGGish's front end resamples with resampy 0.4.3, filter `kaiser_best` (AVSBench, torchvggish/vggish_input.py). Published
    features hold that filter's properties, so it is kept to the last detail: the table and its linear interpolation, the
    step through the table cut to a whole number, the gain, zeros beyond both ends, the output's length.
    With source / target = a / b in lowest terms, output k lies at time k * a / b of the input: its weights depend on
    k mod b alone. So a block of a input samples (and the reach of the filter around it) times one matrix gives b outputs.
    44100 -> 16000: blocks of 441 samples, 160 outputs. Where the matrix would be large (rates without a common divisor),
    resampy itself is called: the same numbers, slower.
    That is the resampler "resampy", which all features and models here use. "torchaudio" and "soxr" are for those who compare
    with code that uses them: torchaudio's windowed sinc with the parameters that it documents as `kaiser_best`, and soxr's
    quality VHQ. They agree with it to about 1e-3 in the passband. Only "resampy" gives the same bits on any number of cores.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.blas import one_blas_thread
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.optional_packages import import_causes

FILTER = "kaiser_best"
RESAMPLERS = ("resampy", "torchaudio", "soxr")

_MOST_WEIGHTS = 1 << 20
# Beyond, numpy adds in another order.
_MOST_ADDED = 7
# Blocks of fewer outputs are put together, since matrix products of a few columns are slow; larger ones are taken apart,
# since most of a large matrix is zeros.
_FEWEST_OUTPUTS = 64
_PART_OUTPUTS = 32
# A stretch of the sound that stays in the processor's cache while all parts pass over it.
_CACHED_SAMPLES = 1 << 15


@dataclass(frozen=True, eq=False)
class _Part:
    """Neighbouring outputs of a block: weights [reach, outputs] of the samples from `start` on."""

    start: int
    weights: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Polyphase:
    """The filter of one ratio of rates, for blocks of `block` samples with `lead` samples before them.

    `parts` hold all outputs of a block in order. `below` holds those at a whole sample once more, for the case that the
    time register, which is a float in resampy, comes out a rounding error below it. (The table's step is cut to a whole
    number, which makes the response jump there, by about 1e-5.)
    """

    block: int
    lead: int
    parts: tuple[_Part, ...]
    below: tuple[_Part, ...]


def to_mono(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the channels' mean, [S], of samples [S] or [S, channels]: ``samples.mean(axis=1)``, to the bit.

    Sounds have one channel or two (`avsrobust.audio.wav_chunks`); numpy's mean of so few takes fifteen times as long.

    >>> to_mono(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [0.5, 0.5]
    """
    if samples.ndim == 1:
        return samples
    if samples.shape[1] > _MOST_ADDED:
        mean: NDArray[np.float64] = samples.mean(axis=1)
        return mean
    # Of negative zeros numpy's sum is zero.
    total = samples[:, 0] + 0.0
    for channel in range(1, samples.shape[1]):
        total += samples[:, channel]
    total /= samples.shape[1]
    return total


def resample(
    samples: NDArray[np.float64], source_rate: int, target_rate: int, resampler: str = "resampy"
) -> NDArray[np.float64]:
    """Resample a waveform.

    With the default resampler the result equals that of resampy's `kaiser_best` to 1e-9. One thing differs: where the output
    would have no sample, it is empty (resampy raises).

    Args:
        samples: Float64 [S].
        source_rate: Rate of `samples` in Hz.
        target_rate: Rate of the result in Hz.
        resampler: "resampy", "torchaudio" (needs the extra ``avsrobust[torchaudio]``) or "soxr".

    Returns:
        Float64 [int(S * target_rate / source_rate)], whatever the resampler; a copy where the rates are equal.

    Raises:
        OptionError: A rate is below 1 Hz, the resampler is unknown, or torchaudio cannot be imported.

    >>> resample(np.zeros(44100), 44100, 16000).shape
    (16000,)
    """
    if min(source_rate, target_rate) < 1:
        raise OptionError(
            f"sample rate: found {min(source_rate, target_rate)} Hz; expected at least 1 Hz; correct the rate"
        )
    if resampler not in RESAMPLERS:
        raise OptionError(
            f"resampler: found '{resampler}'; expected {', '.join(RESAMPLERS)}{did_you_mean(resampler, RESAMPLERS)}"
        )
    samples = np.asarray(samples, dtype=np.float64)
    if source_rate == target_rate:
        return samples.copy()
    # resampy's own expression, for the same rounding.
    num_outputs = int(samples.size * float(target_rate) / float(source_rate))
    if num_outputs == 0:
        return np.zeros(0)
    if resampler != "resampy":
        other = _by_torchaudio if resampler == "torchaudio" else _by_soxr
        resampled = other(samples, source_rate, target_rate)[:num_outputs]
        # Others round the length in another way, by one sample.
        return np.concatenate([resampled, np.zeros(num_outputs - resampled.size)])
    divisor = math.gcd(source_rate, target_rate)
    a, b = source_rate // divisor, target_rate // divisor
    if _reach(a / b) * b + _PART_OUTPUTS * a > _MOST_WEIGHTS:
        return _by_resampy(samples, source_rate, target_rate)
    bank = _polyphase(a, b)
    outputs = _filter(samples, bank, bank.parts, num_outputs)
    times = np.arange(0, num_outputs, b) * (1.0 / (float(target_rate) / source_rate))
    is_below = times.astype(np.int64) < np.arange(times.size) * a
    if is_below.any():
        outputs[::b] = np.where(is_below, _filter(samples, bank, bank.below, times.size), outputs[::b])
    return outputs


def _filter(
    samples: NDArray[np.float64], bank: _Polyphase, parts: tuple[_Part, ...], num_outputs: int
) -> NDArray[np.float64]:
    """Apply the parts to every block of the samples [S]; return the first `num_outputs` outputs."""
    outputs = sum(part.weights.shape[1] for part in parts)
    reach = max(part.start + len(part.weights) for part in parts)
    num_blocks = -(-num_outputs // outputs)
    together = max(1, _CACHED_SAMPLES // bank.block)
    filtered = np.empty((num_blocks, outputs))
    with one_blas_thread():
        for first in range(0, num_blocks, together):
            target = filtered[first : first + together]
            begin = first * bank.block - bank.lead
            stretch = _stretch(samples, begin, begin + len(target) * bank.block + reach)
            column = 0
            for part in parts:
                width = part.weights.shape[1]
                target[:, column : column + width] = _apply(stretch, part, len(target), bank.block)
                column += width
    return filtered.reshape(-1)[:num_outputs]


def _apply(stretch: NDArray[np.float64], part: _Part, num_blocks: int, block: int) -> NDArray[np.float64]:
    """Return the part's outputs [num_blocks, outputs] from a stretch of samples."""
    filtered = np.zeros((num_blocks, part.weights.shape[1]))
    # Rows that overlap cannot go to BLAS as they are. So the weights are applied in pieces of at most one block, each to all
    # blocks at once; no sample is copied twice.
    for row in range(0, len(part.weights), block):
        piece = part.weights[row : row + block]
        first = part.start + row
        rows = stretch[first : first + num_blocks * block].reshape(num_blocks, block)
        filtered += rows[:, : len(piece)] @ piece
    return filtered


def _stretch(samples: NDArray[np.float64], begin: int, end: int) -> NDArray[np.float64]:
    """Return ``samples[begin:end]`` with zeros where that is outside."""
    stretch = np.zeros(end - begin)
    inside = samples[max(begin, 0) : end]
    stretch[max(-begin, 0) : max(-begin, 0) + inside.size] = inside
    return stretch


@lru_cache(maxsize=16)
def _polyphase(a: int, b: int) -> _Polyphase:
    """Return the filter for a / b = source / target rate in lowest terms."""
    repeats = -(-_FEWEST_OUTPUTS // b)
    lead = _reach(a / b) // 2 + 1
    times = [divmod(output * a, b) for output in range(b * repeats)]
    parts = tuple(
        _part([(lead + whole, rest / b) for whole, rest in times[first : first + _PART_OUTPUTS]], b / a)
        for first in range(0, len(times), _PART_OUTPUTS)
    )
    just_below = _part([(lead + repeat * a - 1, np.nextafter(1.0, 0.0)) for repeat in range(repeats)], b / a)
    return _Polyphase(a * repeats, lead, parts, (just_below,))


def _part(times: list[tuple[int, float]], ratio: float) -> _Part:
    """Return the weights of outputs at the given (whole, fractional) times, for target / source = `ratio`."""
    side = _reach(1 / ratio) // 2
    start = times[0][0] - side
    weights = np.zeros((times[-1][0] + side + 1 - start, len(times)))
    for column, (whole, fraction) in zip(weights.T, times, strict=True):
        _place(column, whole - start, fraction, ratio)
    weights.flags.writeable = False
    return _Part(start, weights)


def _place(column: NDArray[np.float64], position: int, fraction: float, ratio: float) -> None:
    """Write the weights of an output `fraction` of a sample after row `position` into a column."""
    scale = min(1.0, ratio)
    left = _wing(scale * fraction, scale, ratio)
    column[position - left.size + 1 : position + 1] = left[::-1]
    right = _wing(scale - scale * fraction, scale, ratio)
    column[position + 1 : position + 1 + right.size] = right


def _wing(start: float, scale: float, ratio: float) -> NDArray[np.float64]:
    """Return one wing of the filter from `start` (in zero crossings) on, as resampy/interpn.py reads it from its table."""
    table, slope, num_table = _table()
    step = int(scale * num_table)
    offset = int(start * num_table)
    eta = start * num_table - offset
    count = (table.size - offset) // step
    at = offset + step * np.arange(count)
    return min(1.0, ratio) * (table[at] + eta * slope[at])


def _reach(rate_ratio: float) -> int:
    """Return how many input samples around a time have weights at most, for source / target = `rate_ratio`."""
    table, _, num_table = _table()
    return 2 * (table.size // int(min(1.0, 1 / rate_ratio) * num_table) + 2)


@lru_cache(maxsize=1)
def _table() -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return resampy's table of the filter's right wing, the table's differences, and its steps per zero crossing."""
    from resampy.filters import get_filter

    table, num_table, _ = get_filter(FILTER)
    return table, np.diff(table, append=table[-1]), num_table


def _by_resampy(samples: NDArray[np.float64], source_rate: int, target_rate: int) -> NDArray[np.float64]:
    import resampy

    resampled: NDArray[np.float64] = resampy.resample(samples, source_rate, target_rate, filter=FILTER)
    return resampled


def _by_torchaudio(samples: NDArray[np.float64], source_rate: int, target_rate: int) -> NDArray[np.float64]:
    try:
        import torch
        from torchaudio.functional import resample as torchaudio_resample
    # A torchaudio of another torch fails with an OSError.
    except (ImportError, OSError) as error:
        raise OptionError(f"resampler torchaudio: {torchaudio_remedy(error)}, or take another one") from error
    # torchaudio's tutorial on resampling: the parameters of resampy's kaiser_best.
    resampled: NDArray[np.float64] = torchaudio_resample(
        torch.from_numpy(np.ascontiguousarray(samples)),
        source_rate,
        target_rate,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    ).numpy()
    return resampled


def torchaudio_remedy(error: ImportError | OSError) -> str:
    """Return why torchaudio cannot be imported, and what to do, for the middle of a message."""
    causes = import_causes(error)
    if (
        isinstance(error, ModuleNotFoundError)
        and error.name
        and error.name.partition(".")[0] not in ("torch", "torchaudio")
    ):
        return f"is installed, but cannot be imported ({causes}); run 'pip install {error.name.partition('.')[0]}'"
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchaudio") is None:
        return (
            f"cannot be imported ({causes}); run 'pip install avsrobust[torchaudio]' (PyPI's torchaudio needs PyPI's torch, with "
            "CUDA)"
        )
    import torch

    reason = "is of another torch than the one here"
    if torch.version.cuda is None and any(f"lib{name}" in causes for name in ("c10_cuda", "torch_cuda", "cudart")):
        reason = "asks for CUDA libraries that the torch here lacks"
    return (
        f"is installed, but cannot be imported ({causes}): its compiled part {reason} ({torch.__version__}); install torch "
        "and torchaudio from one index, such as https://download.pytorch.org/whl/cpu"
    )


def _by_soxr(samples: NDArray[np.float64], source_rate: int, target_rate: int) -> NDArray[np.float64]:
    import soxr

    resampled: NDArray[np.float64] = soxr.resample(samples, source_rate, target_rate, quality="VHQ")
    return resampled
