"""Source clips: who lends a sound to whom, and the draw among them, against the definition clip by clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.clips import Clip
from avsrobust.conditions.source_clips import Candidates, SourceClips, is_eligible, is_source
from avsrobust.datasets.taxonomy import AVSS_SUPERCATEGORY


def drawn(candidates: Candidates, count: int = 400) -> set[int]:
    found = (candidates.draw(seed * 0x9E3779B97F4A7C15 % 2**64) for seed in range(count))
    return {position for position in found if position is not None}


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(
        st.lists(st.sampled_from(sorted(AVSS_SUPERCATEGORY)[1:]), min_size=1, max_size=3, unique=True),
        min_size=2,
        max_size=8,
    )
)
def test_candidates_are_those_of_the_definition(labels: list[list[str]], planned_clip: Callable) -> None:
    clips = [planned_clip(f"x{index}", *held, dataset="avss") for index, held in enumerate(labels)]
    sources = SourceClips(clips, "avss")
    for clip in clips:
        others = {
            "kind": {i for i, other in enumerate(clips) if is_eligible(clip, other)},
            "category": {i for i, other in enumerate(clips) if not set(other.labels) & set(clip.labels)},
            "same kind": {
                i
                for i, other in enumerate(clips)
                if set(other.broad) & set(clip.broad) and not set(other.labels) & set(clip.labels)
            },
        }
        found = {
            "kind": sources.of_other_kind(clip),
            "category": sources.of_other_category(clip),
            "same kind": sources.of_same_kind(clip),
        }
        assert {rule: drawn(candidates) for rule, candidates in found.items()} == others
        assert drawn(sources.of_any()) == set(range(len(clips)))


def test_excluded_ones_are_never_drawn_and_none_is_left_in_the_end(s4_clips: list[Clip]) -> None:
    candidates = SourceClips(s4_clips, "s4").of_other_kind(s4_clips[0])
    taken: list[int] = []
    while (position := candidates.draw(7, taken)) is not None:
        assert position not in taken
        taken.append(position)
    assert set(taken) == {index for index, clip in enumerate(s4_clips) if is_eligible(s4_clips[0], clip)}


def test_the_order_in_which_draws_exclude_does_not_matter(s4_clips: list[Clip]) -> None:
    candidates = SourceClips(s4_clips, "s4").of_any()
    assert candidates.draw(5, [1, 2, 3]) == candidates.draw(5, {3, 2, 1})


def test_one_more_clip_leaves_the_draws_that_it_does_not_win(planned_clip: Callable, s4_clips: list[Clip]) -> None:
    added = planned_clip("new", "helicopter")
    before, after = SourceClips(s4_clips, "s4"), SourceClips([*s4_clips, added], "s4")
    changed = Counter()
    for clip in s4_clips:
        for seed in range(50):
            old, new = (sources.of_other_kind(clip).draw(seed * 7919) for sources in (before, after))
            if new is not None and [*s4_clips, added][new] is added:
                changed["won"] += 1
            else:
                assert old == new
    assert changed["won"]


def test_clips_of_another_data_set_are_drawn_one_as_often_as_the_other(
    planned_clip: Callable, s4_clips: list[Clip]
) -> None:
    # A category that one clip of MS3 alone has is no group of its own: the clip would serve a whole category's share.
    others = [planned_clip(f"m{index}", name, dataset="ms3") for index, name in enumerate(("piano", "guitar"))]
    everyone = [*s4_clips, *others]
    candidates = SourceClips(everyone, "s4").of_any()
    counts = Counter(candidates.draw(seed * 0x9E3779B97F4A7C15 % 2**64) for seed in range(4000))
    assert max(counts.values()) < 3 * 4000 / len(everyone)
    assert counts.keys() == set(range(len(everyone)))


@pytest.mark.parametrize(
    ("labels", "more", "expected"), [(("dog_barking",), {}, True), (("dog_barking",), {"is_muted": True}, False)]
)
def test_muted_clips_lend_nothing(
    labels: tuple[str, ...], more: dict[str, bool], expected: bool, planned_clip: Callable
) -> None:
    assert is_source(planned_clip("a", *labels, **more)) is expected
    assert not is_source(planned_clip("b", dataset="avss", has_no_label=True))
