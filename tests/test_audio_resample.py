"""The polyphase filter against resampy itself."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import resampy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import avsrobust.audio.resample as module
from avsrobust.audio.blas import one_blas_thread
from avsrobust.audio.resample import resample, to_mono
from avsrobust.errors import OptionError

# The rates of the wild, and pairs at which resampy's time register falls below whole samples.
COMMON = [
    (44100, 16000),
    (48000, 16000),
    (22050, 16000),
    (16000, 48000),
    (44100, 22050),
    (11025, 16000),
    (96000, 16000),
]
ROUNDED_BELOW = [(41600, 16000), (16900, 6500), (23800, 16000), (34300, 22050)]
EXTREME = [(384000, 4000), (4000, 384000), (7001, 4003)]
TOLERANCE = 1e-9


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, length)


def reference(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    if int(samples.size * float(target_rate) / float(source_rate)) < 1:
        return np.zeros(0)
    return resampy.resample(samples, source_rate, target_rate, filter="kaiser_best")


@pytest.mark.parametrize("length", [1, 2, 3, 100, 997, 20011])
@pytest.mark.parametrize("rates", COMMON + ROUNDED_BELOW + EXTREME)
def test_equals_resampy(rates: tuple[int, int], length: int) -> None:
    samples = noise(length)
    expected = reference(samples, *rates)
    resampled = resample(samples, *rates)
    assert resampled.shape == expected.shape
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=TOLERANCE)


@settings(max_examples=60, deadline=None)
@given(
    source=st.integers(40, 960).map(lambda rate: rate * 100),
    target=st.integers(40, 480).map(lambda rate: rate * 100),
    length=st.integers(1, 6000),
    seed=st.integers(0, 2**32),
)
def test_equals_resampy_at_any_rates(source: int, target: int, length: int, seed: int) -> None:
    samples = noise(length, seed)
    expected = reference(samples, source, target)
    resampled = resample(samples, source, target)
    assert resampled.shape == expected.shape
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=TOLERANCE)


def test_the_rounding_of_the_time_register_matters() -> None:
    """Without the second set of weights the pairs of ROUNDED_BELOW would be off; so the tests above do test it."""
    for source, target in ROUNDED_BELOW:
        a, b = (rate // math.gcd(source, target) for rate in (source, target))
        samples = noise(20011)
        bank = module._polyphase(a, b)
        expected = reference(samples, source, target)
        plain = module._filter(samples, bank, bank.parts, expected.size)
        assert np.abs(plain - expected).max() > 1e-7


@settings(max_examples=25, deadline=None)
@given(
    rates=st.sampled_from(COMMON),
    length=st.integers(1, 4000),
    gain=st.floats(-3, 3),
    seed=st.integers(0, 2**32),
)
def test_is_linear(rates: tuple[int, int], length: int, gain: float, seed: int) -> None:
    one, other = noise(length, seed), noise(length, seed + 1)
    together = resample(one + gain * other, *rates)
    np.testing.assert_allclose(together, resample(one, *rates) + gain * resample(other, *rates), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rates", [(44100, 44101), (47999, 16001)])
def test_rates_without_a_common_divisor_go_to_resampy(rates: tuple[int, int]) -> None:
    samples = noise(500)
    with mock.patch.object(resampy, "resample", wraps=resampy.resample) as spy:
        resampled = resample(samples, *rates)
    spy.assert_called_once()
    np.testing.assert_array_equal(resampled, reference(samples, *rates))


def test_common_rates_do_not_go_to_resampy() -> None:
    with mock.patch.object(resampy, "resample", side_effect=AssertionError("called")):
        for rates in COMMON:
            assert resample(noise(500), *rates).size == int(500 * rates[1] / rates[0])


def test_equal_rates_copy() -> None:
    samples = noise(10)
    resampled = resample(samples, 16000, 16000)
    np.testing.assert_array_equal(resampled, samples)
    assert not np.shares_memory(resampled, samples)


def test_nothing_gives_nothing() -> None:
    assert resample(np.zeros(0), 44100, 16000).shape == (0,)
    assert resample(np.ones(2), 44100, 16000).shape == (0,)


def test_constant_sounds_stay_constant_away_from_the_ends() -> None:
    resampled = resample(np.ones(44100), 44100, 16000)
    np.testing.assert_allclose(resampled[200:-200], 1.0, atol=1e-3)


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -5)])
def test_rates_below_one_are_refused(rates: tuple[int, int]) -> None:
    with pytest.raises(OptionError, match=rf"sample rate: found {min(rates)} Hz; expected at least 1 Hz"):
        resample(np.zeros(4), *rates)


def test_the_number_of_blas_threads_changes_no_bit() -> None:
    samples = noise(44100)
    results = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            results.append(resample(samples, 44100, 16000).tobytes())
    assert len(set(results)) == 1


def test_one_blas_thread_limits_and_gives_back() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with one_blas_thread():
        pass
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        with one_blas_thread():
            assert 1 in threads()
        assert threads() == {2}


def skip_unless_installed(resampler: str) -> None:
    try:
        importlib.import_module(resampler)
    # PyPI's torchaudio is linked against torch with CUDA: beside a torch for CPUs alone it fails with an OSError.
    except (ImportError, OSError) as error:
        pytest.skip(f"{resampler} cannot be imported: {error}")


@pytest.mark.parametrize("resampler", ["torchaudio", "soxr"])
@pytest.mark.parametrize("rates", [(44100, 16000), (16000, 44100), (48000, 16000), (22050, 16000), (7001, 4003)])
def test_other_resamplers_agree_in_the_passband(resampler: str, rates: tuple[int, int]) -> None:
    skip_unless_installed(resampler)
    source, target = rates
    time = np.arange(2 * source) / source
    samples = sum(np.sin(2 * np.pi * share * min(rates) * time + share) for share in (0.01, 0.1, 0.3, 0.4)) / 4
    resampled, expected = resample(samples, source, target, resampler), resample(samples, source, target)
    assert resampled.shape == expected.shape
    inside = slice(target // 10, -target // 10)
    np.testing.assert_allclose(resampled[inside], expected[inside], rtol=0, atol=2e-3)


@pytest.mark.parametrize("resampler", ["torchaudio", "soxr"])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 997])
def test_every_resampler_gives_the_same_length(resampler: str, length: int) -> None:
    skip_unless_installed(resampler)
    for rates in (*COMMON, (16000, 16000)):
        assert resample(noise(length), *rates, resampler).shape == resample(noise(length), *rates).shape


def test_an_unknown_resampler_is_refused() -> None:
    with pytest.raises(
        OptionError, match="resampler: found 'sox'; expected resampy, torchaudio, soxr; did you mean 'soxr'"
    ):
        resample(np.zeros(4), 44100, 16000, "sox")


# What PyPI's torchaudio 2.11 raises beside a torch for CPUs alone; a package that does it stands in for it.
OF_CUDA = """
try:
    raise OSError("libc10_cuda.so: cannot open shared object file: No such file or directory")
except OSError as error:
    raise OSError("Could not load this library: torchaudio/lib/_torchaudio.abi3.so") from error
"""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (OF_CUDA, "asks for CUDA libraries that the torch here lacks"),
        ("raise OSError('undefined symbol: aoti_torch_abi_version')", "is of another torch than the one here"),
    ],
)
def test_an_installed_torchaudio_is_not_to_be_installed_again(
    content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio/__init__.py").write_text(content, encoding="utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(OptionError, match=r"resampler torchaudio: is installed, but cannot be imported") as caught:
        resample(np.zeros(4), 44100, 22050, "torchaudio")
    told = str(caught.value)
    assert f"its compiled part {reason} ({torch.__version__}); install torch and torchaudio from one index" in told
    assert "pip install" not in told
    assert len(told.splitlines()) == 1


def test_a_missing_torchaudio_is_one_line() -> None:
    with (
        mock.patch.dict("sys.modules", {"torchaudio": None, "torchaudio.functional": None}),
        pytest.raises(
            OptionError, match=r"resampler torchaudio: cannot be imported .*pip install avsrobust\[torchaudio\]"
        ),
    ):
        resample(np.zeros(4), 44100, 22050, "torchaudio")


@pytest.mark.parametrize("channels", range(1, 10))
def test_mono_is_the_mean_of_the_channels_to_the_bit(channels: int) -> None:
    generator = np.random.default_rng(channels)
    samples = generator.uniform(-1, 1, (4001, channels)) * 10.0 ** generator.integers(-300, 1, (4001, channels))
    samples[:100:2], samples[100:200] = -0.0, 0.0
    before = samples.copy()
    assert to_mono(samples).tobytes() == samples.mean(axis=1).tobytes()
    assert to_mono(np.asfortranarray(samples)).tobytes() == np.asfortranarray(samples).mean(axis=1).tobytes()
    assert samples.tobytes() == before.tobytes()
    assert to_mono(samples[:, 0]).tobytes() == samples[:, 0].tobytes()
