"""`distractor` and `distractor_swapped`: one picture, two sounds, two answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust.clips import Clip
from avsrobust.conditions.source_clips import is_eligible
from avsrobust.errors import RecipeError
from avsrobust.manifest import Manifest, Row, load_manifest


def pixels(manifest: Manifest, root: Path, picture: str | None) -> np.ndarray:
    with Image.open(manifest.picture_path(picture or "", root)) as opened:
        return np.asarray(opened)


def tiles_of(array: np.ndarray, count: int) -> list[np.ndarray]:
    """The tiles of a composed picture, row by row."""
    return [part for line in np.split(array, count // 2, axis=0) for part in np.split(line, 2, axis=1)]


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_the_mask_is_in_the_sounding_tile_alone(extended_builds: Path, dataset: str) -> None:
    manifest = load_manifest(extended_builds / "extended" / dataset)
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    rows = [row for row in manifest.rows if row.condition.startswith("distractor")]
    assert rows
    for row in rows:
        own, count = clean[row.clip_id], int(row.level or 0) + 1
        swapped = row.condition == "distractor_swapped"
        sounding = row.source_clip_id if swapped else row.clip_id
        assert row.tiles is not None
        assert row.annotated is not None
        assert len(row.tiles) == len(set(row.tiles)) == count
        assert {row.clip_id, sounding} <= set(row.tiles)
        assert row.audio == clean[sounding or ""].audio
        assert row.polarity == "positive"
        width, height = pixels(manifest, extended_builds, own.frames[0]).shape[1::-1]
        size = (height // 2 * (count // 2), width // 2 * 2)
        for frame, mask, annotated, own_mask in zip(row.frames, row.masks, row.annotated, own.masks, strict=True):
            assert pixels(manifest, extended_builds, frame).shape == (*size, 3)
            assert (mask is None) == (annotated is None) == (own_mask is None)
            if mask is None:
                continue
            shown = tiles_of(pixels(manifest, extended_builds, mask), count)
            everything = tiles_of(pixels(manifest, extended_builds, annotated), count)
            for tile, held, whole in zip(row.tiles, shown, everything, strict=True):
                assert held.shape == (height // 2, width // 2)
                if tile == sounding:
                    assert np.array_equal(held, whole)
                else:
                    assert not held.any()
            assert set(np.unique(shown)) <= set(np.unique(everything))
            if dataset != "avss":
                assert set(np.unique(everything)) <= {0, 255}


def test_class_ids_of_a_tile_are_those_of_its_clip(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/avss")
    clean = {row.clip_id: row for row in manifest.rows if row.condition == "clean"}
    checked = 0
    for row in (row for row in manifest.rows if row.condition == "distractor"):
        assert row.tiles is not None
        assert row.annotated is not None
        for index, annotated in enumerate(row.annotated):
            if annotated is None:
                continue
            for tile, held in zip(
                row.tiles, tiles_of(pixels(manifest, extended_builds, annotated), len(row.tiles)), strict=True
            ):
                whole = pixels(manifest, extended_builds, clean[tile].masks[index])
                assert set(np.unique(held)) <= set(np.unique(whole)) | {0}
                checked += held.any()
    assert checked


def key(row: Row) -> tuple[str, float | None]:
    return (row.clip_id, row.level)


@pytest.mark.parametrize("dataset", ["s4", "ms3", "avss"])
def test_the_swapped_row_shows_the_same_picture(extended_builds: Path, dataset: str) -> None:
    manifest = load_manifest(extended_builds / "extended" / dataset)
    straight = {key(row): row for row in manifest.rows if row.condition == "distractor"}
    swapped = {key(row): row for row in manifest.rows if row.condition == "distractor_swapped"}
    assert straight.keys() == swapped.keys()
    for name, row in straight.items():
        other = swapped[name]
        assert (row.frames, row.tiles, row.annotated) == (other.frames, other.tiles, other.annotated)
        assert row.audio != other.audio
        assert all(a != b or a is None for a, b in zip(row.masks, other.masks, strict=True))


def test_others_are_off_screen_and_annotated_alike(s4_clips: list[Clip], plan_of: Callable) -> None:
    rows = plan_of(s4_clips, {"distractor": {}, "distractor_swapped": {}}).rows
    by_id = {clip.clip_id: clip for clip in s4_clips}
    places = Counter()
    for row in rows:
        tiles = [by_id[name] for name in row.picture.tiles]
        assert all(is_eligible(row.clip, tile) for tile in tiles if tile is not row.clip)
        places[len(tiles), row.picture.tiles.index(row.clip.clip_id)] += 1
    # Every place serves; the first of the others is the same at both levels.
    assert min(places[2, place] for place in range(2)) > len(s4_clips) / 2
    assert all(places[4, place] for place in range(4))


def test_masks_on_the_same_frames(planned_clip: Callable, plan_of: Callable) -> None:
    clips = [
        planned_clip("a", "helicopter"),
        planned_clip("b", "playing_piano", masked=[0]),
        planned_clip("c", "dog_barking"),
        planned_clip("d", "baby_laughter", frames=10),
    ]
    planned = plan_of(clips, {"distractor": {"levels": [1.0]}})
    assert {row.picture.tiles for row in planned.rows if row.clip.clip_id == "helicopter/a"} <= {
        ("dog_barking/c", "helicopter/a"),
        ("helicopter/a", "dog_barking/c"),
    }
    skipped = {entry.clip_id: entry.reason for entry in planned.skipped}
    assert skipped.keys() == {"playing_piano/b", "baby_laughter/d"}
    assert all(reason.endswith("too few clips to put next to it") for reason in skipped.values())


def test_a_muted_clip_and_an_unknown_size_are_skipped(
    planned_clip: Callable, plan_of: Callable, s4_clips: list[Clip]
) -> None:
    clips = [
        *s4_clips,
        planned_clip("m", "helicopter", is_muted=True),
        planned_clip("u", "helicopter", picture_size=None),
    ]
    reasons = {entry.clip_id: entry.reason for entry in plan_of(clips, {"distractor": {}}).skipped}
    assert reasons == {
        "helicopter/m": "its own recording is silent, so nothing in the picture would sound",
        "helicopter/u": "the size of its pictures is not known",
    }


@pytest.mark.parametrize("levels", [[2.0], [1.0, 1.0], [], ["1"], [0.0]])
def test_other_numbers_of_clips_are_refused(levels: list[object], plan_of: Callable, s4_clips: list[Clip]) -> None:
    with pytest.raises(RecipeError, match=r"conditions\.distractor"):
        plan_of(s4_clips, {"distractor": {"levels": levels}})
