"""Contents of a clip's recording: its level, its length beside the clip's, its checksum, all from one reading.

Conventions
    A sound is judged as far as the clip lasts. It is *muted* where it is silent or nearly so: all samples are zero
    ("silent"), all are equal ("constant"), or their deviation from the mean is below `QUIETEST_DB` ("nearly silent").
    Front ends read the mean of the channels. Where that is silent or nearly so, and a channel is not (two channels of opposite
    phase), the sound is muted as well ("silent in mono").
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avsrobust.clips import SoundContents, SoundHeader
from avsrobust.errors import AudioError

# Below this the log-mel of VGGish, which adds 0.01 to every magnitude, hardly differs from that of silence; it is three steps of
# 16-bit samples, where dither and the decoders of lossy formats leave their noise.
QUIETEST_DB = -80.0
# Share of samples at full scale from which a sound counts as clipped: a loud recording touches it now and then.
CLIPPED_SHARE = 0.001
# Seconds by which a sound may differ from the clip's length: containers end on whole packets.
LENGTH_TOLERANCE_S = 0.5
# A recording shorter than this is a slip of whoever cut it; manifests hold none (`avsrobust.manifest_values`, `duration_s`).
SHORTEST_S = 0.001

SILENT, NEARLY_SILENT, CONSTANT, CANCELLED = "silent", "nearly silent", "constant", "silent in mono"
CLIPPED, LONGER, SHORTER, STREAMED = "clipped", "longer than the clip", "shorter than the clip", "of a made-up size"
UNDECLARED = "longer than declared"
MUTED_KINDS = (SILENT, NEARLY_SILENT, CONSTANT, CANCELLED)
SOUND_KINDS = (*MUTED_KINDS, CLIPPED, LONGER, SHORTER, STREAMED, UNDECLARED)

# Every so many-th sample is enough to see that a sound is loud.
_THINNED = 32
Samples = NDArray[np.int16 | np.float32 | np.float64]


def read_whole(path: Path, num_frames: int) -> tuple[SoundHeader, SoundContents | None]:
    """Return the header of a clip's recording and the facts from all of it, from one reading.

    Args:
        path: The wav file.
        num_frames: Frames of the clip.

    Returns:
        Header and facts; no facts where the file cannot be read whole, though its header is in order.

    Raises:
        AudioError: As for `avsrobust.audio.io.check_sound`.
    """
    from avsrobust.audio import io

    try:
        # Before the reading: a later change shows.
        modified_ns = path.stat().st_mtime_ns
        content = io.read_content(path)
    except (AudioError, OSError):
        return io.check_sound(path), None
    header, samples = io.stored_sound(path, content)
    kinds = sound_kinds(header, samples, num_frames)
    return header, SoundContents(len(content), hashlib.sha256(content).hexdigest(), kinds, modified_ns)


def still_holds(path: Path, contents: SoundContents) -> bool:
    """Return whether a file is, by size and time of its last change, the one that these facts are about."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (contents.num_bytes, contents.modified_ns)


def sound_kinds(header: SoundHeader, samples: Samples, num_frames: int) -> tuple[str, ...]:
    """Return those of `SOUND_KINDS` that hold for a clip's recording.

    Args:
        header: Its header.
        samples: All its samples as stored, [S, channels].
        num_frames: Frames of the clip.
    """
    lasting = samples[: math.ceil(num_frames * header.sample_rate)]
    excess_s = header.duration_s - num_frames
    flags = {
        CLIPPED: _is_clipped(lasting),
        LONGER: excess_s > LENGTH_TOLERANCE_S,
        SHORTER: excess_s < -LENGTH_TOLERANCE_S,
        STREAMED: header.streamed,
        UNDECLARED: header.undeclared > LENGTH_TOLERANCE_S * header.sample_rate,
    }
    muted = muted_kind(lasting)
    return (*([muted] if muted else []), *(kind for kind, holds in flags.items() if holds))


def muted_kind(samples: Samples) -> str | None:
    """Return which of `MUTED_KINDS` samples [S, channels] are, None where they can be heard."""
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    # Squares of deviations from the mean, summed up over a part, are no more than those over the whole.
    least = len(samples) * (scale * 10.0 ** (QUIETEST_DB / 20.0)) ** 2
    # The mean of channels deviates no more than the channel that deviates most.
    if (_deviations(_mono(samples[::_THINNED])) >= least).any():
        return None
    if not samples.any():
        return SILENT
    if (samples == samples[0]).all():
        return CONSTANT
    if (_deviations(samples) < least).all():
        return NEARLY_SILENT
    return CANCELLED if (_deviations(_mono(samples)) < least).all() else None


def _mono(samples: Samples) -> NDArray[np.float64]:
    """Return the mean of the channels, [S, 1]."""
    mean: NDArray[np.float64] = samples.mean(axis=1, keepdims=True, dtype=np.float64)
    return mean


def _deviations(samples: Samples | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each channel's sum of squared deviations from its mean, float64 [channels]."""
    channels = np.ascontiguousarray(samples.T, dtype=np.float64)
    squares: NDArray[np.float64] = ((channels - channels.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return squares


def _is_clipped(samples: Samples) -> bool:
    flat = samples.reshape(-1)
    lowest, highest = (-32768, 32767) if samples.dtype == np.int16 else (-1.0, 1.0)
    if flat.min() > lowest and flat.max() < highest:
        return False
    full = np.count_nonzero(flat <= lowest) + np.count_nonzero(flat >= highest)
    return bool(full >= CLIPPED_SHARE * flat.size)
