"""RIFF/WAVE files by their chunks: which are accepted, where the samples lie, whether the file is whole.

Conventions
    Accepted are 16-bit PCM or 32/64-bit float samples, mono or stereo, 4000..384000 Hz: all front ends and all models' own
    loaders read these alike. Anything else is an `AudioError`, one line that starts with the path.
    A data chunk that declares more bytes than the file holds is a truncated file. libsndfile reads it without an error, so
    the chunks are read here. The exception is a size that a program makes up when it writes into a pipe and cannot know it:
    near 2^32 (ffmpeg), near 2^31 (sox, arecord, espeak), or 0 with samples behind it (gstreamer). It means "to the end of the
    file", and an incomplete block there is dropped: such a file is accepted and its header is marked `streamed`, since
    nothing in it can tell whether it is whole. Bytes behind the declared samples that are no chunks are not read, as by other
    readers, and counted (`SoundHeader.undeclared`).
    Only regular files are opened, and no more than `limits.SOUND_BYTES` of samples are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from avsrobust.beginnings import LENGTH, Beginning, recognise
from avsrobust.clips import SoundHeader
from avsrobust.errors import AudioError
from avsrobust.files import open_regular
from avsrobust.limits import SOUND_BYTES

LOWEST_RATE, HIGHEST_RATE = 4000, 384000

_ACCEPTED = "16-bit PCM or 32/64-bit float, mono or stereo"
_REENCODE = "re-encode it, for example: ffmpeg -i IN -c:a pcm_s16le OUT.wav"
REPLACE = "copy or extract it again"
# Made-up sizes: ffmpeg 0xFFFFFFFF, others that less the header's 36 or 44 bytes; sox 0x7FFFF000, arecord 0x80000000, others
# 0x7FFFFFFF, with or without their header, or cut to whole blocks. So: what is this close below or about a power of two.
_MADE_UP_NEAR = (1 << 31, 1 << 32)
_MADE_UP_WITHIN = 1 << 13
# Chunks before the samples; real files have a handful. Keeps a hostile file from being walked 8 bytes at a time.
_MOST_CHUNKS = 1000
_EXTENSIBLE = 0xFFFE
_FORMAT_BYTES = 40
_FORMAT_NAMES = {1: "PCM", 2: "ADPCM", 3: "float", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}
_DTYPES = {(1, 16): "<i2", (3, 32): "<f4", (3, 64): "<f8"}
_SUBTYPES = {"<i2": "PCM_16", "<f4": "FLOAT", "<f8": "DOUBLE"}


@dataclass(frozen=True)
class WavLayout:
    """A file's header, the dtype of its samples, and where they begin (offset in bytes)."""

    header: SoundHeader
    dtype: str
    offset: int


@contextmanager
def open_sound(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the opened file and its size in bytes; turn errors of the operating system into an `AudioError`."""
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            yield stream, size
    except FileNotFoundError as error:
        raise AudioError(f"{path}: found no file; expected a wav file; {REPLACE}") from error
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror or error}); expected a wav file; check the path and its permissions"
        ) from error


def find_samples(path: Path, stream: BinaryIO, size: int) -> WavLayout:
    """Return where the samples of an accepted, whole file are.

    Args:
        path: Names the file in messages.
        stream: The file, at its start.
        size: Its size in bytes.

    Raises:
        AudioError: The file is none that is accepted (see the conventions).
    """
    if size == 0:
        raise AudioError(f"{path}: found an empty file (0 bytes); expected a wav file; {REPLACE}")
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        stream.seek(0)
        found = recognise(stream.read(LENGTH)) or Beginning("a file that is not RIFF/WAVE")
        raise AudioError(f"{path}: found {found.noun}; expected RIFF/WAVE, {_ACCEPTED}; {found.remedy or _REENCODE}")
    chunks = _find_chunks(stream, size)
    if b"fmt " not in chunks or b"data" not in chunks:
        missing = "format" if b"fmt " not in chunks else "data"
        raise AudioError(f"{path}: found a wav file without a {missing} chunk; expected a whole file; {REPLACE}")
    offset, declared = chunks[b"data"]
    is_streamed = _is_streamed(stream, size, offset, declared)
    present = size - offset
    if is_streamed:
        declared = present
    if declared > present:
        raise _truncated(path, present, declared)
    SOUND_BYTES.check(declared, path, AudioError)
    behind = offset + declared + declared % 2
    undeclared = 0 if _is_chunks(stream, behind, size, with_samples=False) else size - behind
    stream.seek(chunks[b"fmt "][0])
    layout = _describe(path, stream.read(min(chunks[b"fmt "][1], _FORMAT_BYTES)), declared, offset, is_streamed)
    if undeclared == 0:
        return layout
    block = np.dtype(layout.dtype).itemsize * layout.header.channels
    return replace(layout, header=replace(layout.header, undeclared=undeclared // block))


def check_whole(path: Path) -> None:
    """Check that a RIFF/WAVE file of any sample format holds as many bytes of samples as its header declares.

    Decoders read a truncated file without a word. Files of other containers pass, and so do those whose chunks cannot be
    found: their decoder judges them.

    Args:
        path: A regular file.

    Raises:
        AudioError: The file cannot be opened or is truncated.
    """
    with open_sound(path) as (stream, size):
        head = stream.read(12)
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return
        chunks = _find_chunks(stream, size)
        if b"fmt " not in chunks or b"data" not in chunks:
            return
        offset, declared = chunks[b"data"]
        if declared > size - offset and not _is_streamed(stream, size, offset, declared):
            raise _truncated(path, size - offset, declared)


def _truncated(path: Path, present: int, declared: int) -> AudioError:
    """Return the error of a file that ends before its samples do."""
    return AudioError(
        f"{path}: found {present} bytes of samples where its header declares {declared} (truncated); "
        f"expected a whole file; {REPLACE}"
    )


def _is_streamed(stream: BinaryIO, size: int, offset: int, declared: int) -> bool:
    """Return whether the size of the data chunk is made up by a program that wrote into a pipe."""
    return _is_made_up(declared, size - offset) or (declared == 0 and not _is_chunks(stream, offset, size))


def _is_made_up(declared: int, present: int) -> bool:
    """Return whether a data chunk's size is one that a program makes up that cannot know it, rather than a number of bytes."""
    near = any(abs(declared - value) <= _MADE_UP_WITHIN for value in _MADE_UP_NEAR)
    return near and declared != present


def _is_chunks(stream: BinaryIO, position: int, size: int, *, with_samples: bool = True) -> bool:
    """Return whether nothing but whole chunks (such as LIST) lies from `position` to the end: then 0 samples are meant.

    `with_samples`: whether further chunks of samples count as such; only the first is read.
    """
    for _ in range(_MOST_CHUNKS):
        if position >= size:
            return True
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
            return False
        length = int.from_bytes(head[4:], "little")
        if not with_samples and head[:4] == b"data" and length > 0:
            return False
        position += 8 + length
        if position > size:
            return False
        position += length % 2
    return False


def _find_chunks(stream: BinaryIO, size: int) -> dict[bytes, tuple[int, int]]:
    """Return offset and declared size of the chunks up to the one that completes format and data."""
    chunks: dict[bytes, tuple[int, int]] = {}
    position = 12
    for _ in range(_MOST_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            break
        name, length = head[:4], int.from_bytes(head[4:], "little")
        chunks.setdefault(name, (position + 8, length))
        if b"fmt " in chunks and b"data" in chunks:
            break
        # Chunks start at even offsets; the padding byte is not counted in the length.
        position += 8 + length + length % 2
        if position >= size:
            break
    return chunks


def _describe(path: Path, chunk: bytes, num_bytes: int, offset: int, is_streamed: bool) -> WavLayout:
    """Judge the format chunk and the number of samples."""
    if len(chunk) < 16:
        raise AudioError(f"{path}: found a format chunk of {len(chunk)} bytes; expected at least 16; {_REENCODE}")
    code, channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunk[:16])
    if code == _EXTENSIBLE and len(chunk) >= 26:
        # The first two bytes of the sub-format's GUID are the plain format code.
        code = int.from_bytes(chunk[24:26], "little")
    if (code, bits) not in _DTYPES:
        kind = _FORMAT_NAMES.get(code, f"format code {code:#x}")
        raise AudioError(f"{path}: found {bits}-bit {kind}; expected {_ACCEPTED}; {_REENCODE}")
    if channels not in (1, 2):
        raise AudioError(
            f"{path}: found {channels} channels; expected 1 or 2; {_REENCODE.replace('-c:a', '-ac 2 -c:a')}"
        )
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{path}: found a sample rate of {rate} Hz; expected {LOWEST_RATE}..{HIGHEST_RATE} Hz; "
            f"{_REENCODE.replace('-c:a', '-ar 44100 -c:a')}"
        )
    if is_streamed and block == channels * bits // 8:
        num_bytes -= num_bytes % block
    if block != channels * bits // 8 or num_bytes % block:
        raise AudioError(
            f"{path}: found {num_bytes} bytes of samples in blocks of {block}; "
            f"expected whole blocks of {channels * bits // 8}; {REPLACE}"
        )
    if num_bytes == 0:
        raise AudioError(f"{path}: found 0 samples; expected a recording; {REPLACE}")
    dtype = _DTYPES[code, bits]
    header = SoundHeader(rate, num_bytes // block, channels, _SUBTYPES[dtype], is_streamed)
    return WavLayout(header, dtype, offset)
