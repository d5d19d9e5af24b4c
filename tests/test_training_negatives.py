from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avsrobust.errors import OptionError
from avsrobust.evaluation.clip_data import ClipRows, clips_of
from avsrobust.manifest import load_manifest
from avsrobust.training.negatives import Negatives
from avsrobust.training.recipe import NegativesPart

KINDS = ("offscreen", "silence", "noise")


@pytest.fixture(scope="module")
def clips(toy_builds: Path) -> list[ClipRows]:
    rows = [*load_manifest(toy_builds / "robust/s4-seed42").rows, *load_manifest(toy_builds / "robust/ms3-seed42").rows]
    return clips_of(row for row in rows if row.split == "train")


def drawn(negatives: Negatives, clip: int, times: int) -> list[str]:
    names = []
    for time in range(times):
        row = negatives.draw(clip, np.random.default_rng(time))
        own = row.clip_id == negatives.clean[clip].clip_id
        names.append("clean" if own and row.condition == "clean" else row.condition if own else "offscreen")
    return names


def test_share_and_kinds_are_kept(clips: list[ClipRows]) -> None:
    negatives = Negatives.of(clips, NegativesPart(0.4, KINDS))
    counts = Counter(drawn(negatives, 0, 1500))
    assert abs(counts["clean"] / 1500 - 0.6) < 0.05
    for kind in KINDS:
        assert abs(counts[kind] / 1500 - 0.4 / 3) < 0.04


def test_no_share_no_negatives(clips: list[ClipRows]) -> None:
    assert set(drawn(Negatives.of(clips, NegativesPart(0.0, KINDS)), 1, 50)) == {"clean"}


def test_source_clips_are_of_the_same_data_set_and_share_no_supercategory(clips: list[ClipRows]) -> None:
    negatives = Negatives.of(clips, NegativesPart(0.5, ("offscreen",)))
    strict = 0
    for clip, source_clips in zip(negatives.clean, negatives.source_clips, strict=True):
        for source in (negatives.clean[index] for index in source_clips):
            assert source.dataset == clip.dataset
            assert set(source.labels).isdisjoint(clip.labels)
            strict += set(source.broad).isdisjoint(clip.broad)
    assert strict > 0


def test_source_clips_are_drawn_anew(clips: list[ClipRows]) -> None:
    negatives = Negatives.of(clips, NegativesPart(1.0, ("offscreen",)))
    clip = max(range(len(clips)), key=lambda index: len(negatives.source_clips[index]))
    found = {negatives.draw(clip, np.random.default_rng(time)).clip_id for time in range(60)}
    assert len(found) > 1


def test_a_kind_that_the_build_lacks(clips: list[ClipRows]) -> None:
    without = [tuple(row for row in clip if row.condition != "noise") for clip in clips]
    with pytest.raises(OptionError, match="negatives: found no noise sound in the builds"):
        Negatives.of(without, NegativesPart(0.1, KINDS))
    assert set(drawn(Negatives.of(without, NegativesPart(1.0, ("silence",))), 0, 5)) == {"silence"}


def test_a_clip_without_clean_sound(clips: list[ClipRows]) -> None:
    without = [tuple(row for row in clips[0] if row.condition != "clean")]
    with pytest.raises(OptionError, match="has no clean sound in the build"):
        Negatives.of(without, NegativesPart(0.0, ()))


def test_without_source_clip_or_kind_the_sound_stays_clean(clips: list[ClipRows]) -> None:
    lonely = Negatives.of(clips[:2], NegativesPart(1.0, ("silence",)))
    lonely = replace(lonely, part=NegativesPart(1.0, ("offscreen",)), source_clips=((), ()))
    assert set(drawn(lonely, 0, 5)) == {"clean"}


def test_a_clip_without_labels_has_any_labelled_clips_sound_where_its_build_gave_it_one(clips: list[ClipRows]) -> None:
    unlabelled = tuple(replace(row, labels=(), broad=()) for row in clips[0])
    given = Negatives.of([unlabelled, *clips[1:]], NegativesPart(1.0, ("offscreen",)))
    same = [index for index, row in enumerate(given.clean) if row.dataset == clips[0][0].dataset]
    assert given.source_clips[0] == tuple(same[1:])
    assert not any(0 in source_clips for source_clips in given.source_clips)
    # Categories that are not known: the build has no off-screen row.
    unknown = tuple(row for row in unlabelled if row.condition != "offscreen")
    assert Negatives.of([unknown, *clips[1:]], NegativesPart(1.0, ("offscreen",))).source_clips[0] == ()


def test_muted_clips_lend_no_sound(clips: list[ClipRows]) -> None:
    free = Negatives.of(clips, NegativesPart(1.0, ("offscreen",)))
    lent = next(index for source_clips in free.source_clips for index in source_clips)
    row = free.clean[lent]
    held = Negatives.of(clips, NegativesPart(1.0, ("offscreen",)), {(row.dataset, row.clip_id)})
    assert not any(lent in source_clips for source_clips in held.source_clips)
    assert held.source_clips[lent] == free.source_clips[lent]
