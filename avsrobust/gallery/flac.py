"""Short sounds as FLAC, the same bytes for the same samples.

Conventions
    FLAC plays in every current browser (Chrome 56, Firefox 51, Safari 11 and later), unlike Opus and Vorbis in Ogg files, which
    Safari plays from 18.4 on. Five seconds take 1.5 ms and 96 kB (white noise: 160 kB, silence: none); libsndfile's Vorbis takes
    15 ms and 25 kB, its MP3 36 ms and 31 kB, its Opus 127 ms and 19 kB, and the sounds of a page are to be ready in less than a
    second. A wav takes no time, and 160 kB whatever is in it.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from avsrobust.errors import AudioError

RATE = 16_000


def encode_flac(samples: npt.NDArray[np.float32]) -> bytes:
    """Return mono samples at `RATE` Hz as a FLAC file of 16 bits.

    Args:
        samples: float32 [S] in [-1, 1].

    Raises:
        AudioError: libsndfile was built without FLAC.
    """
    import soundfile

    stream = io.BytesIO()
    try:
        soundfile.write(stream, samples, RATE, format="FLAC", subtype="PCM_16")
    except (ValueError, soundfile.SoundFileError) as error:
        raise AudioError(f"FLAC: libsndfile cannot write it ({error}); expected a libsndfile with FLAC") from error
    return stream.getvalue()
