"""The front ends against vectors that the papers' own code made.

tests/golden/audio_front_ends.npz holds 16-bit sounds (`*_int16`; all but the short one cut to their first 1.1 s) and what the
code of AVSBench and of AVSBench-Robust made of the whole ones; so of the cut ones the first example is compared.
"""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.audio import features
from avsrobust.audio.features import librosa_log_mel, vggish_log_mel
from avsrobust.audio.front_ends import FRONT_ENDS, log_mel_of_file
from avsrobust.audio.io import read_samples, write_wav
from avsrobust.errors import AudioError

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "audio_front_ends.npz", allow_pickle=False))
CUT = ["s0_stereo44k", "s1_mono16k", "s1_mono44k", "s2_mono48k"]
SHORT = "s0_short3p1s44k"
VGGISH_TOLERANCE, ROBUST_TOLERANCE = 1e-5, 1e-4


def sound(name: str, folder: Path) -> Path:
    path = folder / f"{name}.wav"
    soundfile.write(path, GOLDEN[f"{name}_int16"], int(GOLDEN[f"{name}_rate"]), subtype="PCM_16")
    return path


def reference_noise(folder: Path) -> Path:
    """Write the noise of AVSBench-Robust's generator for seed 0: float64 bytes, labelled 16-bit samples (20 s)."""
    path = folder / "noise.wav"
    uniform = np.random.RandomState(0).uniform(-1, 1, 220500)
    write_wav(path, uniform.view(np.int16), 44100)
    return path


@pytest.mark.parametrize("name", CUT)
def test_vggish_agrees_with_avsbench(name: str, tmp_path: Path) -> None:
    log_mel = vggish_log_mel(*read_samples(sound(name, tmp_path)))
    assert log_mel.dtype == np.float32
    assert log_mel.shape == (1, 1, 96, 64)
    np.testing.assert_allclose(log_mel[0], GOLDEN[f"{name}_vggish_example0"], rtol=0, atol=VGGISH_TOLERANCE)


def test_vggish_repeats_the_last_example_as_avsbench_does(tmp_path: Path) -> None:
    path = sound(SHORT, tmp_path)
    expected = GOLDEN[f"{SHORT}_vggish_padded"]
    assert vggish_log_mel(*read_samples(path)).shape == (3, 1, 96, 64)
    np.testing.assert_allclose(log_mel_of_file("vggish", path, 5), expected, rtol=0, atol=VGGISH_TOLERANCE)
    np.testing.assert_array_equal(log_mel_of_file("vggish", path, 2), log_mel_of_file("vggish", path, 5)[:2])


def test_vggish_agrees_with_avsbench_on_noise_and_silence(tmp_path: Path) -> None:
    samples, rate = read_samples(reference_noise(tmp_path))
    np.testing.assert_allclose(
        vggish_log_mel(samples, rate, 5), GOLDEN["noise_s0_vggish"], rtol=0, atol=VGGISH_TOLERANCE
    )
    assert vggish_log_mel(samples, rate).shape == (20, 1, 96, 64)
    np.testing.assert_allclose(
        vggish_log_mel(np.zeros(44100), 44100, 1), GOLDEN["silent_vggish"], rtol=0, atol=VGGISH_TOLERANCE
    )


def test_a_sound_shorter_than_one_example_is_padded_with_zeros() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 9000)
    padded = np.concatenate([samples, np.zeros(15600 - 9000)])
    np.testing.assert_array_equal(vggish_log_mel(samples, 16000), vggish_log_mel(padded, 16000))
    assert vggish_log_mel(samples, 16000, 5).shape == (5, 1, 96, 64)
    assert vggish_log_mel(np.ones(1), 44100, 2).shape == (2, 1, 96, 64)


@pytest.mark.parametrize(("length", "examples"), [(15599, 1), (15600, 1), (30959, 1), (30960, 2), (160000, 10)])
def test_incomplete_examples_are_dropped(length: int, examples: int) -> None:
    assert vggish_log_mel(np.zeros(length), 16000).shape == (examples, 1, 96, 64)


@settings(max_examples=20, deadline=None)
@given(seconds=st.floats(1.0, 4.0), rate=st.sampled_from([8000, 16000, 44100]), seed=st.integers(0, 2**32))
def test_vggish_is_finite_and_independent_of_what_follows(seconds: float, rate: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, int(seconds * rate))
    one = vggish_log_mel(samples, rate, 1)
    whole = vggish_log_mel(samples, rate)
    assert np.isfinite(whole).all()
    assert whole.min() >= np.log(np.float32(0.01))
    np.testing.assert_array_equal(one, whole[:1])


def test_stereo_is_the_mean_of_its_channels() -> None:
    stereo = np.random.default_rng(0).uniform(-1, 1, (16000, 2))
    np.testing.assert_array_equal(vggish_log_mel(stereo, 16000), vggish_log_mel(stereo.mean(axis=1), 16000))


def test_a_tone_falls_into_its_htk_mel_band() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    mel = [1127 * np.log(1 + hertz / 700) for hertz in (125, 1000, 7500)]
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1
    assert abs(vggish_log_mel(tone, 16000)[0, 0].mean(axis=0).argmax() - band) <= 0.5


@pytest.mark.parametrize("name", CUT)
def test_librosa_agrees_with_avsbench_robust(name: str, tmp_path: Path) -> None:
    log_mel = librosa_log_mel(sound(name, tmp_path))
    assert log_mel.dtype == np.float32
    assert log_mel.shape == (5, 1, 96, 64)
    np.testing.assert_allclose(log_mel[0], GOLDEN[f"{name}_robust_part0"], rtol=0, atol=ROBUST_TOLERANCE)


def test_librosa_agrees_with_avsbench_robust_on_a_short_sound(tmp_path: Path) -> None:
    log_mel = log_mel_of_file("librosa", sound(SHORT, tmp_path), 5)
    np.testing.assert_allclose(log_mel, GOLDEN[f"{SHORT}_robust"], rtol=0, atol=ROBUST_TOLERANCE)


def test_librosa_agrees_with_avsbench_robust_on_noise_and_silence(tmp_path: Path) -> None:
    noise = librosa_log_mel(reference_noise(tmp_path))
    np.testing.assert_allclose(noise, GOLDEN["noise_s0_robust"], rtol=0, atol=ROBUST_TOLERANCE)
    write_wav(tmp_path / "silent.wav", np.zeros(55125, np.int16), 11025)
    silent = librosa_log_mel(tmp_path / "silent.wav")
    np.testing.assert_allclose(silent, GOLDEN["silent_robust"], rtol=0, atol=ROBUST_TOLERANCE)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"), [(44100, 2, "PCM_16"), (16000, 1, "PCM_16"), (22050, 2, "FLOAT")]
)
def test_librosa_reads_what_librosa_itself_loads(
    rate: int, channels: int, subtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sound.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (rate * 3 + 17, channels)), rate, subtype=subtype)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(features, "_robust_part", lambda part: seen.append(part) or np.zeros((96, 64), np.float32))
    librosa_log_mel(path, 2)
    np.testing.assert_array_equal(np.concatenate(seen), librosa.load(path, sr=22050, duration=2.0)[0])


def test_a_stream_s_made_up_size_changes_no_feature(tmp_path: Path) -> None:
    path = reference_noise(tmp_path)
    before = {name: log_mel_of_file(name, path, 5) for name in FRONT_ENDS.names()}
    content = bytearray(path.read_bytes())
    for size in (0, 0x7FFFF000, 0xFFFFFFFF):
        content[40:44] = size.to_bytes(4, "little")
        path.write_bytes(content)
        for name in FRONT_ENDS.names():
            np.testing.assert_array_equal(log_mel_of_file(name, path, 5), before[name])


def test_librosa_takes_as_many_seconds_as_frames(tmp_path: Path) -> None:
    path = reference_noise(tmp_path)
    five, ten = librosa_log_mel(path, 5), librosa_log_mel(path, 10)
    assert ten.shape == (10, 1, 96, 64)
    np.testing.assert_allclose(ten[:4], five[:4], rtol=0, atol=ROBUST_TOLERANCE)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_every_front_end_refuses_what_is_no_sound(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"no sound")
    with pytest.raises(AudioError, match=r"sound\.wav: found a file that is not RIFF/WAVE"):
        log_mel_of_file(name, path, 5)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_every_front_end_reads_streamed_and_float_files(name: str, tmp_path: Path) -> None:
    plain, streamed, floating = (tmp_path / f"{kind}.wav" for kind in ("plain", "streamed", "floating"))
    soundfile.write(plain, GOLDEN["s1_mono44k_int16"], 44100, subtype="PCM_16")
    soundfile.write(floating, GOLDEN["s1_mono44k_int16"] / 32768, 44100, subtype="FLOAT")
    content = bytearray(plain.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    streamed.write_bytes(content)
    expected = log_mel_of_file(name, plain, 2)
    np.testing.assert_array_equal(log_mel_of_file(name, streamed, 2), expected)
    np.testing.assert_allclose(log_mel_of_file(name, floating, 2), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS.names())
def test_the_number_of_blas_threads_changes_no_bit(name: str, tmp_path: Path) -> None:
    from threadpoolctl import threadpool_limits

    path = sound("s1_mono44k", tmp_path)
    results = set()
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            results.add(log_mel_of_file(name, path, 5).tobytes())
    assert len(results) == 1


def test_the_default_rate_of_librosa_is_still_the_reference_rate(tmp_path: Path) -> None:
    assert librosa.load(sound("s1_mono16k", tmp_path))[1] == 22050
