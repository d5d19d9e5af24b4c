"""Wav files: what is accepted, what is refused and how, and that reading and writing are exact."""

from __future__ import annotations

import io
import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avsrobust.audio.io import check_sound, fit_length, read_samples, read_waveform, stored_sound, wav_bytes, write_wav
from avsrobust.audio.resample import resample
from avsrobust.clips import SoundHeader
from avsrobust.errors import AudioError
from avsrobust.limits import ENVIRONMENT

STREAMED = 0xFFFFFFFF


def chunk(name: bytes, content: bytes, declared: int | None = None) -> bytes:
    length = len(content) if declared is None else declared
    return name + struct.pack("<I", length) + content + b"\0" * (len(content) % 2)


def format_chunk(
    code: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, block: int | None = None
) -> bytes:
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits))


def riff(*chunks: bytes) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


PCM = np.array([0, 1, -1, 32767, -32768, 300], dtype="<i2")
DATA = chunk(b"data", PCM.tobytes())


def floats(*values: float, dtype: str = "<f4") -> bytes:
    bits = np.dtype(dtype).itemsize * 8
    return riff(format_chunk(3, bits=bits), chunk(b"data", np.array(values, dtype).tobytes()))


REFUSED = {
    "zero bytes": (b"", r"found an empty file \(0 bytes\); expected a wav file"),
    "text": (b"hello, I am no sound", r"not RIFF/WAVE; expected RIFF/WAVE, 16-bit PCM or 32/64-bit float"),
    "three bytes": (b"RIF", r"not RIFF/WAVE"),
    "avi": (b"RIFF\0\0\0\0AVI LIST", r"found an AVI video; expected RIFF/WAVE, 16-bit PCM"),
    "flac": (b"fLaC" + bytes(60), r"found a FLAC file; expected RIFF/WAVE, .*; re-encode it"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\n",
        r"a pointer of Git LFS.*; fetch it with 'git lfs pull'",
    ),
    "zeros": (bytes(5000), r"nothing but zeros"),
    "head alone": (riff(), r"without a format chunk"),
    "format alone": (riff(format_chunk()), r"without a data chunk"),
    "data alone": (riff(DATA), r"without a format chunk"),
    "ends in a chunk's head": (riff(format_chunk(), b"dat"), r"without a data chunk"),
    "short format": (riff(chunk(b"fmt ", b"\1\0\1\0"), DATA), r"format chunk of 4 bytes; expected at least 16"),
    "truncated": (
        riff(format_chunk(), DATA)[:-4],
        r"found 8 bytes of samples where its header declares 12 \(truncated\); expected a whole file",
    ),
    "truncated to none": (riff(format_chunk(), DATA)[:-12], r"found 0 bytes .* declares 12 \(truncated\)"),
    "0 samples": (riff(format_chunk(), chunk(b"data", b"")), r"found 0 samples"),
    "streamed without samples": (riff(format_chunk(), chunk(b"data", b"", STREAMED)), r"found 0 samples"),
    "streamed less than a sample": (riff(format_chunk(), chunk(b"data", b"\0\0", STREAMED))[:-1], r"found 0 samples"),
    "0 samples before another chunk": (
        riff(format_chunk(), chunk(b"data", b""), chunk(b"LIST", b"abc")),
        r"found 0 samples",
    ),
    "truncated, 1 GB declared": (
        riff(format_chunk(), chunk(b"data", PCM.tobytes(), 1 << 30)),
        r"found 12 bytes of samples where its header declares 1073741824 \(truncated\)",
    ),
    "half a sample": (riff(format_chunk(), chunk(b"data", b"\0\0\0")), r"3 bytes of samples in blocks of 2"),
    "blocks of nothing": (riff(format_chunk(block=0), DATA), r"blocks of 0; expected whole blocks of 2"),
    "8-bit": (riff(format_chunk(bits=8), DATA), r"found 8-bit PCM; expected 16-bit PCM or 32/64-bit float"),
    "24-bit": (riff(format_chunk(bits=24), DATA), r"found 24-bit PCM"),
    "32-bit integers": (riff(format_chunk(bits=32), DATA), r"found 32-bit PCM"),
    "mu-law": (riff(format_chunk(7, bits=8), DATA), r"found 8-bit mu-law"),
    "unknown code": (riff(format_chunk(0x1234), DATA), r"found 16-bit format code 0x1234"),
    "6 channels": (riff(format_chunk(channels=6), DATA), r"found 6 channels; expected 1 or 2; .*-ac 2"),
    "0 channels": (riff(format_chunk(channels=0), DATA), r"found 0 channels"),
    "3999 Hz": (riff(format_chunk(rate=3999), DATA), r"rate of 3999 Hz; expected 4000\.\.384000 Hz; .*-ar 44100"),
    "384001 Hz": (riff(format_chunk(rate=384001), DATA), r"rate of 384001 Hz"),
    "NaN": (floats(0.0, np.nan), r"found NaN or infinite samples"),
    "infinite": (floats(0.0, -np.inf, dtype="<f8"), r"found NaN or infinite samples"),
    "integers as floats": (floats(0.0, -12000.0), r"float samples up to 12000 \(integers stored as floats\?\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_damage_is_refused_in_one_line_that_names_the_file(kind: str, tmp_path: Path) -> None:
    content, message = REFUSED[kind]
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    for read in (check_sound, read_samples):
        with pytest.raises(AudioError, match=message) as caught:
            read(path)
        what, *_, remedy = str(caught.value).split("; ")
        assert what.startswith(f"{path}: found ")
        assert remedy.split()[0] in {"re-encode", "copy", "divide", "fetch"}
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"absent\.wav: found no file; expected a wav file"):
        check_sound(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match=r"cannot be read \(Is a directory\)"):
        check_sound(tmp_path)


EXTENSIBLE = chunk(
    b"fmt ",
    struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16000, 32000, 2, 16, 22, 16, 4, 1)
    + bytes.fromhex("000000001000800000aa00389b71"),
)
ACCEPTED = {
    "plain": riff(format_chunk(), DATA),
    "extensible": riff(EXTENSIBLE, DATA),
    "other chunks, one of odd length": riff(chunk(b"LIST", b"abc"), format_chunk(), chunk(b"fact", b"1234"), DATA),
    "chunk behind the samples": riff(format_chunk(), DATA, chunk(b"LIST", b"abc")),
    "cut in a chunk behind the samples": riff(format_chunk(), DATA, chunk(b"LIST", b"abcdef"))[:-4],
    "streamed": riff(format_chunk(), chunk(b"data", PCM.tobytes(), STREAMED)),
    "long format chunk": riff(chunk(b"fmt ", format_chunk()[8:] + b"\0\0"), DATA),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_spelling_of_a_wav_file_gives_the_same_samples(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(ACCEPTED[kind])
    assert check_sound(path) == SoundHeader(16000, PCM.size, 1, "PCM_16")
    samples, rate = read_samples(path)
    assert rate == 16000
    assert samples.dtype == np.float64
    np.testing.assert_array_equal(samples, PCM[:, None] / 32768)
    np.testing.assert_array_equal(samples[:, 0], soundfile.read(path, dtype="int16")[0] / 32768)


MADE_UP = {
    "ffmpeg": 0xFFFFFFFF,
    "less the header": 0xFFFFFFFF - 36,
    "less the header and its first chunk": 0xFFFFFFFF - 44,
    "whole blocks": 0xFFFFFFFE,
    "sox": 0x7FFFF000,
    "2 GiB less 1": 0x7FFFFFFF,
    "2 GiB less the header": 0x7FFFFFFF - 36,
    "arecord": 0x80000000,
    "gstreamer": 0,
}


@pytest.mark.parametrize("riff_size", [None, 0, 36, 0xFFFFFFFF, 0x7FFFF024])
@pytest.mark.parametrize("kind", MADE_UP)
@pytest.mark.parametrize("extra", [b"", b"\x01"])
def test_a_made_up_size_means_to_the_end_of_the_file(
    kind: str, riff_size: int | None, extra: bytes, tmp_path: Path
) -> None:
    content = riff(format_chunk(), chunk(b"data", PCM.tobytes(), MADE_UP[kind])) + extra
    if riff_size is not None:
        content = content[:4] + struct.pack("<I", riff_size) + content[8:]
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    assert check_sound(path) == SoundHeader(16000, PCM.size, 1, "PCM_16")
    assert check_sound(path).streamed
    np.testing.assert_array_equal(read_samples(path)[0][:, 0], PCM / 32768)
    header, stored = stored_sound(path, content)
    assert header.streamed
    np.testing.assert_array_equal(stored[:, 0], PCM)


@pytest.mark.parametrize("fewer", [1, 4])
def test_samples_behind_the_declared_ones_are_not_read_but_counted(fewer: int, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(riff(format_chunk(), chunk(b"data", PCM.tobytes(), 2 * (PCM.size - fewer))))
    assert (check_sound(path).num_samples, check_sound(path).undeclared) == (PCM.size - fewer, fewer)
    path.write_bytes(riff(format_chunk(), DATA, chunk(b"LIST", b"INFOx")))
    assert check_sound(path).undeclared == 0


def test_samples_in_a_second_chunk_are_more_than_the_header_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    pcm = PCM.astype("<i2").tobytes()
    path.write_bytes(riff(format_chunk(), chunk(b"data", pcm), chunk(b"data", pcm)))
    found = check_sound(path)
    # Four samples' worth of name and size.
    assert (found.num_samples, found.undeclared) == (PCM.size, PCM.size + 4)
    path.write_bytes(riff(format_chunk(), chunk(b"data", pcm), chunk(b"LIST", b"INFO"), chunk(b"data", b"")))
    assert check_sound(path).undeclared == 0


def test_an_ordinary_file_is_not_marked_as_streamed(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(riff(format_chunk(), DATA))
    assert not check_sound(path).streamed


def test_only_the_first_seconds_are_read_where_no_more_is_wanted(tmp_path: Path) -> None:
    write_wav(tmp_path / "sound.wav", np.arange(9000, dtype=np.int16), 4000)
    samples, rate = read_samples(tmp_path / "sound.wav", longest_s=1.5)
    assert rate == 4000
    np.testing.assert_array_equal(samples[:, 0] * 32768, np.arange(6000))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for read in (check_sound, read_samples):
        with pytest.raises(AudioError, match=rf"sound\.wav: cannot be read \(is a {kind}, not a regular file\)"):
            read(path)


def test_hours_of_sound_are_refused_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * 3600 * 16000 * 2
    path = tmp_path / "sound.wav"
    path.write_bytes(riff(format_chunk(), chunk(b"data", b"", size)))
    with path.open("r+b") as stream:
        stream.truncate(44 + size)  # a hole: the file takes no space
    for read in (check_sound, read_samples):
        with pytest.raises(
            AudioError, match=r"found 345,600,000 bytes of samples; expected at most .*--raise-limits 3"
        ):
            read(path)
    monkeypatch.setenv(ENVIRONMENT, "3")
    assert check_sound(path).duration_s == 3 * 3600


def test_a_hostile_file_of_many_chunks_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(riff(*[chunk(b"junk", b"")] * 2000, format_chunk(), DATA))
    with pytest.raises(AudioError, match="without a format chunk"):
        check_sound(path)


@pytest.mark.parametrize(("subtype", "channels"), [("PCM_16", 1), ("PCM_16", 2), ("FLOAT", 2), ("DOUBLE", 1)])
def test_headers_are_those_of_libsndfile(subtype: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.zeros((441, channels)), 44100, subtype=subtype)
    assert check_sound(path) == SoundHeader(44100, 441, channels, subtype)
    assert check_sound(path).duration_s == 0.01
    assert read_samples(path)[0].shape == (441, channels)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_are_put_on_the_grid_of_16_bits(subtype: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    values = np.array([0.0, 0.25, -1.0, 1.0, 1.5, -1.5, 1.4 / 32768, -1.6 / 32768])
    soundfile.write(path, values, 16000, subtype=subtype)
    expected = np.array([0, 8192, -32768, 32767, 32767, -32768, 1, -2]) / 32768
    np.testing.assert_array_equal(read_samples(path)[0][:, 0], expected)


@settings(max_examples=30)
@given(
    samples=hnp.arrays(np.int16, st.integers(1, 200)),
    rate=st.integers(4000, 384000),
)
def test_what_is_written_is_read(samples: np.ndarray, rate: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("wav") / "new" / "sound.wav"
    write_wav(path, samples, rate)
    assert check_sound(path) == SoundHeader(rate, samples.size, 1, "PCM_16")
    np.testing.assert_array_equal(read_samples(path)[0][:, 0] * 32768, samples)
    assert path.read_bytes() == riff(format_chunk(rate=rate), chunk(b"data", samples.astype("<i2").tobytes()))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("samples", [np.zeros(4), np.zeros((4, 2), np.int16), np.zeros(4, np.int32)])
def test_only_int16_is_written(samples: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"sound\.wav: found samples of dtype .* expected int16 \[S\]"):
        write_wav(tmp_path / "sound.wav", samples, 16000)
    assert not list(tmp_path.iterdir())


def test_waveforms_are_cut_or_repeat_their_last_second() -> None:
    waveform = np.arange(25.0)
    np.testing.assert_array_equal(fit_length(waveform, 10, 20), waveform[:20])
    np.testing.assert_array_equal(fit_length(waveform, 10, 25), waveform)
    np.testing.assert_array_equal(fit_length(waveform, 10, 32), [*range(25), *range(15, 22)])
    np.testing.assert_array_equal(
        fit_length(waveform, 10, 50), [*range(25), *range(15, 25), *range(15, 25), *range(15, 20)]
    )
    np.testing.assert_array_equal(fit_length(np.arange(3.0), 10, 8), [0, 1, 2, 0, 1, 2, 0, 1])


def test_a_waveform_is_the_resampled_mean_of_the_channels(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    stereo = np.random.default_rng(0).integers(-32768, 32768, (8000, 2)).astype(np.int16)
    soundfile.write(path, stereo, 8000, subtype="PCM_16")
    waveform = read_waveform(path, 16000, 24000)
    assert waveform.dtype == np.float32
    expected = resample(stereo.mean(axis=1) / 32768, 8000, 16000)
    np.testing.assert_allclose(waveform[:16000], expected, atol=1e-7)
    np.testing.assert_array_equal(waveform[16000:], waveform[:8000])


def test_a_recording_of_less_than_one_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_wav(path, np.ones(2, np.int16), 44100)
    with pytest.raises(
        AudioError, match=r"sound\.wav: found 2 samples at 44100 Hz, which is less than one at 16000 Hz"
    ):
        read_waveform(path, 16000, 16000)


@pytest.mark.parametrize(("length", "rate"), [(0, 8000), (1, 16000), (7, 44100), (5000, 384000)])
def test_a_wav_has_the_canonical_header_of_44_bytes(length: int, rate: int) -> None:
    """libsndfile writes what Python's own `wave` does: no further chunks, so that the bytes follow from the samples alone."""
    samples = np.random.default_rng(0).integers(-32768, 32768, length).astype(np.int16)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes(samples.astype("<i2").tobytes())
    content = wav_bytes(Path("a.wav"), samples, rate)
    assert content == stream.getvalue()
    assert len(content) == 44 + 2 * length
