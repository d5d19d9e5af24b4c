"""The released generator, against what running it gave (golden/README.md, pairing.json and logmel.json)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avsrobust.audio.io import write_wav
from avsrobust.building.plan import plan
from avsrobust.clips import Clip, SoundHeader
from avsrobust.conditions import reference
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.reference import Ms3Listing, Ms3Record, S4Listing
from avsrobust.datasets.taxonomy import S4_CATEGORIES, S4_SUPERCATEGORY
from avsrobust.errors import OptionError, RecipeError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "reference_generator.json").read_text())
RUNS = pytest.mark.parametrize("run", GOLDEN["runs"], ids=lambda run: f"seed{run['random_seed']}")
HEADER = SoundHeader(44100, 220500, 1, "PCM_16")


def s4_listing(run) -> S4Listing:
    # Shuffled on purpose: the functions sort by themselves.
    return S4Listing(
        {
            split: {category: tuple(reversed(tree[category])) for category in reversed(tree)}
            for split, tree in run["s4_tree"].items()
        }
    )


def ms3_listing(run) -> Ms3Listing:
    records = (row for row in run["ms3_metadata"] if row["label"] == "v1m")
    metadata = (Ms3Record(row["vid"], row["split"], tuple(row["a_obj"].split("_"))) for row in records)
    wavs = {split: tuple(reversed(stems)) for split, stems in run["ms3_wav_stems_per_split"].items()}
    return Ms3Listing(tuple(metadata), wavs)


def s4_clips(run) -> list[Clip]:
    return [
        Clip(
            "s4",
            split,
            f"{category}/{stem}",
            (category,),
            S4_CATEGORIES.supercategories([category]),
            ("f",) * 5,
            (None,) * 5,
            f"Single-source/s4_data/audio_wav/{split}/{category}/{stem}.wav",
            HEADER,
        )
        for split, tree in run["s4_tree"].items()
        for category, stems in tree.items()
        for stem in stems
    ]


@RUNS
def test_s4_partners(run):
    assert reference.partners(s4_listing(run), run["random_seed"]) == run["s4_misaligned_source"]


@RUNS
def test_ms3_partners(run):
    found = reference.partners(ms3_listing(run), run["random_seed"])
    assert found == run["ms3_misaligned_source"]
    for split, without in run["ms3_clips_that_got_no_misaligned_source"].items():
        assert not set(without) & set(found[split])


@RUNS
def test_every_sound_gets_a_noise_in_the_order_of_the_splits(run):
    for listing, kind in ((s4_listing(run), "s4"), (ms3_listing(run), "ms3")):
        order = reference.noise_order(listing)
        assert sorted(order.values()) == list(range(run["noise_clips_written"][kind]))
        splits = [split for split, _ in sorted(order, key=lambda key: order[key])]
        assert sorted(set(splits), key=splits.index) == ["test", "train", "val"]


def test_file_names_sort_with_their_ending():
    assert reference.sound_keys(Ms3Listing((), {"test": ("a", "a-b", "a1")}), "test") == ("a-b", "a", "a1")


@RUNS
def test_a_plan_of_the_whole_data_set_has_those_partners(run):
    planned = plan(s4_clips(run), load_recipe("reference"), run["random_seed"], listing=s4_listing(run))
    pairs = {
        (row.clip.split, row.clip.clip_id): row.source.clip_id for row in planned.rows if row.condition == "offscreen"
    }
    expected = {
        (split, key): source_key
        for split, chosen in run["s4_misaligned_source"].items()
        for key, source_key in chosen.items()
    }
    assert pairs == expected
    assert planned.skipped == ()
    assert {row.front_end for row in planned.rows if row.condition != "clean"} == {"librosa"}
    assert {row.front_end for row in planned.rows if row.condition == "clean"} == {"vggish"}


def test_one_split_alone_has_the_partners_and_noises_of_the_whole():
    run = GOLDEN["runs"][0]
    clips = s4_clips(run)
    val = [clip for clip in clips if clip.split == "val"]
    recipe, seed, listing = load_recipe("reference"), run["random_seed"], s4_listing(run)
    whole = plan(clips, recipe, seed, listing=listing)
    assert plan(val, recipe, seed, listing=listing).rows == tuple(row for row in whole.rows if row.clip.split == "val")


def test_a_partner_that_cannot_be_used_leaves_the_row_out():
    run = GOLDEN["runs"][0]
    chosen = run["s4_misaligned_source"]["test"]
    key, source_key = next(iter(chosen.items()))
    clips = [clip for clip in s4_clips(run) if (clip.split, clip.clip_id) != ("test", source_key)]
    planned = plan(clips, load_recipe("reference"), run["random_seed"], listing=s4_listing(run))
    reasons = {entry.clip_id: entry.reason for entry in planned.skipped}
    assert set(reasons) == {other for other, its in chosen.items() if its == source_key} - {source_key}
    assert f"partner, {source_key}, is not among the clips" in reasons[key]


@pytest.mark.parametrize("seed", sorted(GOLDEN["noise"]))
def test_the_noise_of_a_seed(seed):
    golden = GOLDEN["noise"][seed]
    noise = reference.noise(reference.noise_states(int(seed), [0])[0])
    assert noise.dtype == np.int16
    assert len(noise) == golden["n_int16_samples"] == reference.NOISE_SAMPLES
    assert hashlib.sha256(noise.astype("<i2").tobytes()).hexdigest() == golden["sha256_raw"]
    for phase in golden["per_phase_mod4"]:
        samples = noise[phase["phase"] :: 4]
        assert samples.mean() == pytest.approx(phase["mean"], rel=1e-9)
        assert samples.std() == pytest.approx(phase["std"], rel=1e-9)
        assert len(np.unique(samples)) == phase["distinct_values"]


def test_a_noise_in_the_middle_is_that_of_the_sequence():
    generator = np.random.RandomState(5)
    drawn = [generator.uniform(-1, 1, 220500) for _ in range(4)]
    states = reference.noise_states(5, [3, 1])
    assert set(states) == {1, 3}
    for order, state in states.items():
        assert np.array_equal(reference.noise(state), drawn[order].view("<i2"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning:pydub")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydub")
def test_silence_and_noise_are_the_files_that_pydub_writes(tmp_path):
    from pydub import AudioSegment

    silence, rate = reference.silence()
    noise = reference.noise(reference.noise_states(0, [0])[0])
    raw = np.random.RandomState(0).uniform(-1, 1, 220500).tobytes()
    segments = {
        "silence": (silence, rate, AudioSegment.silent(duration=5000)),
        "noise": (noise, 44100, AudioSegment(raw, frame_rate=44100, sample_width=2, channels=1)),
    }
    for name, (samples, sample_rate, segment) in segments.items():
        write_wav(tmp_path / f"{name}.wav", samples, sample_rate)
        segment.export(tmp_path / f"{name}-pydub.wav", format="wav").close()
        assert (tmp_path / f"{name}.wav").read_bytes() == (tmp_path / f"{name}-pydub.wav").read_bytes()
    assert (tmp_path / "silence.wav").stat().st_size == GOLDEN["silent"]["wav_bytes"]
    assert (tmp_path / "noise.wav").stat().st_size == GOLDEN["noise"]["0"]["wav_bytes"]


def test_a_tree_of_another_form_is_listed_from_the_table_of_clips():
    run = GOLDEN["runs"][0]
    listed = s4_clips(run)
    semantic = [replace(clip, audio=f"AVSS/v1s/{clip.clip_id}/audio.wav") for clip in listed]
    assert reference.listing_of(listed) == reference.listing_of(semantic)
    found = reference.partners(reference.listing_of(semantic), run["random_seed"])
    assert found == run["s4_misaligned_source"]


def test_a_category_that_the_release_does_not_map_gets_any_other():
    listing = S4Listing({"test": {"dog_barking": ("a",), "unmapped": ("b",)}})
    assert reference.partners(listing, 1)["test"] == {"dog_barking/a": "unmapped/b", "unmapped/b": "dog_barking/a"}


def test_a_category_without_sounds_may_be_drawn_in_vain():
    silent = {category: () for category in S4_SUPERCATEGORY if category.startswith("playing")}
    listing = S4Listing({"test": {"dog_barking": ("a",), **silent}})
    assert reference.partners(listing, 1)["test"] == {}


def test_it_does_not_know_avss():
    clip = Clip("avss", "test", "v2/x", ("dog",), ("animal",), ("f",), (None,), "AVSS/v2/x/audio.wav", HEADER)
    with pytest.raises(RecipeError, match="generator: released with the data set avss; expected s4 or ms3"):
        plan([clip], load_recipe("reference"), 42)


def test_its_seeds_have_32_bits():
    with pytest.raises(OptionError, match=r"--seed: found 4294967296; expected an integer from 0 to 4294967295"):
        plan(s4_clips(GOLDEN["runs"][0]), load_recipe("reference"), 2**32)
