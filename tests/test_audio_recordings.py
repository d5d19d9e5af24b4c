"""Recordings of any format: what soundfile reads, what ffmpeg reads, and what is refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avsrobust.audio import recordings
from avsrobust.audio.io import read_samples
from avsrobust.audio.recordings import SUFFIXES, read_recording
from avsrobust.errors import AudioError
from avsrobust.limits import ENVIRONMENT, SOUND_BYTES, Limit

UNSEEN = Path(__file__).parents[2] / "shared" / "unseen_audio"
RATE = 22050
ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg is not installed"
)


def tone(seconds: float = 1.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.stack([np.sin(2 * np.pi * 440 * (channel + 1) * time) for channel in range(channels)], axis=1)


def convert(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return target


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "tone.wav", tone(), RATE, subtype="PCM_16")
    return tmp_path / "tone.wav"


def test_accepted_wavs_are_read_as_data_sets_are(wav: Path) -> None:
    samples, rate = read_recording(wav)
    expected, expected_rate = read_samples(wav)
    np.testing.assert_array_equal(samples, expected)
    assert rate == expected_rate


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.flac", "PCM_24", 2**-23),
        ("a.flac", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 0.02),
        ("a.aiff", "PCM_16", 2**-15),
        ("a.ogg", "VORBIS", 0.1),
    ],
)
def test_soundfile_reads_rates_and_channels_as_they_are(
    tmp_path: Path, name: str, subtype: str, tolerance: float
) -> None:
    sound = tone(channels=3 if subtype.startswith("PCM") else 2)
    soundfile.write(tmp_path / name, sound, RATE, subtype=subtype)
    samples, rate = read_recording(tmp_path / name)
    assert (rate, samples.dtype, samples.shape) == (RATE, np.float64, sound.shape)
    np.testing.assert_allclose(samples, sound, rtol=0, atol=tolerance)


def test_the_content_decides_and_not_the_name(tmp_path: Path, wav: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(), RATE, subtype="PCM_16")
    (tmp_path / "a.flac").rename(tmp_path / "a.mp3")
    np.testing.assert_allclose(read_recording(tmp_path / "a.mp3")[0], read_recording(wav)[0], rtol=0, atol=2**-15)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_no_more_than_asked_is_decoded(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tone(10), RATE)
    samples, _ = read_recording(tmp_path / name, longest_s=0.5)
    assert len(samples) == RATE // 2
    np.testing.assert_array_equal(samples, read_recording(tmp_path / name)[0][: RATE // 2])
    assert len(read_recording(tmp_path / name, longest_s=99)[0]) == 10 * RATE


@ffmpeg
@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.mp3", (), 0.1),
        ("a.m4a", (), 0.1),
        ("a.wma", (), 0.1),
        ("alac.m4a", ("-c:a", "alac"), 2**-15),
        ("adpcm.avi", ("-c:a", "adpcm_ima_wav"), 0.1),
        ("a.mkv", ("-c:a", "flac"), 2**-15),
        ("spaced name.ts", ("-c:a", "mp2"), 0.1),
    ],
)
def test_ffmpeg_reads_the_rest(
    tmp_path: Path, wav: Path, name: str, options: tuple[str, ...], tolerance: float
) -> None:
    path = convert(wav, tmp_path / name, *options)
    samples, rate = read_recording(path)
    assert (rate, samples.dtype, samples.shape[1]) == (RATE, np.float64, 2)
    assert abs(len(samples) - RATE) < 0.15 * RATE
    # Encoders put silence before and behind: compare from the best offset on.
    sound = tone()[4000:8000]
    offsets = range(max(1, len(samples) - 8000))
    errors = [float(np.abs(samples[4000 + k : 8000 + k] - sound).max()) for k in offsets if len(samples) >= 8000 + k]
    assert min(errors) <= tolerance
    cut, _ = read_recording(path, longest_s=0.25)
    assert len(cut) == -(-RATE // 4)
    np.testing.assert_allclose(cut, samples[: len(cut)], rtol=0, atol=2**-14)


@ffmpeg
def test_the_sound_of_a_video_is_read(tmp_path: Path, wav: Path) -> None:
    path = tmp_path / "clip.mp4"
    picture = ["-f", "lavfi", "-i", "color=red:size=32x32:rate=5:duration=1"]
    command = ["ffmpeg", "-v", "error", *picture, "-i", str(wav), "-c:v", "mpeg4", "-c:a", "aac", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    samples, rate = read_recording(path)
    assert rate == RATE
    assert np.sqrt((samples**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@ffmpeg
def test_a_lossless_format_gives_the_same_samples_through_ffmpeg(tmp_path: Path, wav: Path) -> None:
    path = convert(wav, tmp_path / "a.m4a", "-c:a", "alac")
    np.testing.assert_array_equal(read_recording(path)[0], read_samples(wav)[0])


@ffmpeg
def test_what_soundfile_cannot_decode_goes_to_ffmpeg(tmp_path: Path, wav: Path) -> None:
    path = convert(wav, tmp_path / "a.wav", "-c:a", "ac3", "-ar", "44100", "-f", "wav")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.SoundFile(path)
    samples, rate = read_recording(path)
    assert (rate, samples.shape[1]) == (44100, 2)


@ffmpeg
def test_names_are_no_options_and_no_addresses(tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mp3 = convert(wav, tmp_path / "a.mp3")
    for name in ("-i.mp3", "http:evil.mp3", "concat:a.mp3"):
        shutil.copy(mp3, tmp_path / name)
        assert len(read_recording(name)[0])


@ffmpeg
def test_playlists_are_refused(tmp_path: Path, wav: Path) -> None:
    convert(wav, tmp_path / "a.ts", "-c:a", "mp2")
    playlist = tmp_path / "list.mp3"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError, match=r"list\.mp3: found (the format hls|nothing that ffmpeg can read)"):
        read_recording(playlist)
    playlist.write_text("ffconcat version 1.0\nfile a.ts\n")
    with pytest.raises(AudioError, match=r"list\.mp3: found (the format concat|nothing that ffmpeg can read)"):
        read_recording(playlist)


@ffmpeg
def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    picture = ["-f", "lavfi", "-i", "color=red:size=32x32:rate=5:duration=1"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-c:v", "mpeg4", str(path)], check=True)
    with pytest.raises(AudioError, match=r"mute\.mp4: found no sound in it; expected a recording"):
        read_recording(path)


@ffmpeg
@pytest.mark.parametrize("content", [b"hello, I am no sound", b"\0" * 4000, bytes(range(256)) * 40, b"ID3"])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.mp3: (found|ffmpeg cannot decode)") as caught:
        read_recording(tmp_path / "a.mp3")
    assert "\n" not in str(caught.value)


def test_without_ffmpeg_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp3").write_bytes(b"ID3" + b"\0" * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AudioError,
        match=r"a\.mp3: found a format that needs ffmpeg, and ffmpeg and ffprobe is not on the PATH; .*install it",
    ):
        read_recording(tmp_path / "a.mp3")


def test_a_truncated_wav_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE, subtype="PCM_24")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-1000])
    with pytest.raises(
        AudioError, match=r"a\.wav: found \d+ bytes of samples where its header declares \d+ \(truncated\)"
    ):
        read_recording(tmp_path / "a.wav")


def test_a_truncated_flac_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 30000), RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"a\.flac: found a damaged or truncated file; expected a whole recording"):
        read_recording(tmp_path / "a.flac")


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN or infinite samples"), (np.inf, "NaN or inf"), (3e4, r"samples up to 30000")]
)
def test_floats_that_are_no_sound_are_refused(tmp_path: Path, value: float, message: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, value, 0.0]), RATE, subtype="DOUBLE")
    with pytest.raises(AudioError, match=rf"a\.wav: found {message}"):
        read_recording(tmp_path / "a.wav")


def test_missing_empty_and_irregular_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"a\.flac: found no file; expected a recording"):
        read_recording(tmp_path / "a.flac")
    (tmp_path / "a.flac").touch()
    with pytest.raises(AudioError, match=r"a\.flac: found an empty file"):
        read_recording(tmp_path / "a.flac")
    os.mkfifo(tmp_path / "a.ogg")
    with pytest.raises(AudioError, match=r"a\.ogg: cannot be read \(is a pipe, not a regular file\)"):
        read_recording(tmp_path / "a.ogg")
    with pytest.raises(AudioError, match=r"cannot be read"):
        read_recording(tmp_path)
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE, subtype="PCM_24")
    with pytest.raises(AudioError, match=r"none\.wav: found 0 samples"):
        read_recording(tmp_path / "none.wav")


@pytest.mark.parametrize("name", ["a.flac", pytest.param("a.mp3", marks=ffmpeg)])
def test_size_is_bounded(tmp_path: Path, wav: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if name.endswith("mp3"):
        convert(wav, path)
    else:
        soundfile.write(path, tone(), RATE)
    limit = Limit(RATE * 2 * 2 - 4, SOUND_BYTES.unit, SOUND_BYTES.reason)
    monkeypatch.setattr(recordings, "SOUND_BYTES", limit)
    with pytest.raises(AudioError, match=rf"{name}: found a recording of more than .*--raise-limits 2"):
        read_recording(path)
    assert len(read_recording(path, longest_s=60)[0]) == RATE - 1
    monkeypatch.setenv(ENVIRONMENT, "2")
    assert len(read_recording(path)[0]) >= RATE


def test_unlikely_rates_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(rate=2000), 2000)
    with pytest.raises(AudioError, match=r"a\.flac: found a sample rate of 2000 Hz; expected 4000\.\.384000 Hz"):
        read_recording(tmp_path / "a.flac")


@pytest.mark.skipif(not UNSEEN.is_dir(), reason="no shared recordings here")
def test_real_recordings_are_read() -> None:
    paths = sorted(path for path in UNSEEN.iterdir() if path.suffix in SUFFIXES)
    assert len(paths) == 15
    for path in paths:
        samples, rate = read_recording(path)
        info = soundfile.info(path)
        assert (rate, *samples.shape) == (info.samplerate, info.frames, info.channels)
