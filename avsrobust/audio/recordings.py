"""Recordings of any format, to samples: sounds that come from elsewhere than a data set.

Conventions
    A data set's own sounds are wav files of a few kinds (`avsrobust.audio.io`). A recording is any file with sound in it:
    wav, flac, ogg, aiff, au and caf are decoded by soundfile (libsndfile), everything else (mp3, m4a, video), and what
    soundfile cannot decode in those containers, by pydub, which calls ffmpeg. The content decides, not the file's name.
    Samples are float64 [S, channels], nominally in [-1, 1], as decoded: any rate of 4000..384000 Hz, any number of channels.
    Truncated wav and flac files are refused; other containers do not say how long they should be.
    Lossless formats give the same samples everywhere. Lossy ones may differ in their last bits between versions of a decoder.
    Nothing that a file declares is trusted: only regular files are opened, sizes are bounded before and while memory is
    taken (`limits.SOUND_BYTES`, as 16-bit samples), and playlists, which name further files, are refused.
"""

from __future__ import annotations

import math
import shutil
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.io import LARGEST_PEAK
from avsrobust.audio.wav_chunks import HIGHEST_RATE, LOWEST_RATE, check_whole
from avsrobust.errors import AudioError
from avsrobust.files import open_regular
from avsrobust.limits import SOUND_BYTES

# Names of files that are taken for recordings where a folder of them is given.
SUFFIXES = frozenset((
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf",
    ".mp3", ".mp2", ".m4a", ".aac", ".ac3", ".amr", ".wma", ".mka", ".weba",
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".mpg", ".mpeg", ".ts", ".3gp", ".ogv",
))  # fmt: skip

_FFMPEG = ("ffmpeg", "ffprobe")
# First bytes of the containers that soundfile is given.
_SOUNDFILE_MAGIC = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")
# ffmpeg's names of containers that hold their own sound; playlists (hls, concat, dash, sdp) name other files and addresses.
_CONTAINERS = frozenset((
    "aac", "ac3", "aiff", "amr", "asf", "au", "avi", "caf", "eac3", "flac", "flv", "matroska", "mov", "mp3", "mpeg",
    "mpegts", "ogg", "wav",
))  # fmt: skip
_MOST_CHANNELS = 64
_BLOCK = 1 << 16
# Seconds that ffmpeg decodes beyond what is wanted, to notice a longer recording.
_MARGIN_S = 0.1
_REENCODE = "convert it to wav, flac or ogg"


def read_recording(path: Path | str, longest_s: float | None = None) -> tuple[NDArray[np.float64], int]:
    """Decode a recording of any format.

    Args:
        path: A wav, flac, ogg, mp3, m4a or video file, or any other that soundfile or ffmpeg reads.
        longest_s: Decode no more than the first so many seconds; without it a recording above the limit is refused.

    Returns:
        The samples, float64 [S, channels] with S >= 1, and the sample rate in Hz.

    Raises:
        AudioError: The file is missing, no regular file, truncated, without sound, undecodable, too large, of an unlikely
            rate, or holds values that are not finite; or it needs ffmpeg, which is not installed.
    """
    path = Path(path)
    decoded = None
    if _first_bytes(path).startswith(_SOUNDFILE_MAGIC):
        check_whole(path)
        decoded = _by_soundfile(path, longest_s)
    samples, sample_rate = decoded if decoded is not None else _by_ffmpeg(path, longest_s)
    if samples.size == 0:
        raise AudioError(f"{path}: found 0 samples; expected a recording; record or extract it again")
    peak = float(np.abs(samples).max())
    if not peak <= LARGEST_PEAK:
        found = f"samples up to {peak:g}" if math.isfinite(peak) else "NaN or infinite samples"
        raise AudioError(f"{path}: found {found}; expected finite values in [-1, 1]; {_REENCODE}")
    return samples, sample_rate


def _first_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as stream:
            head = stream.read(16)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: found no file; expected a recording; check the path") from error
    except OSError as error:
        raise AudioError(
            f"{path}: cannot be read ({error.strerror or error}); expected a recording; check the path and its permissions"
        ) from error
    if not head:
        raise AudioError(f"{path}: found an empty file (0 bytes); expected a recording; copy or extract it again")
    return head


def _by_soundfile(path: Path, longest_s: float | None) -> tuple[NDArray[np.float64], int] | None:
    """Return samples and rate, or None where libsndfile does not know what is in the container."""
    import soundfile

    try:
        sound = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        return None
    with sound:
        rate, channels = sound.samplerate, sound.channels
        wanted = _wanted(path, rate, channels, longest_s)
        blocks: list[NDArray[np.float64]] = []
        try:
            # In blocks, until there are no more: the number of samples that a header declares may be made up.
            while wanted > 0 and len(block := sound.read(min(_BLOCK, wanted), dtype="float64", always_2d=True)):
                blocks.append(block)
                wanted -= len(block)
            is_longer = wanted == 0 and len(sound.read(1)) > 0
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{path}: found a damaged or truncated file; expected a whole recording; copy or extract it again"
            ) from error
    if longest_s is None and is_longer:
        raise _too_long(path)
    return np.concatenate([np.zeros((0, channels)), *blocks]), rate


def _by_ffmpeg(path: Path, longest_s: float | None) -> tuple[NDArray[np.float64], int]:
    """Return samples and rate as pydub gets them from ffmpeg."""
    missing = [program for program in _FFMPEG if shutil.which(program) is None]
    if missing:
        raise AudioError(
            f"{path}: found a format that needs ffmpeg, and {' and '.join(missing)} is not on the PATH; expected a wav, flac "
            f"or ogg file, or ffmpeg; install it (apt install ffmpeg, brew install ffmpeg), or {_REENCODE}"
        )
    # An absolute path is neither an option nor an address, whatever the file is called.
    name = str(path.absolute())
    container, codec, rate, channels = _probe(path, name)
    wanted = _wanted(path, rate, channels, longest_s)
    if container == "wav":
        # pydub reads these whole before it asks ffmpeg.
        SOUND_BYTES.check(path.stat().st_size, path, AudioError)
    try:
        segment = _segment_class().from_file(name, format=container, codec=codec, duration=wanted / rate + _MARGIN_S)
    # CouldntDecodeError, and what pydub raises on odd files.
    except Exception as error:
        raise AudioError(
            f"{path}: ffmpeg cannot decode it ({_last_line(error)}); expected a recording; {_REENCODE}"
        ) from error
    rate, channels, width = int(segment.frame_rate), int(segment.channels), int(segment.sample_width)
    wanted = _wanted(path, rate, channels, longest_s)
    stored = np.frombuffer(segment.raw_data, f"<i{width}")
    if longest_s is None and stored.size > wanted * channels:
        raise _too_long(path)
    samples = stored[: wanted * channels].reshape(-1, channels).astype(np.float64)
    samples /= float(1 << (8 * width - 1))
    return samples, rate


@lru_cache(maxsize=1)
def _pydub() -> Any:
    # Of pydub's own syntax, of modules that Python deprecates, and of ffmpeg, which is looked for above. For good: a build's
    # threads may come here, and what `warnings.catch_warnings` puts back there are filters of them all.
    warnings.filterwarnings("ignore", module=r"(.*[\\/])?pydub([.\\/]|$)")
    import pydub
    import pydub.utils

    return pydub


@lru_cache(maxsize=1)
def _segment_class() -> Any:
    class Uncut(_pydub().AudioSegment):  # type: ignore[misc]
        """A segment that `from_file` does not cut: pydub cuts at whole milliseconds and fills up with zeros."""

        def __getitem__(self, _: object) -> Any:
            return self

    return Uncut


def _probe(path: Path, name: str) -> tuple[str, str | None, int, int]:
    """Return container, codec, rate in Hz and channels of a file's first sound, as ffprobe finds them.

    The codec is None where pydub finds a sample format to decode to by itself.
    """
    try:
        info = _pydub().utils.mediainfo_json(name)
        container = str(info["format"]["format_name"]).split(",")[0]
        streams = [stream for stream in info["streams"] if stream.get("codec_type") == "audio"]
    # ffprobe prints {} for what it cannot read; pydub takes its text apart without checking it.
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise AudioError(f"{path}: found nothing that ffmpeg can read; expected a recording; {_REENCODE}") from error
    if container not in _CONTAINERS:
        raise AudioError(f"{path}: found the format {container}; expected a file with its own sound; {_REENCODE}")
    if not streams:
        raise AudioError(f"{path}: found no sound in it; expected a recording; choose another file")
    try:
        first = streams[0]
        # pydub asks ffmpeg for as many bits as the file's samples have, and ffmpeg knows these.
        codec = None if int(first["bits_per_sample"]) in (8, 16, 24, 32) else str(first["codec_name"])
        return container, codec, int(first["sample_rate"]), int(first["channels"])
    except (LookupError, TypeError, ValueError) as error:
        raise AudioError(f"{path}: found sound without a rate; expected a recording; {_REENCODE}") from error


def _wanted(path: Path, rate: int, channels: int, longest_s: float | None) -> int:
    """Return how many samples per channel may be decoded. Refuse unlikely rates and numbers of channels."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{path}: found a sample rate of {rate} Hz; expected {LOWEST_RATE}..{HIGHEST_RATE} Hz; {_REENCODE}"
        )
    if not 1 <= channels <= _MOST_CHANNELS:
        raise AudioError(f"{path}: found {channels} channels; expected 1..{_MOST_CHANNELS}; {_REENCODE}")
    most = SOUND_BYTES.current // (channels * 2)
    return most if longest_s is None else min(most, math.ceil(longest_s * rate))


def _too_long(path: Path) -> AudioError:
    return AudioError(
        f"{path}: found a recording of more than {SOUND_BYTES.current:,} {SOUND_BYTES.unit}; expected at most so many "
        f"({SOUND_BYTES.reason}); cut it, or run again with --raise-limits 2"
    )


def _last_line(error: Exception) -> str:
    """Return the last line of ffmpeg's complaint."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
