"""Off-screen partners: eligibility, uniform choice, stability, fallbacks; counted over many rows."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from avsrobust.build.plan import EVERY_CLIP, Plan, plan
from avsrobust.conditions.base import Scene
from avsrobust.conditions.offscreen import Offscreen, is_eligible
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.seeds import row_seed
from avsrobust.datasets.clips import Clip, SoundHeader
from avsrobust.datasets.taxonomy import AVSS_KINDS, LEAST_SUITABLE, S4_KINDS, broad_kinds
from avsrobust.manifest import Skipped

HEADER = SoundHeader(44100, 220500, 1, "PCM_16")
STANDARD = load_recipe("standard")


def make_clip(name: str, *labels: str, dataset: str = "s4", split: str = "test") -> Clip:
    clip_id = f"{labels[0]}/{name}" if dataset == "s4" else name
    kinds = broad_kinds(dataset, labels)
    return Clip(dataset, split, clip_id, labels, kinds, ("f",) * 5, (None,) * 5, f"a/{clip_id}.wav", HEADER)


def partners(planned: Plan) -> dict[tuple[str, str], Clip]:
    return {(row.clip.split, row.clip.clip_id): row.donor for row in planned.rows if row.condition == "offscreen"}


def s4_table(per_category: int, splits=("test",)) -> list[Clip]:
    return [
        make_clip(f"x{number}", category, split=split)
        for split in splits
        for category in sorted(S4_KINDS)
        for number in range(per_category)
    ]


@st.composite
def tables(draw, dataset: str) -> list[Clip]:
    """A table of clips of one data set, in any order."""
    names = sorted(S4_KINDS if dataset == "s4" else AVSS_KINDS)
    count = 1 if dataset == "s4" else 3
    labels = st.lists(st.sampled_from(names), min_size=1, max_size=count, unique=True)
    rows = draw(st.lists(st.tuples(st.sampled_from(["train", "test"]), labels), min_size=1, max_size=24))
    return [make_clip(f"x{index}", *held, dataset=dataset, split=split) for index, (split, held) in enumerate(rows)]


def test_the_contracts_contrasts():
    assert dict(LEAST_SUITABLE) == {"music": "human", "human": "music", "animal": "human", "device": "music"}


def test_every_row_of_a_large_table_obeys_the_rule():
    clips = s4_table(4, ("train", "val", "test"))
    count = 0
    for seed in range(5):
        for row in plan(clips, STANDARD, seed).rows:
            if row.condition == "offscreen":
                kinds, others = set(row.clip.broad), set(row.donor.broad)
                assert not kinds & others
                assert not {LEAST_SUITABLE[kind] for kind in kinds} & others
                assert row.donor.split == row.clip.split
                assert row.sound.audio == f"data:{row.donor.audio}"
                count += 1
    assert count == 5 * len(clips)


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_partner_is_eligible_or_else_shares_no_category_or_else_there_is_none(dataset, data, seed):
    clips = data.draw(tables(dataset))
    planned = plan(clips, STANDARD, seed)
    chosen = partners(planned)
    left_out = {entry.clip_id for entry in planned.left_out}
    fallbacks = 0
    for clip in clips:
        others = [other for other in clips if other.split == clip.split and other != clip]
        eligible = [other for other in others if is_eligible(clip, other)]
        weaker = [other for other in others if not set(other.labels) & set(clip.labels)]
        donor = chosen.get((clip.split, clip.clip_id))
        assert (donor is None) == (not weaker) == (clip.clip_id in left_out)
        if donor is not None:
            assert donor in (eligible or weaker)
            fallbacks += not eligible
    assert any(f"offscreen: for {fallbacks} clips no sound" in note for note in planned.notes) == (fallbacks > 0)


def draws(clips: list[Clip], target: Clip, seeds: int) -> list[Clip]:
    """The partners of `target` under so many seeds of the build."""
    choose = Offscreen().prepare(Scene(target.dataset, tuple(clips), 0))
    rows = (row_seed(seed, target.dataset, target.clip_id, "offscreen", None) for seed in range(seeds))
    return [choose(target, seed, None).donor for seed in rows]


@pytest.mark.parametrize("category", ["playing_piano", "male_speech", "cat_meowing", "helicopter"])
def test_s4_draws_categories_uniformly_then_clips(category):
    # One category of every kind has ten times the clips of the others: it must not be drawn more often for that.
    large = ("dog_barking", "race_car", "playing_tabla", "female_singing")
    clips = s4_table(2) + [make_clip(f"more{number}", name) for name in large for number in range(18)]
    target = make_clip("x0", category)
    found = draws(clips, target, 6000)
    by_category = Counter(donor.labels[0] for donor in found)
    assert set(by_category) == {clip.labels[0] for clip in clips if is_eligible(target, clip)}
    assert chisquare(list(by_category.values())).pvalue > 0.001
    for name in set(large) & set(by_category):
        members = Counter(donor.clip_id for donor in found if donor.labels == (name,))
        assert len(members) == 20
        assert chisquare(list(members.values())).pvalue > 0.001


@pytest.mark.parametrize("dataset", ["ms3", "avss"])
def test_ms3_and_avss_draw_clips_uniformly(dataset):
    target = make_clip("target", "dog", dataset=dataset)
    pool = [make_clip(f"car{number}", "car", dataset=dataset) for number in range(9)]
    pool += [make_clip(f"piano{number}", "piano", "car", dataset=dataset) for number in range(3)]
    unsuitable = [make_clip(f"man{number}", "man", "car", dataset=dataset) for number in range(4)]
    donors = Counter(donor.clip_id for donor in draws([target, *pool, *unsuitable], target, 6000))
    assert set(donors) == {clip.clip_id for clip in pool}
    assert chisquare(list(donors.values())).pvalue > 0.001


def test_partners_of_different_clips_are_drawn_independently():
    clips = s4_table(6)
    dog, cat = (draws(clips, make_clip("x0", name), 3000) for name in ("dog_barking", "cat_meowing"))
    agreeing = sum(one.labels == other.labels for one, other in zip(dog, cat, strict=True))
    # 14 eligible categories each, the same ones: they agree by chance once in 14.
    assert chisquare([agreeing, 3000 - agreeing], [3000 / 14, 3000 * 13 / 14]).pvalue > 0.001


@pytest.mark.parametrize("dataset", ["s4", "ms3"])
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_removing_a_clip_changes_only_the_partners_that_were_it(dataset, data, seed):
    clips = data.draw(tables(dataset).filter(lambda drawn: len(drawn) > 1))
    gone = data.draw(st.sampled_from(clips))
    rest = [clip for clip in clips if clip != gone]
    whole, smaller = plan(clips, STANDARD, seed), plan(rest, STANDARD, seed)
    before, after = partners(whole), partners(smaller)
    for key, donor in after.items():
        # Seen the other way round, a clip is added: a partner changes only where the new clip is drawn.
        assert donor == before[key] or before[key] == gone
    for key in set(before) - set(after):
        assert before[key] == gone or key == (gone.split, gone.clip_id)
    kept = {row.key: row for row in smaller.rows if row.condition != "offscreen"}
    assert kept == {row.key: row for row in whole.rows if row.condition != "offscreen" and row.clip != gone}


@given(st.permutations(s4_table(1)), st.integers(0, 2**64 - 1))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_table_does_not_matter(shuffled, seed):
    assert plan(shuffled, STANDARD, seed) == plan(s4_table(1), STANDARD, seed)


def test_clips_of_unknown_categories_get_and_lend_nothing():
    known, other = make_clip("known", "dog", dataset="ms3"), make_clip("other", "car", dataset="ms3")
    unknown = make_clip("unknown", dataset="ms3")
    for seed in range(20):
        planned = plan([known, other, unknown], STANDARD, seed)
        assert partners(planned) == {("test", "known"): other, ("test", "other"): known}
        assert planned.left_out == (
            Skipped("unknown", "offscreen", "its categories are not known, so no sound can be told to be off-screen"),
        )


def test_an_obstacle_leaves_all_off_screen_rows_out_and_is_said_once():
    clips = [make_clip("a", dataset="ms3"), make_clip("b", dataset="ms3")]
    planned = plan(clips, STANDARD, 1, off_screen_obstacle="metadata.csv is missing")
    assert planned.left_out == (Skipped(EVERY_CLIP, "offscreen", "metadata.csv is missing"),)
    assert Counter(row.condition for row in planned.rows) == {"clean": 2, "noise": 2, "silence": 2}


def test_a_clip_alone_in_its_split_is_left_out_with_the_reason():
    planned = plan([make_clip("a", "dog_barking"), make_clip("b", "helicopter", split="val")], STANDARD, 1)
    assert [entry.reason for entry in planned.left_out] == [
        "no clip of split 'test' is free of its categories (dog_barking)",
        "no clip of split 'val' is free of its categories (helicopter)",
    ]
