"""The plan of a toy clip, and its pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from avsrobust.datasets.taxonomy import AVSS_CLASSES, AVSS_SUPERCATEGORY, S4_CATEGORY, S4_SUPERCATEGORY
from avsrobust.toy.looks import LOOKS
from avsrobust.toy.looks.base import MOTIONS, TEXTURES
from avsrobust.toy.painting import Pose, Tint, paint, unit_area
from avsrobust.toy.rendering import draw_scene, foreground_owners
from avsrobust.toy.scenes import MULTI_OBJECTS, OPEN_OBJECTS, SINGLE_OBJECTS, Scene, object_at, plan_scene, split_at

OBJECTS = {"single": SINGLE_OBJECTS, "multi": MULTI_OBJECTS, "open": OPEN_OBJECTS}


@pytest.fixture(scope="module")
def multi() -> list[Scene]:
    return [plan_scene("multi", 0, index) for index in range(150)]


def portrait(name: str, size: int = 64) -> np.ndarray:
    """Return one object alone on grey, its picture and what it covers, float32 [size, size, 4]."""
    picture, owners = np.full((size, size, 3), 128, np.float32), np.zeros((size, size), np.uint8)
    paint(picture, owners, LOOKS[name], Pose(size / 2, size / 2, 0.42 * size), Tint(), 1)
    return np.dstack([picture, 255.0 * owners])


def test_catalogue_agrees_with_the_taxonomy() -> None:
    assert set(S4_CATEGORY.values()) == set(S4_SUPERCATEGORY)
    assert set(SINGLE_OBJECTS) == set(S4_CATEGORY)
    for name, category in S4_CATEGORY.items():
        assert AVSS_SUPERCATEGORY[name] == S4_SUPERCATEGORY[category]
    for order in OBJECTS.values():
        assert len(set(order)) == len(order)
        assert set(order) <= set(AVSS_CLASSES[1:])
        assert {AVSS_SUPERCATEGORY[name] for name in order[:8]} == {"music", "human", "animal", "device"}
    assert sum("-" in name for name in OPEN_OBJECTS) == 5
    assert set(LOOKS) == set(OPEN_OBJECTS)


@pytest.mark.parametrize("part", OBJECTS)
def test_splits_have_their_shares_and_all_objects(part: str) -> None:
    order = OBJECTS[part]
    pairs = [(object_at(order, index), split_at(order, index)) for index in range(20 * len(order))]
    shares = Counter(split for _, split in pairs)
    assert shares["train"] == 12 * len(order)
    assert shares["val"] == 3 * len(order)
    assert shares["test"] == 5 * len(order)
    # The rarest split holds three of twenty: seven rounds are the least in which every object can have been in it.
    assert len(set(pairs[: 7 * len(order)])) == 3 * len(order)
    assert len({split for _, split in pairs[:4]}) == 3


def test_what_is_tested_has_been_trained() -> None:
    pairs = {(object_at(SINGLE_OBJECTS, index), split_at(SINGLE_OBJECTS, index)) for index in range(2 * 23)}
    assert {name for name, split in pairs if split == "train"} == set(SINGLE_OBJECTS)


def test_a_scene_depends_on_its_own_arguments() -> None:
    assert plan_scene("multi", 3, 5) == plan_scene("multi", 3, 5)
    assert plan_scene("multi", 3, 5) != plan_scene("multi", 4, 5)
    assert plan_scene("multi", 3, 5).actors != plan_scene("multi", 3, 5 + len(MULTI_OBJECTS)).actors


def test_single_scenes_have_one_object_that_sounds_throughout() -> None:
    scenes = [plan_scene("single", 0, index) for index in range(200)]
    for scene in scenes:
        assert scene.labels == (object_at(SINGLE_OBJECTS, scene.index),)
        assert sorted(any(actor.sounding) for actor in scene.actors) == [False] * (len(scene.actors) - 1) + [True]
        assert scene.sound_s == min(5, 10 - scene.start_s)
    assert 0.04 < np.mean([len(scene.actors) == 2 for scene in scenes]) < 0.2
    assert sum(scene.sound_s < 5 for scene in scenes) == 8


def test_multi_scenes_change_and_leave_some_objects_silent(multi: list[Scene]) -> None:
    for scene in multi:
        assert len(scene.actors) in (2, 3)
        assert scene.labels[0] == object_at(MULTI_OBJECTS, scene.index)
        assert len({actor.name for actor in scene.actors}) == len(scene.actors)
        assert set(scene.labels) == {actor.name for actor in scene.actors if any(actor.sounding)}
        assert not all(all(actor.sounding) for actor in scene.actors)
    turns = [tuple(actor.sounding[second] for actor in scene.actors) for scene in multi for second in range(5)]
    assert 0.05 < np.mean([not any(turn) for turn in turns]) < 0.25
    assert np.mean([any(turn) and not all(turn) for turn in turns]) > 0.5
    assert np.mean([len(set(zip(*(a.sounding for a in scene.actors), strict=True))) > 1 for scene in multi]) > 0.5
    assert Counter(len(scene.labels) for scene in multi).keys() == {1, 2, 3}


def test_open_scenes_are_longer_and_of_other_sizes() -> None:
    scenes = [plan_scene("open", 0, index) for index in range(60)]
    assert {scene.num_frames for scene in scenes} == {10}
    assert {scene.sound_s for scene in scenes} == {10}
    assert len({(scene.width, scene.height) for scene in scenes}) >= 3
    assert {len(scene.actors) for scene in scenes} == {1, 2, 3}


def test_every_object_looks_different() -> None:
    portraits = {name: portrait(name) for name in LOOKS}
    for name, one in portraits.items():
        for other in set(portraits) - {name}:
            covered = (one[..., 3] + portraits[other][..., 3]) > 0
            distance = np.abs(one - portraits[other])[covered].mean()
            assert distance > 35, (name, other)
    assert {look.texture for look in LOOKS.values()} == set(TEXTURES)
    assert {look.motion for look in LOOKS.values()} == set(MOTIONS)


def test_unit_area_predicts_what_is_covered() -> None:
    for name, look in LOOKS.items():
        owners = np.zeros((200, 200), np.uint8)
        paint(
            np.zeros((200, 200, 3), np.float32), owners, look, Pose(100, 100, 60, turn_deg=25, mirrored=True), Tint(), 1
        )
        assert owners.sum() / 60**2 == pytest.approx(unit_area(look), rel=0.04), name


def test_nearer_objects_hide_farther_ones() -> None:
    picture, owners = np.zeros((100, 100, 3), np.float32), np.zeros((100, 100), np.uint8)
    paint(picture, owners, LOOKS["bus"], Pose(50, 50, 40), Tint(), 1)
    alone = owners == 1
    paint(picture, owners, LOOKS["keyboard"], Pose(60, 55, 30), Tint(), 2)
    assert (owners == 2).sum() > 100
    assert 0 < (owners == 1).sum() < alone.sum()
    assert not ((owners == 1) & ~alone).any()


def test_an_object_outside_the_picture_leaves_no_trace() -> None:
    picture, owners = np.zeros((20, 20, 3), np.float32), np.zeros((20, 20), np.uint8)
    paint(picture, owners, LOOKS["cat"], Pose(500, 10, 5), Tint(), 1)
    assert not picture.any()
    assert not owners.any()


@pytest.mark.parametrize("part", OBJECTS)
def test_masks_mark_the_visible_pixels_of_what_sounds(part: str) -> None:
    for index in (1, 4, 6):
        scene = plan_scene(part, 0, index)
        frames, owners = draw_scene(scene)
        sounding = foreground_owners(scene, owners)
        assert frames.shape == (scene.num_frames, scene.height, scene.width, 3)
        assert frames.dtype == owners.dtype == sounding.dtype == np.uint8
        for second in range(scene.num_frames):
            expected = {place for place, actor in enumerate(scene.actors, start=1) if actor.sounding[second]}
            assert set(np.unique(sounding[second])) - {0} == expected
            for place in expected:
                assert np.array_equal(sounding[second] == place, owners[second] == place)


def test_objects_move_and_have_sizes() -> None:
    areas = []
    for index in range(23):
        scene = plan_scene("single", 0, index)
        _, owners = draw_scene(scene)
        marked = foreground_owners(scene, owners) > 0
        areas.append(marked[0].mean())
        assert (marked[0] != marked[4]).any(), scene.labels
    assert min(areas) > 0.03
    assert max(areas) < 0.4
    assert max(areas) > 3 * min(areas)
