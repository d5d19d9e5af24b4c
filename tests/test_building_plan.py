"""Plan and layout: rows, order, seeds; files shared and numbered."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from avsrobust.building.describe import describe
from avsrobust.building.layout import SHARD_SOUNDS, lay_out
from avsrobust.building.plan import count_sources, plan, source_lines
from avsrobust.clips import Clip, SoundHeader
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.seeds import row_seed
from avsrobust.datasets.dataset import DataSet, Finding
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, AVSS_SUPERCATEGORY
from avsrobust.errors import OptionError

STANDARD = load_recipe("standard")
LABELS = ("dog", "piano", "man", "car", "cat", "tabla")


def make_clip(index: int, split: str = "test", num_frames: int = 5, seconds: float = 5.0) -> Clip:
    label = LABELS[index % len(LABELS)]
    header = SoundHeader(44100, round(44100 * seconds), 1, "PCM_16")
    frames = tuple(f"frames/{index}/{number}.png" for number in range(num_frames))
    clip_id = f"v2/clip {index:03d}"
    return Clip(
        "avss",
        split,
        clip_id,
        (label,),
        AVSS_CATEGORIES.supercategories([label]),
        frames,
        (None, *frames[1:]),
        f"{index}.wav",
        header,
    )


CLIPS = [make_clip(index, split) for index, split in enumerate(["test"] * 40 + ["train"] * 70 + ["val"] * 12)]


def test_every_clip_gets_a_row_per_condition_in_the_manifests_order():
    planned = plan(CLIPS[::-1], STANDARD, 42)
    assert [row.key for row in planned.rows] == sorted(row.key for row in planned.rows)
    assert Counter(row.condition for row in planned.rows) == dict.fromkeys(STANDARD.condition_names, len(CLIPS))
    assert planned.skipped == ()
    for row in planned.rows:
        assert row.seed == row_seed(42, "avss", row.clip.clip_id, row.condition, None)
        assert row.polarity == ("positive" if row.condition == "clean" else "negative")
        assert (row.source is None) == (row.condition != "offscreen")


def test_another_seed_gives_other_noise_and_partners():
    first, second = plan(CLIPS, STANDARD, 1), plan(CLIPS, STANDARD, 2)
    sources = [[row.source for row in planned.rows if row.source] for planned in (first, second)]
    assert sources[0] != sources[1]
    assert not {row.seed for row in first.rows} & {row.seed for row in second.rows}


def test_a_split_alone_is_planned_as_with_the_others():
    whole = plan(CLIPS, STANDARD, 42)
    alone = plan([clip for clip in CLIPS if clip.split == "val"], STANDARD, 42)
    assert alone.rows == tuple(row for row in whole.rows if row.clip.split == "val")


def test_no_clips_no_rows():
    assert plan([], STANDARD, 42).rows == ()


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(OptionError, match="--seed: found -1; expected an integer from 0 to"):
        plan(CLIPS, STANDARD, -1)


def test_no_sound_and_no_log_mel_is_there_twice():
    layout = lay_out(plan(CLIPS, STANDARD, 42))
    assert len(layout.sounds) == len(CLIPS) + 1  # a noise each, one silence
    assert len({sound.audio for sound in layout.sounds}) == len(layout.sounds)
    assert layout.num_log_mels == 2 * len(CLIPS) + 1
    places = Counter((row.log_mel, row.log_mel_row) for row in layout.rows)
    assert len(places) == layout.num_log_mels
    by_clip = {(row.clip_id, row.condition): row for row in layout.rows}
    for row in layout.rows:
        if row.condition == "offscreen":
            own = by_clip[row.source_clip_id, "clean"]
            assert (row.audio, row.log_mel, row.log_mel_row) == (own.audio, own.log_mel, own.log_mel_row)
            assert row.source_labels == own.labels


def test_shards_hold_so_many_sounds_of_one_split_and_length():
    layout = lay_out(plan(CLIPS, STANDARD, 42))
    sizes = {shard.path: len(shard.sounds) for shard in layout.shards}
    assert sizes == {
        "log_mel/shared/T5/00000.npy": 1,
        "log_mel/test/T5/00000.npy": SHARD_SOUNDS,
        "log_mel/test/T5/00001.npy": 16,
        "log_mel/train/T5/00000.npy": SHARD_SOUNDS,
        "log_mel/train/T5/00001.npy": SHARD_SOUNDS,
        "log_mel/train/T5/00002.npy": 12,
        "log_mel/val/T5/00000.npy": 24,
    }
    shards = {shard.path: shard for shard in layout.shards}
    for row in layout.rows:
        assert shards[row.log_mel].sounds[row.log_mel_row] == (row.audio, "vggish")
        assert shards[row.log_mel].num_frames == row.num_frames


def test_a_donor_of_another_length_has_a_log_mel_of_each_length():
    short, long = make_clip(0), replace(make_clip(1, num_frames=10, seconds=10.0), clip_id="long")
    layout = lay_out(plan([short, long], STANDARD, 42))
    rows = {(row.clip_id, row.condition): row for row in layout.rows}
    lent = rows[short.clip_id, "offscreen"]
    assert lent.audio == rows["long", "clean"].audio
    assert (lent.num_frames, lent.duration_s) == (5, 10.0)
    assert lent.log_mel != rows["long", "clean"].log_mel
    assert lent.log_mel == rows[short.clip_id, "clean"].log_mel == "log_mel/test/T5/00000.npy"


def test_a_sound_through_two_front_ends_has_two_log_mels():
    recipe = load_recipe("standard")
    entries = tuple(
        replace(entry, front_end="librosa") if entry.condition.name == "offscreen" else entry
        for entry in recipe.entries
    )
    layout = lay_out(plan(CLIPS, replace(recipe, entries=entries), 42))
    lent = {row.source_clip_id for row in layout.rows if row.source_clip_id}
    assert layout.num_log_mels == 2 * len(CLIPS) + 1 + len(lent)


def test_a_dry_run_says_what_would_be_made():
    dataset = DataSet("avss", None, "a tree", tuple(CLIPS), (Finding("x.wav", "0 bytes", "a sound"),), ("a note",))
    summary = describe(dataset, plan(CLIPS, STANDARD, 42))
    assert summary.clips == {"test": 40, "train": 70, "val": 12}
    assert summary.rows == {"clean": 122, "noise": 122, "offscreen": 122, "silence": 122}
    assert summary.num_bytes == 123 * (44 + 441000) + 245 * 5 * 96 * 64 * 4 + 7 * 128
    assert summary.lines() == [
        "found: a tree",
        "clips: 122 (train 70, val 12, test 40)",
        "note: a note",
        *(f"note: {line}" for line in source_lines(count_sources(plan(CLIPS, STANDARD, 42).rows))),
        "finding: x.wav: found 0 bytes; expected a sound",
        "would make: 488 rows (clean 122, noise 122, offscreen 122, silence 122)",
        "would write: 123 sounds, 245 log-mels, 84.4 MB",
    ]


def test_a_dry_run_lists_what_is_left_out():
    clips = [replace(clip, labels=(), broad=()) for clip in CLIPS[:30]]
    lines = describe(DataSet("avss", None, "a tree", tuple(clips)), plan(clips, STANDARD, 42)).lines()
    assert lines[-2].startswith("skipped: v2/clip 019, offscreen: its categories are not known")
    assert lines[-1] == "skipped: ... and 10 more"


def test_planning_needs_neither_torch_nor_click():
    code = "import sys, avsrobust.building.plan; sys.exit(bool({'torch', 'click', 'librosa'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_labels_of_the_table_are_categories():
    assert set(LABELS) <= set(AVSS_SUPERCATEGORY)
