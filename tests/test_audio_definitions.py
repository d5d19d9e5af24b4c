"""Definitions of sounds: ratios, levels and loudness as requested; texts from anywhere; nothing is taken for granted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avsrobust.audio import loudness, mixing
from avsrobust.audio.definitions import (
    Definition,
    Gain,
    Keep,
    Level,
    Lowpass,
    Match,
    Mix,
    Noise,
    Recording,
    Rendered,
    Shift,
    Zeros,
    files_of,
    parse_definition,
    rate_and_length,
    render,
    render_samples,
    to_text,
    white_noise,
)
from avsrobust.errors import AudioError

RATE, LENGTH = 8000, 8000
Samples = NDArray[np.float64]


def tone(hertz: float, amplitude: float = 0.3, rate: int = RATE, length: int = LENGTH) -> Samples:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(length) / rate)


def clicks() -> Samples:
    """A faint sound with peaks 100 times as high: no gain makes it loud within full scale."""
    samples = tone(300, 0.003)
    samples[::1000] = 0.3
    return samples


FILES: dict[str, tuple[Samples, int]] = {
    "data:own.wav": (np.round(tone(440) * 32768)[:, None] / 32768, RATE),
    "data:loud.wav": (tone(200, 0.99)[:, None], RATE),
    "data:stereo.wav": (np.stack([tone(440), tone(100)], axis=1), RATE),
    "data:opposed.wav": (np.stack([tone(440), -tone(440)], axis=1), RATE),
    "data:short.wav": (tone(440, length=3000)[:, None], RATE),
    "data:other_rate.wav": (tone(440, rate=16000, length=16000)[:, None], 16000),
    "data:silent.wav": (np.zeros((LENGTH, 1)), RATE),
    "data:clicks.wav": (clicks()[:, None], RATE),
    "data:extremes.wav": (np.array([-1.0, 32767 / 32768] * (LENGTH // 2))[:, None], RATE),
}


def read(name: str, seconds: float) -> tuple[Samples, int]:
    return FILES[name]


def recording(name: str, **more: float) -> Recording:
    return Recording(file=f"data:{name}.wav", sample_rate=RATE, num_samples=LENGTH, **more)


def noise(color: str = "white", seed: int = 1) -> Noise:
    return Noise(color=color, seed=seed, sample_rate=RATE, num_samples=LENGTH)


def floats(rendered: Rendered) -> Samples:
    return rendered.samples / 32768


# What is requested and what comes of it


@pytest.mark.parametrize("ratio_db", [-6.0, -3.0, 0.0, 3.0, 6.0, 20.0, 40.0])
@pytest.mark.parametrize(
    "added", [noise(), noise("gaussian"), noise("pink"), recording("loud"), recording("other_rate"), recording("short")]
)
@pytest.mark.parametrize("own", ["own", "stereo", "loud"])
def test_a_mixture_has_its_ratio(own: str, added: Definition, ratio_db: float) -> None:
    made = render(Mix(base=recording(own), added=added, ratio_db=ratio_db), read)
    base = render_samples(recording(own), read) * 10 ** (made.gain_db / 20)
    rest = floats(made) - base
    assert mixing.power_db(base) - mixing.power_db(rest) == pytest.approx(ratio_db, abs=0.1)
    assert made.num_clipped == 0
    assert np.abs(floats(made)).max() <= 1


@settings(max_examples=25, deadline=None)
@given(st.floats(-20, 40), st.integers(0, 2**64 - 1), st.sampled_from(["white", "gaussian", "pink"]))
def test_any_ratio_with_any_noise(ratio_db: float, seed: int, color: str) -> None:
    made = render(Mix(base=recording("own"), added=noise(color, seed), ratio_db=ratio_db), read)
    base = render_samples(recording("own"), read) * 10 ** (made.gain_db / 20)
    assert mixing.power_db(base) - mixing.power_db(floats(made) - base) == pytest.approx(ratio_db, abs=0.1)


def test_a_mixture_that_would_clip_is_scaled_as_a_whole_and_says_so() -> None:
    made = render(Mix(base=recording("loud"), added=noise("gaussian"), ratio_db=0.0), read)
    assert made.gain_db < 0
    assert np.abs(floats(made)).max() == pytest.approx(mixing.HIGHEST, abs=1e-4)


@pytest.mark.parametrize("color", ["gaussian", "pink"])
@pytest.mark.parametrize("rms_db", [-40.0, -18.0])
def test_a_level_is_met(color: str, rms_db: float) -> None:
    made = render(Level(base=noise(color), rms_db=rms_db), read)
    assert mixing.power_db(floats(made)) == pytest.approx(rms_db, abs=0.05)
    assert (made.gain_db, made.num_clipped) == (0.0, 0)


@pytest.mark.parametrize("base", [noise(), noise("pink"), recording("stereo"), recording("clicks"), recording("short")])
@pytest.mark.parametrize("reference", ["own", "stereo", "short"])
def test_a_match_is_as_loud_as_its_reference(base: Definition, reference: str) -> None:
    made = render(Match(base=base, reference=recording(reference)), read)
    expected = loudness.integrated_loudness(render_samples(recording(reference), read), RATE)
    assert loudness.integrated_loudness(floats(made), RATE) == pytest.approx(expected, abs=0.1)
    assert made.gain_db == 0.0


def test_a_match_beyond_full_scale_is_clipped_and_says_so() -> None:
    made = render(Match(base=recording("clicks"), reference=recording("own")), read)
    assert made.num_clipped >= LENGTH // 1000
    assert np.abs(made.samples).max() == 32767


def test_a_gain_is_met_and_clips_as_a_recorder_does() -> None:
    quiet = render(Gain(base=recording("own"), gain_db=-20.0), read)
    assert np.abs(floats(quiet) - 0.1 * render_samples(recording("own"), read)).max() <= 0.5 / 32768
    loud = render(Gain(base=recording("own"), gain_db=20.0), read)
    beyond = np.abs(render_samples(recording("own"), read)) * 10 > mixing.HIGHEST
    assert loud.num_clipped == beyond.sum() > 0
    assert (np.abs(loud.samples[beyond]) == 32767).all()


@pytest.mark.parametrize("cutoff_hz", [2000.0, 1000.0])
def test_a_lowpass_takes_6_db_at_its_level_and_nothing_an_octave_below(cutoff_hz: float) -> None:
    for hertz, low, high in ((cutoff_hz, -6.2, -5.9), (cutoff_hz / 2, -0.01, 0.01), (cutoff_hz * 1.8, -np.inf, -60)):
        FILES["data:tone.wav"] = (tone(hertz)[:, None], RATE)
        made = render(Lowpass(base=recording("tone"), cutoff_hz=cutoff_hz), read)
        middle = slice(1000, 7000)
        change = mixing.power_db(floats(made)[middle]) - mixing.power_db(tone(hertz)[middle])
        assert low <= change <= high, hertz


def test_a_lowpass_at_half_the_rate_takes_nothing() -> None:
    assert np.array_equal(
        render(Lowpass(base=recording("own"), cutoff_hz=RATE / 2), read).samples, render(recording("own"), read).samples
    )


@pytest.mark.parametrize("by_s", [0.25, -0.25, 0.0, 1.0])
def test_a_shift_moves_the_samples_and_changes_none(by_s: float) -> None:
    own = render(recording("extremes"), read).samples
    made = render(Shift(base=recording("extremes"), by_s=by_s), read)
    assert np.array_equal(made.samples, np.roll(own, round(by_s * RATE)))
    assert own.min() == -32768
    assert made.gain_db == 0.0


def test_keep_silences_the_rest() -> None:
    own = render(recording("own"), read).samples
    made = render(Keep(base=recording("own"), from_s=0.25, to_s=0.5), read).samples
    assert np.array_equal(made[2000:4000], own[2000:4000])
    assert not made[:2000].any()
    assert not made[4000:].any()


def test_noise_comes_from_its_seed_alone() -> None:
    for color in ("white", "gaussian", "pink"):
        first = render_samples(noise(color, 5), read)
        assert np.array_equal(first, render_samples(noise(color, 5), read))
        assert not np.array_equal(first, render_samples(noise(color, 6), read))
    assert np.array_equal(render(noise(), read).samples, white_noise(1, LENGTH))


def test_a_recording_is_made_mono_cut_repeated_and_resampled() -> None:
    assert np.allclose(render_samples(recording("stereo"), read), (tone(440) + tone(100)) / 2)
    short = tone(440, length=3000)
    assert np.array_equal(render_samples(recording("short"), read), np.resize(short, LENGTH))
    later = render_samples(recording("own", start_s=0.5), read)
    assert np.array_equal(later[:4000], FILES["data:own.wav"][0][4000:, 0])
    resampled = render_samples(recording("other_rate"), read)
    assert np.abs(resampled[500:7000] - tone(440)[500:7000]).max() < 0.001
    with pytest.raises(AudioError, match=r"data:short.wav: found no samples from 2 s on"):
        render(recording("short", start_s=2.0), read)


# Silence


@pytest.mark.parametrize(
    "silent", [Zeros(sample_rate=RATE, num_samples=LENGTH), recording("silent"), recording("opposed")]
)
def test_a_silent_part_has_no_level_to_set_and_is_reported(silent: Definition) -> None:
    own = recording("own")
    for definition, same in (
        (Mix(base=own, added=silent, ratio_db=0.0), own),
        (Mix(base=silent, added=own, ratio_db=0.0), own),
        (Level(base=silent, rms_db=-18.0), silent),
        (Match(base=silent, reference=own), silent),
        (Match(base=own, reference=silent), silent),
    ):
        made = render(definition, read)
        assert made.has_silent_part
        assert np.array_equal(made.samples, render(same, read).samples)
    assert not render(own, read).has_silent_part


# Texts


def definitions(depth: int = 3) -> st.SearchStrategy[Definition]:
    leaves: st.SearchStrategy[Definition] = st.one_of(
        st.sampled_from([recording(name.removeprefix("data:").removesuffix(".wav")) for name in FILES]),
        st.just(Zeros(sample_rate=RATE, num_samples=LENGTH)),
        st.builds(noise, st.sampled_from(["white", "gaussian", "pink"]), st.integers(0, 2**64 - 1)),
    )
    decibels = st.floats(-200, 200)
    seconds = st.floats(-86_400, 86_400)

    def extend(base: st.SearchStrategy[Definition]) -> st.SearchStrategy[Definition]:
        return st.one_of(
            st.builds(Mix, base=base, added=base, ratio_db=decibels),
            st.builds(Level, base=base, rms_db=decibels),
            st.builds(Match, base=base, reference=base),
            st.builds(Gain, base=base, gain_db=decibels),
            st.builds(Lowpass, base=base, cutoff_hz=st.floats(0, 1e6, exclude_min=True)),
            st.builds(Shift, base=base, by_s=seconds),
            st.builds(Keep, base=base, from_s=seconds, to_s=seconds),
        )

    return st.recursive(leaves, extend, max_leaves=depth)


@settings(max_examples=60, deadline=None)
@given(definitions())
def test_every_definition_survives_its_text_and_makes_a_sound_or_says_why_not(definition: Definition) -> None:
    text = to_text(definition)
    assert "\n" not in text
    again = parse_definition(text)
    assert again == definition
    assert to_text(again) == text
    assert rate_and_length(again) == (RATE, LENGTH)
    assert set(files_of(again)) <= set(FILES)
    with suppress(AudioError):
        made = render(again, read)
        assert made.samples.dtype == np.int16
        assert made.samples.shape == (LENGTH,)


def nested(depth: int) -> str:
    text = to_text(Zeros(sample_rate=RATE, num_samples=LENGTH))
    for _ in range(depth):
        text = f'{{"op":"gain","gain_db":0.0,"base":{text}}}'
    return text


HOSTILE = {
    "nothing": "",
    "no json": "{",
    "a list": "[]",
    "unknown op": '{"op": "system", "command": "ls"}',
    "unknown key": to_text(Zeros(sample_rate=RATE, num_samples=LENGTH))[:-1] + ',"extra":1}',
    "no length": '{"op":"zeros","sample_rate":8000}',
    "a negative length": '{"op":"zeros","sample_rate":8000,"num_samples":-1}',
    "a text as length": '{"op":"zeros","sample_rate":8000,"num_samples":"8000"}',
    "a huge length": '{"op":"zeros","sample_rate":8000,"num_samples":1000000000000}',
    "a large length": '{"op":"zeros","sample_rate":8000,"num_samples":99999999}',
    "no number": '{"op":"gain","gain_db":NaN,"base":{"op":"zeros","sample_rate":8000,"num_samples":8}}',
    "too loud": '{"op":"gain","gain_db":1e9,"base":{"op":"zeros","sample_rate":8000,"num_samples":8}}',
    "nested": nested(3000),
    "uneven": to_text(Mix(base=noise(), added=Zeros(sample_rate=RATE, num_samples=1), ratio_db=0.0)),
    "two rates": to_text(Mix(base=noise(), added=Zeros(sample_rate=4000, num_samples=LENGTH), ratio_db=0.0)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_one_line_and_takes_no_memory(
    text: str, peak_above: Callable[[Callable[[], object]], int | None]
) -> None:
    def refused() -> None:
        with pytest.raises(AudioError, match=r"a definition") as caught:
            parse_definition(text)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600

    grown = peak_above(refused)
    assert grown is None or grown < 64 << 20


def test_many_large_sounds_together_are_too_many() -> None:
    large = Zeros(sample_rate=48000, num_samples=40_000_000)
    parse_definition(to_text(large))
    with pytest.raises(AudioError, match=r"--raise-limits 2"):
        parse_definition(to_text(Mix(base=large, added=large, ratio_db=0.0)))


def test_what_becomes_no_number_is_refused() -> None:
    definition: Definition = noise()
    for _ in range(40):
        definition = Gain(base=definition, gain_db=200.0)
    with pytest.raises(AudioError, match="become no numbers"):
        render(Mix(base=definition, added=noise(), ratio_db=0.0), read)


def test_readers_are_asked_for_as_much_as_is_needed() -> None:
    asked: list[tuple[str, float]] = []

    def remember(name: str, seconds: float) -> tuple[Samples, int]:
        asked.append((name, seconds))
        return FILES[name]

    reader: Callable[[str, float], tuple[Samples, int]] = remember
    render(recording("own", start_s=0.25), reader)
    assert asked == [("data:own.wav", 1.25)]
