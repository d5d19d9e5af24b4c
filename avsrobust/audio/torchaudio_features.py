"""A front end by torchaudio, at VGGish's sizes, for those who compare with code that makes log-mels so.

Conventions
    Recipes name it as a plug-in, ``avsrobust.audio.torchaudio_features:torchaudio_log_mel``: builds store what it makes, so that
    evaluating needs no torchaudio, whose numbers depend on the machine.
    A log-mel is float32 [T, 1, 96, 64], as in `audio.features`. Windows and examples lie where those of VGGish lie. Two things
    differ from its front end: the resampler (`audio.resample`, "torchaudio"), and the mel bands, which are triangles in Hz in
    torchaudio (torchaudio/functional/functional.py `melscale_fbanks`, HTK scale, no norm), and in mel in VGGish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.features import VGGISH_RATE
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.audio.resample import resample, to_mono, torchaudio_remedy
from avsrobust.errors import OptionError

# torchvggish/vggish_params.py.
_WINDOW, _HOP, _FFT = 400, 160, 512
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7500.0
_LOG_OFFSET = 0.01
_EXAMPLE = _WINDOW + (STEPS - 1) * _HOP
# torch.stft puts a window that is shorter than the transform into its middle.
_MARGIN = (_FFT - _WINDOW) // 2


def torchaudio_log_mel(samples: NDArray[np.float64], sample_rate: int, num_frames: int) -> NDArray[np.float32]:
    """Return the log-mel of a sound: natural log of torchaudio's mel magnitudes + 0.01.

    The channels' mean at 16 kHz, windows of 25 ms every 10 ms (periodic Hann), 512-point spectrum, 64 bands between 125 and
    7500 Hz, examples of 0.96 s; an incomplete one is dropped, and copies of the last one fill up to `num_frames`.

    Args:
        samples: Float64 [S] or [S, channels] in [-1, 1).
        sample_rate: In Hz.
        num_frames: Number of examples.

    Returns:
        Float32 [num_frames, 1, 96, 64].

    Raises:
        OptionError: torchaudio cannot be imported.
    """
    try:
        import torch
        from torchaudio.transforms import MelSpectrogram
    except (ImportError, OSError) as error:
        # An OSError where it is linked against another torch.
        raise OptionError(f"front end torchaudio: {torchaudio_remedy(error)}, or take the front end vggish") from error

    wave = resample(to_mono(samples), sample_rate, VGGISH_RATE, "torchaudio")
    wave = np.pad(wave, (_MARGIN, max(0, _EXAMPLE - wave.size) + _MARGIN))
    transform: Any = MelSpectrogram(
        VGGISH_RATE,
        n_fft=_FFT,
        win_length=_WINDOW,
        hop_length=_HOP,
        f_min=_LOWEST_HZ,
        f_max=_HIGHEST_HZ,
        n_mels=BANDS,
        power=1.0,
        center=False,
        norm=None,
        mel_scale="htk",
    ).to(torch.float64)
    mel = transform(torch.from_numpy(wave)).T.numpy()
    count = min(len(mel) // STEPS, num_frames)
    examples = np.log(mel[: count * STEPS] + _LOG_OFFSET).astype(np.float32).reshape(count, 1, STEPS, BANDS)
    return np.concatenate([examples, np.repeat(examples[-1:], num_frames - count, axis=0)])
