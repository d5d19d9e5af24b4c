"""From probabilities to histograms over the thresholds of the F-measure, in one pass over the pixels.

Conventions
    Thresholds t_0 = 0 < t_1 < ... < t_{n-1} = 1 are float32, those of ``torch.linspace(0, 1 - 1e-10, n)``, which every
    AVSBench descendant uses (AVSBench-Robust, AVSegFormer/scripts/s4/utility.py, `_eval_pr`); in float32 1 - 1e-10 is 1.
    A pixel of probability p belongs to bin i where t_i <= p < t_{i+1}, compared in float32, without any tolerance.
    Counting from the last bin down gives the pixels with ``p >= t_i``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError
from avsrobust.metrics.inputs import Mask, Probabilities

NUM_THRESHOLDS = 255
MAX_THRESHOLDS = 65535

Counts = npt.NDArray[np.int64]
Indices = npt.NDArray[np.unsignedinteger]

# Eight times float32's relative rounding error: more than the errors of a threshold, of the product below and of the
# scale together, and far less than one bin.
UPWARD = 1 + 2.0**-21

# Neighbouring pixels mostly share a bin, and one counter cannot be raised twice in a row without waiting for memory:
# four interleaved sets of counters halve the time on smooth maps.
_LANES = 4


@lru_cache(maxsize=16)
def thresholds(num: int = NUM_THRESHOLDS) -> Probabilities:
    """Return the float32 thresholds [num], bit for bit those of ``torch.linspace(0, 1 - 1e-10, num)`` on a CPU.

    torch multiplies a float32 step from both ends towards the middle, with one rounding per value; float64 holds the
    products exactly, so the conversion is that one rounding. numpy's linspace differs in the last bit of some.

    Args:
        num: Number of thresholds, 2 to 65535.

    Returns:
        float32 [num], rising from 0 to 1; read-only.

    Raises:
        MetricInputError: `num` is outside this range.

    >>> float(thresholds()[127]), float(thresholds()[254])
    (0.5, 1.0)
    """
    if not 2 <= num <= MAX_THRESHOLDS:
        raise MetricInputError(f"num_thresholds: found {num}; expected 2 to {MAX_THRESHOLDS}; the papers use 255")
    step = np.float64(np.float32(1) / np.float32(num - 1))
    index = np.arange(num)
    table = np.where(index < num // 2, step * index, 1 - step * (num - 1 - index)).astype(np.float32)
    table.flags.writeable = False
    return table


def bin_index(pred: Probabilities, table: Probabilities) -> Indices:
    """Return for every probability the index i of its bin, table[i] <= p < table[i + 1].

    Args:
        pred: Probabilities in [0, 1], float32 of any shape.
        table: A result of `thresholds`.

    Returns:
        uint8 or uint16 of the same shape.

    >>> bin_index(np.array([0.0, 0.5, 1.0], dtype=np.float32), thresholds()).tolist()
    [0, 127, 254]
    """
    last = len(table) - 1
    # The product errs upwards only, by less than one bin: a single comparison with the table makes the index exact.
    index: Indices = (pred * np.float32(last * UPWARD)).astype(np.uint8 if last < 256 else np.uint16)
    index -= pred < table.take(index, mode="clip")
    return index


def histograms(pred: Probabilities, target: Mask, table: Probabilities) -> tuple[Counts, Counts]:
    """Return how many pixels inside and outside the target fall in each bin.

    Args:
        pred: Probabilities in [0, 1], float32 [N, H, W].
        target: bool [N, H, W].
        table: A result of `thresholds`.

    Returns:
        The counts inside the target and those outside it, each int64 [N, len(table)].
    """
    # Frame by frame, since a frame fits the cache.
    num = len(table)
    size = _LANES * 2 * num
    key_type = np.uint16 if size <= 1 << 16 else np.uint32
    lane = (np.arange(pred.shape[2]) % _LANES * (2 * num)).astype(key_type)
    counts = np.empty((len(pred), 2, num), dtype=np.int64)
    for frame in range(len(pred)):
        key = target[frame].astype(key_type)
        key *= key_type(num)
        key += lane
        key += bin_index(pred[frame], table)
        np.bincount(key.ravel(), minlength=size).reshape(_LANES, 2, num).sum(axis=0, out=counts[frame])
    return counts[:, 1], counts[:, 0]


def at_least(histogram: Counts) -> Counts:
    """Return the number of pixels with ``p >= t_i``, int64 [..., n], of a histogram [..., n].

    >>> import numpy as np
    >>> at_least(np.array([5, 0, 2])).tolist()
    [7, 2, 2]
    """
    return np.cumsum(histogram[..., ::-1], axis=-1, dtype=np.int64)[..., ::-1]
