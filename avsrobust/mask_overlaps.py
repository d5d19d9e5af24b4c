"""Overlaps of the masks of a clip's negatives with one another, as results store them.

Conventions
    For each frame under a negative condition a list of (other, intersection). `other` names another negative row of the same
    clip and picture that precedes it in the order of row keys; `intersection` is the number of pixels in both masks at 0.5. So
    each pair stands once. The union follows from the masks' own pixels (tp_050 + fp_050).
    Null: the frame is not under a negative condition, or the results are of an older evaluation, which stored none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

OVERLAPS_FIELD = pa.field(
    "negative_overlaps",
    pa.list_(pa.struct([pa.field("other", pa.string()), pa.field("intersection", pa.int64())])),
)
# The overlaps of one frame: names of other rows, and intersections; None where nothing is stored.
FrameOverlaps = list[tuple[str, int]] | None


def other_name(condition: str, level: float | None, draw: int = 0) -> str:
    """Return the name of a row of a clip.

    >>> other_name("silence", None), other_name("offscreen", -6.0, 2)
    ('silence', 'offscreen@-6.0#2')
    """
    at_level = "" if level is None or np.isnan(level) or np.isneginf(level) else f"@{np.float32(level)}"
    return f"{condition}{at_level}" + (f"#{draw}" if draw else "")


def overlaps_array(overlaps: Sequence[FrameOverlaps]) -> pa.ListArray:
    """Return the overlaps of N frames as an array of lists."""
    values = [
        None if frame is None else [{"other": name, "intersection": both} for name, both in frame] for frame in overlaps
    ]
    return pa.array(values, type=OVERLAPS_FIELD.type)


def concatenate_overlaps(parts: Sequence[tuple[int, pa.ListArray | None]]) -> pa.ListArray | None:
    """Return the overlaps of all parts, each its number of frames and its overlaps; None where none has any."""
    if all(overlaps is None for _, overlaps in parts):
        return None
    arrays = [pa.nulls(frames, OVERLAPS_FIELD.type) if found is None else found for frames, found in parts]
    return pa.concat_arrays(arrays)


def pair_counts(overlaps: pa.ListArray | None, frames: int) -> npt.NDArray[np.int64]:
    """Return the number of stored pairs of each frame, int64 [N]; -1 where nothing is stored."""
    if overlaps is None:
        return np.full(frames, -1, dtype=np.int64)
    return np.asarray(overlaps.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def stored_pairs(
    overlaps: pa.ListArray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Return the frame, the other row's name and the intersection of each stored pair."""
    counts = np.maximum(pair_counts(overlaps, len(overlaps)), 0)
    entries = overlaps.flatten()
    names = entries.field("other").to_numpy(zero_copy_only=False).astype(object)
    both = np.asarray(entries.field("intersection").to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.repeat(np.arange(len(overlaps)), counts), names, both
