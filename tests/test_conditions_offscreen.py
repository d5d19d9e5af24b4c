"""Off-screen partners: eligibility, uniform choice, stability, fallbacks; counted over many rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from avsrobust.building.plan import EVERY_CLIP, Plan, plan
from avsrobust.clips import Clip, SoundHeader
from avsrobust.conditions.base import PlannedDataset, Request
from avsrobust.conditions.offscreen import Offscreen
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.seeds import row_seed
from avsrobust.conditions.source_clips import is_eligible
from avsrobust.datasets.taxonomy import (
    AVSS_CATEGORIES,
    AVSS_SUPERCATEGORY,
    LEAST_SUITABLE,
    S4_CATEGORIES,
    S4_SUPERCATEGORY,
)
from avsrobust.errors import RecipeError
from avsrobust.manifest import Skipped

HEADER = SoundHeader(44100, 220500, 1, "PCM_16")
STANDARD = load_recipe("standard")


def make_clip(name: str, *labels: str, dataset: str = "s4", split: str = "test") -> Clip:
    clip_id = f"{labels[0]}/{name}" if dataset == "s4" else name
    kinds = (S4_CATEGORIES if dataset == "s4" else AVSS_CATEGORIES).supercategories(labels)
    return Clip(dataset, split, clip_id, labels, kinds, ("f",) * 5, (None,) * 5, f"a/{clip_id}.wav", HEADER)


def partners(planned: Plan) -> dict[tuple[str, str], Clip]:
    return {(row.clip.split, row.clip.clip_id): row.source for row in planned.rows if row.condition == "offscreen"}


def s4_table(per_category: int, splits=("test",)) -> list[Clip]:
    return [
        make_clip(f"x{number}", category, split=split)
        for split in splits
        for category in sorted(S4_SUPERCATEGORY)
        for number in range(per_category)
    ]


@st.composite
def tables(draw, dataset: str) -> list[Clip]:
    """A table of clips of one data set, in any order."""
    names = sorted(S4_SUPERCATEGORY if dataset == "s4" else AVSS_SUPERCATEGORY)
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
                kinds, others = set(row.clip.broad), set(row.source.broad)
                assert not kinds & others
                assert not {LEAST_SUITABLE[kind] for kind in kinds} & others
                assert row.source.split == row.clip.split
                assert row.sound.audio == f"data:{row.source.audio}"
                count += 1
    assert count == 5 * len(clips)


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_partner_is_eligible_or_else_shares_no_category_or_else_there_is_none(dataset, data, seed):
    clips = data.draw(tables(dataset))
    planned = plan(clips, STANDARD, seed)
    chosen = partners(planned)
    skipped = {entry.clip_id for entry in planned.skipped}
    fallbacks = 0
    for clip in clips:
        others = [other for other in clips if other.split == clip.split and other != clip]
        eligible = [other for other in others if is_eligible(clip, other)]
        weaker = [other for other in others if not set(other.labels) & set(clip.labels)]
        source = chosen.get((clip.split, clip.clip_id))
        assert (source is None) == (not weaker) == (clip.clip_id in skipped)
        if source is not None:
            assert source in (eligible or weaker)
            fallbacks += not eligible
    assert any(f"offscreen: for {fallbacks} clips no sound" in note for note in planned.notes) == (fallbacks > 0)


def draws(clips: list[Clip], target: Clip, seeds: int) -> list[Clip]:
    """The partners of `target` under so many seeds of the build."""
    choose = Offscreen().prepare(PlannedDataset(target.dataset, tuple(clips), 0))
    rows = (row_seed(seed, target.dataset, target.clip_id, "offscreen", None) for seed in range(seeds))
    return [
        choose(Request("offscreen", target, None, 0, seed, lambda level, draw, seed=seed: seed)).source for seed in rows
    ]


@pytest.mark.parametrize("category", ["playing_piano", "male_speech", "cat_meowing", "helicopter"])
def test_s4_draws_categories_uniformly_then_clips(category):
    # One category of every kind has ten times the clips of the others: it must not be drawn more often for that.
    large = ("dog_barking", "race_car", "playing_tabla", "female_singing")
    clips = s4_table(2) + [make_clip(f"more{number}", name) for name in large for number in range(18)]
    target = make_clip("x0", category)
    found = draws(clips, target, 6000)
    by_category = Counter(source.labels[0] for source in found)
    assert set(by_category) == {clip.labels[0] for clip in clips if is_eligible(target, clip)}
    assert chisquare(list(by_category.values())).pvalue > 0.001
    for name in set(large) & set(by_category):
        members = Counter(source.clip_id for source in found if source.labels == (name,))
        assert len(members) == 20
        assert chisquare(list(members.values())).pvalue > 0.001


@pytest.mark.parametrize("dataset", ["ms3", "avss"])
def test_ms3_and_avss_draw_clips_uniformly(dataset):
    target = make_clip("target", "dog", dataset=dataset)
    pool = [make_clip(f"car{number}", "car", dataset=dataset) for number in range(9)]
    pool += [make_clip(f"piano{number}", "piano", "car", dataset=dataset) for number in range(3)]
    unsuitable = [make_clip(f"man{number}", "man", "car", dataset=dataset) for number in range(4)]
    sources_drawn = Counter(source.clip_id for source in draws([target, *pool, *unsuitable], target, 6000))
    assert set(sources_drawn) == {clip.clip_id for clip in pool}
    assert chisquare(list(sources_drawn.values())).pvalue > 0.001


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
    for key, source in after.items():
        # Seen the other way round, a clip is added: a partner changes only where the new clip is drawn.
        assert source == before[key] or before[key] == gone
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
        assert planned.skipped == (
            Skipped("unknown", "offscreen", "its categories are not known, so no sound can be told to be off-screen"),
        )


def test_an_obstacle_leaves_all_off_screen_rows_out_and_is_said_once():
    clips = [make_clip("a", dataset="ms3"), make_clip("b", dataset="ms3")]
    planned = plan(clips, STANDARD, 1, off_screen_obstacle="metadata.csv is missing")
    assert planned.skipped == (Skipped(EVERY_CLIP, "offscreen", "metadata.csv is missing"),)
    assert Counter(row.condition for row in planned.rows) == {"clean": 2, "noise": 2, "silence": 2}


def test_a_clip_alone_in_its_split_is_left_out_with_the_reason():
    planned = plan([make_clip("a", "dog_barking"), make_clip("b", "helicopter", split="val")], STANDARD, 1)
    assert [entry.reason for entry in planned.skipped] == [
        "no clip of split 'test' is free of its categories (dog_barking)",
        "no clip of split 'val' is free of its categories (helicopter)",
    ]


def without_label(name: str, dataset: str = "avss", split: str = "test") -> Clip:
    """A clip of which the data set itself says that nothing on screen sounds."""
    return Clip(dataset, split, name, (), (), ("f",) * 5, (None,) * 5, f"a/{name}.wav", HEADER, has_no_label=True)


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_a_clip_without_an_on_screen_label_draws_from_all_labelled_clips_alike_and_lends_nothing(dataset):
    names = ("dog_barking", "male_speech", "race_car") if dataset == "s4" else ("dog", "man", "car")
    labelled = [make_clip(f"x{number}", names[number % 5 // 2], dataset=dataset) for number in range(10)]
    elsewhere = make_clip("other", names[0], dataset=dataset, split="train")
    silent = replace(make_clip("muted", names[0], dataset=dataset), is_muted=True)
    target, second = without_label("target", dataset), without_label("second", dataset)
    table = [target, second, silent, elsewhere, *labelled]
    found = Counter(source.clip_id for source in draws(table, target, 6000))
    assert set(found) == {clip.clip_id for clip in labelled}
    assert chisquare(list(found.values())).pvalue > 0.001
    for seed in range(40):
        planned = plan(table, STANDARD, seed)
        assert not {"target", "second"} & {source.clip_id for source in partners(planned).values()}
        assert set(partners(planned)) >= {("test", "target"), ("test", "second")}
        rows = [row for row in planned.rows if row.clip == target]
        assert [row.condition for row in rows] == ["clean", "noise", "offscreen", "silence"]
        assert not any("no sound of a suitable other kind" in note and "target" in note for note in planned.notes)


def test_the_partner_of_a_clip_without_a_label_changes_only_with_the_one_that_went():
    labelled = [make_clip(f"x{number}", "dog", dataset="avss") for number in range(12)]
    targets = [without_label(f"t{number}") for number in range(30)]
    before = partners(plan([*targets, *labelled], STANDARD, 42))
    after = partners(plan([*targets, *labelled[1:]], STANDARD, 42))
    moved = [target for target in targets if before["test", target.clip_id] == labelled[0]]
    assert moved
    for target in targets:
        key = ("test", target.clip_id)
        assert (after[key] == before[key]) == (target not in moved)


def test_a_split_of_clips_without_labels_has_no_off_screen_sound_and_says_so():
    planned = plan([without_label("a"), without_label("b")], STANDARD, 1)
    assert [str(entry.reason) for entry in planned.skipped] == [
        "no clip of split 'test' has an on-screen label, so none can lend it a sound"
    ] * 2


@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_muted_clips_are_never_source_clips_and_change_no_other_partner(data, seed):
    clips = data.draw(tables("avss"))
    muted = data.draw(st.sets(st.sampled_from(clips)))
    marked = [replace(clip, is_muted=clip in muted) for clip in clips]
    before, planned = partners(plan(clips, STANDARD, seed)), plan(marked, STANDARD, seed)
    after = partners(planned)
    assert not any(source.is_muted for source in after.values())
    for key, source in before.items():
        # As if the muted clips had gone, but for their own rows.
        if source not in muted:
            assert after[key] == source
    assert len([row for row in planned.rows if row.condition == "clean"]) == len(clips)


def test_the_plan_says_how_many_clips_are_muted_and_why_a_row_is_left_out():
    clips = [make_clip("a", "dog_barking"), replace(make_clip("b", "helicopter"), is_muted=True)]
    planned = plan(clips, STANDARD, 1)
    assert planned.notes == (
        "1 clip is muted, the recording is silent or nearly so: helicopter/b; none is a source clip",
    )
    assert partners(planned) == {("test", "helicopter/b"): clips[0]}
    assert [entry.reason for entry in planned.skipped] == [
        "no clip of split 'test' that is not muted is free of its categories (dog_barking)"
    ]


def test_the_released_rule_is_as_released_and_a_note_says_how_many_of_its_sources_are_muted_or_without_label():
    clips = [make_clip("dog", "dog", dataset="ms3"), replace(make_clip("car", "car", dataset="ms3"), is_muted=True)]
    # With the label of the released table, "background", which the release takes for a device.
    planned = plan([*clips, without_label("none", "ms3")], load_recipe("reference"), 3)
    sources = {clip_id: source.clip_id for (_, clip_id), source in partners(planned).items()}
    assert sources["car"] == "dog"
    assert sources["dog"] in ("car", "none")
    assert sources["none"] == "dog"
    expected = "a muted clip" if sources["dog"] == "car" else "a clip without an on-screen label"
    assert f"offscreen: rows with the sound of {expected}, as the recipe's rule draws it: 1" in planned.notes
    note = next(note for note in planned.notes if note.startswith("1 clip is muted"))
    assert note.endswith("none is a source clip") == (sources["dog"] != "car")


# Draws and pools


def test_draws_have_different_sources_and_the_first_is_that_of_a_single_draw(s4_clips, plan_of):
    single = {row.clip.clip_id: row.source for row in plan_of(s4_clips, {"offscreen": {}}).rows}
    rows = plan_of(s4_clips, {"offscreen": {"draws": 4}}).rows
    drawn: dict[str, list[Clip]] = {}
    for row in rows:
        assert is_eligible(row.clip, row.source)
        assert row.seed == row_seed(42, "s4", row.clip.clip_id, "offscreen", None, row.draw)
        drawn.setdefault(row.clip.clip_id, []).append(row.source)
    assert all(len({source.clip_id for source in sources}) == 4 for sources in drawn.values())
    assert {clip_id: sources[0] for clip_id, sources in drawn.items()} == single


def test_more_draws_than_sources_are_skipped_and_said(planned_clip, plan_of):
    clips = [planned_clip("a", "helicopter"), planned_clip("b", "playing_piano"), planned_clip("c", "dog_barking")]
    planned = plan_of(clips, {"offscreen": {"draws": 3}})
    assert {row.draw for row in planned.rows if row.clip.clip_id == "helicopter/a"} == {0, 1}
    assert "fewer than 3 clips can lend it a sound" in {entry.reason for entry in planned.skipped}


@pytest.mark.parametrize(("pool", "datasets"), [("split", {"s4"}), ("dataset", {"s4"}), ("release", {"s4", "ms3"})])
def test_a_pool_is_as_wide_as_it_says(pool, datasets, s4_clips, planned_clip, plan_of):
    train = [
        planned_clip(f"t{number}", name, split="train")
        for number, name in enumerate(sorted({clip.labels[0] for clip in s4_clips}))
    ]
    ms3 = [planned_clip(f"m{number}", "piano", dataset="ms3", split="val") for number in range(9)]
    rows = plan_of(s4_clips, {"offscreen": {"draws": 5, "pool": pool}}, pool=[*train, *ms3]).rows
    assert {row.source.dataset for row in rows} == datasets
    splits = {row.source.split for row in rows}
    assert splits == {"split": {"test"}, "dataset": {"test", "train"}, "release": {"test", "train", "val"}}[pool]
    for row in rows:
        assert row.source is not row.clip
        assert not set(row.source.broad) & set(row.clip.broad)


def test_no_recording_of_a_release_serves_more_than_its_share(s4_clips, planned_clip, plan_of):
    # Two clips of ms3 with categories of their own once served a sixth of all rows: each was a group for itself.
    ms3 = [planned_clip(f"m{number}", name, dataset="ms3") for number, name in enumerate(("piano", "violin"))]
    rows = plan_of(s4_clips, {"offscreen": {"draws": 5, "pool": "release"}}, pool=ms3).rows
    served = Counter((row.source.dataset, row.source.clip_id) for row in rows)
    assert max(served.values()) < 0.08 * len(rows)


@pytest.mark.parametrize("pool", ["split", "dataset", "release"])
def test_one_more_clip_in_the_pool_leaves_the_draws_that_it_does_not_win(pool, s4_clips, planned_clip, plan_of):
    new = planned_clip("new", "helicopter", split="test" if pool == "split" else "train")
    more = {"pool": [new]} if pool != "split" else {}
    clips = [*s4_clips, new] if pool == "split" else s4_clips
    options = {"offscreen": {"draws": 3, "pool": pool}}
    before = {row.key: row for row in plan_of(s4_clips, options).rows}
    after = {row.key: row for row in plan_of(clips, options, **more).rows if row.clip is not new}
    won = {row.clip.clip_id for row in after.values() if row.source is new}
    assert won
    # A draw that it wins may free another source for a later draw of the same clip; other clips keep theirs.
    assert all(row.source is before[key].source for key, row in after.items() if row.clip.clip_id not in won)


def test_released_draws_have_neither_draws_nor_a_pool(plan_of, s4_clips):
    for options in ({"draws": 2}, {"pool": "dataset"}):
        with pytest.raises(RecipeError, match="released makes one draw from the clip's split"):
            plan_of(s4_clips, {"offscreen": {"generator": "released", **options}})
