"""Short sounds as Ogg/Vorbis, the same bytes for the same samples.

Conventions
    Vorbis, not Opus, whose encoder takes fifteen times as long here, for two thirds of the bytes: a page is to be ready in 3 s.
    A stream in an Ogg file has a random serial number (RFC 3533, section 6); here it is 0, and the checksum of each page is that
    of the page as it is then: CRC-32 with the polynomial 0x04c11db7, without reflection, initial value and final XOR 0.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avsrobust.errors import AudioError

RATE = 16_000
_HEADER = 27
_POLYNOMIAL = 0x04C11DB7


def encode_vorbis(samples: npt.NDArray[np.float32]) -> bytes:
    """Return mono samples at `RATE` Hz as an Ogg/Vorbis file.

    Args:
        samples: float32 [S] in [-1, 1].

    Raises:
        AudioError: libsndfile was built without Vorbis.
    """
    import soundfile

    stream = io.BytesIO()
    try:
        soundfile.write(stream, samples, RATE, format="OGG", subtype="VORBIS")
    except (ValueError, soundfile.SoundFileError) as error:
        raise AudioError(
            f"Vorbis: libsndfile cannot write it ({error}); expected a libsndfile with Ogg/Vorbis"
        ) from error
    return without_serial(stream.getvalue())


def without_serial(content: bytes) -> bytes:
    """Return an Ogg file of one stream with the serial number 0."""
    parts, start = [], 0
    while start < len(content):
        if content[start : start + 4] != b"OggS":
            raise AudioError("Ogg: found bytes that begin no page")
        lacing = content[start + _HEADER : start + _HEADER + content[start + _HEADER - 1]]
        end = start + _HEADER + len(lacing) + sum(lacing)
        page = bytearray(content[start:end])
        page[14:18] = bytes(4)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _crc(page))
        parts.append(bytes(page))
        start = end
    return b"".join(parts)


def _crc(content: bytes | bytearray) -> int:
    table, value = _table(), 0
    for byte in content:
        value = ((value << 8) & 0xFFFFFFFF) ^ table[(value >> 24) ^ byte]
    return value


@lru_cache(1)
def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ (_POLYNOMIAL if value & 0x80000000 else 0)) & 0xFFFFFFFF
        entries.append(value)
    return tuple(entries)
