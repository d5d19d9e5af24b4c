"""Front ends: how a log-mel is made of samples, by the names that recipes use.

Conventions
    A front end is a function (samples, sample_rate, num_frames) -> log-mel: samples float64 [S] or [S, channels] in [-1, 1) on
    the 16-bit grid, rate in Hz, log-mel float32 [num_frames, 1, 96, 64]. It gets at most `num_frames` + 60 seconds.
    All conditions of a build come out of one front end unless the recipe says otherwise: features of clean and negative sound
    made by different ones can be told apart without listening.
    Others than the built-in ones are plug-ins (`avsrobust.plugins`): an entry point of the group ``avsrobust.front_ends``, or
    ``package.module:function`` or ``file.py:function`` in a recipe. What they make is always stored: reading a build runs no
    code that the build names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.io import read_samples
from avsrobust.errors import RecipeError
from avsrobust.plugins import Registry, one_line

GROUP = "avsrobust.front_ends"
STEPS, BANDS = 96, 64
# Seconds behind a clip that are read with it: resampling reaches less far, and a file of minutes need not be decoded.
MARGIN_S = 60

FrontEnd = Callable[[NDArray[np.float64], int, int], NDArray[np.float32]]


def _check(spec: str, found: object) -> FrontEnd:
    if not callable(found):
        raise RecipeError(
            f"front end {spec}: found {found!r:.80}; expected a function (samples, sample_rate, num_frames) -> log-mel"
        )
    return cast(FrontEnd, found)


FRONT_ENDS: Registry[FrontEnd] = Registry(
    noun="front end",
    option="front end",
    group=GROUP,
    built_in={
        "vggish": "avsrobust.audio.features:vggish_log_mel",
        "librosa": "avsrobust.audio.features:librosa_log_mel_of_samples",
    },
    check=_check,
    error=RecipeError,
)


def log_mel_of(
    front_end: str, samples: NDArray[np.float64], sample_rate: int, num_frames: int, *, of: str
) -> NDArray[np.float32]:
    """Return the log-mel that a front end makes, float32 [num_frames, 1, 96, 64].

    Args:
        front_end: Its name or spec.
        samples: Float64 [S] or [S, channels].
        sample_rate: In Hz.
        num_frames: Frames of the clip.
        of: Name of the sound, for messages.

    Raises:
        RecipeError: There is no such front end, it raises, or it returns anything else than a finite log-mel of that shape.
    """
    # A file is imported once for all sounds, unless it has changed since.
    function = FRONT_ENDS.find_current(front_end)
    with one_line(f"front end {front_end}: {of}", RecipeError):
        made = function(samples, sample_rate, num_frames)
    expected = (num_frames, 1, STEPS, BANDS)
    if not isinstance(made, np.ndarray) or made.shape != expected or made.dtype != np.float32:
        found = f"{made.dtype} {list(made.shape)}" if isinstance(made, np.ndarray) else type(made).__name__
        raise RecipeError(f"front end {front_end}: {of}: returned {found}; expected float32 {list(expected)}")
    if not np.isfinite(made).all():
        raise RecipeError(f"front end {front_end}: {of}: returned NaN or infinity; expected finite values")
    return made


def log_mel_of_file(front_end: str, path: Path, num_frames: int) -> NDArray[np.float32]:
    """Return the log-mel of a wav file, float32 [num_frames, 1, 96, 64]. Raises as `log_mel_of`, and `AudioError`."""
    return log_mels_of_file(path, [(front_end, num_frames)])[0]


def log_mels_of_file(path: Path, wanted: Sequence[tuple[str, int]]) -> list[NDArray[np.float32]]:
    """Return several log-mels of a wav file, which is read once.

    Args:
        path: The wav file.
        wanted: Front end and number of frames of each, one at least.

    Returns:
        The log-mels, float32 [num_frames, 1, 96, 64], in the order of `wanted`; each as `log_mel_of_file` returns it.

    Raises:
        RecipeError: As for `log_mel_of`.
        AudioError: As for `avsrobust.audio.io.check_sound`.
    """
    samples, sample_rate = read_samples(path, longest_s=max(num_frames for _, num_frames in wanted) + MARGIN_S)
    made = []
    for front_end, num_frames in wanted:
        # A copy: a plug-in's front end may work in place.
        reached = samples[: (num_frames + MARGIN_S) * sample_rate].copy()
        made.append(log_mel_of(front_end, reached, sample_rate, num_frames, of=str(path)))
    return made
