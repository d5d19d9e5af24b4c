"""Drawing a scene: its frames, and whose pixels they are.

Conventions
    Frames are uint8 [T, H, W, 3], RGB. Owners are uint8 [T, H, W]: 0 for the background, i + 1 where actor i of the scene is
    what one sees. The camera pans slowly over a background that is larger than the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avsrobust.toy.backgrounds import background
from avsrobust.toy.draws import generator
from avsrobust.toy.looks import LOOKS
from avsrobust.toy.painting import Owners, paint
from avsrobust.toy.scenes import Scene

_PAN_PER_FRAME = 3


def draw_scene(scene: Scene) -> tuple[NDArray[np.uint8], Owners]:
    """Return the frames of a scene and their owners."""
    rng = generator(scene.seed, scene.part, scene.index, "picture")
    reach = _PAN_PER_FRAME * (scene.num_frames - 1)
    stage = background(rng, scene.height + reach, scene.width + reach)
    step_x, step_y = rng.integers(-_PAN_PER_FRAME, _PAN_PER_FRAME + 1, size=2)
    exposure = np.float32(rng.uniform(0.88, 1.08))
    frames = np.empty((scene.num_frames, scene.height, scene.width, 3), np.uint8)
    owners = np.zeros((scene.num_frames, scene.height, scene.width), np.uint8)
    for number in range(scene.num_frames):
        left, top = _offset(int(step_x), number, reach), _offset(int(step_y), number, reach)
        picture = stage[top : top + scene.height, left : left + scene.width].copy()
        for place, actor in enumerate(scene.actors, start=1):
            paint(picture, owners[number], LOOKS[actor.name], actor.poses[number], actor.tint, place)
        frames[number] = np.clip(picture * exposure + np.float32(0.5), 0, 255)
    return frames, owners


def sounding_owners(scene: Scene, owners: Owners) -> Owners:
    """Return `owners` with the objects that are silent in a frame taken for background there."""
    kept = np.zeros((scene.num_frames, len(scene.actors) + 1), np.uint8)
    for place, actor in enumerate(scene.actors, start=1):
        kept[:, place] = np.where(actor.sounding, place, 0)
    return np.stack([row[frame] for row, frame in zip(kept, owners, strict=True)])


def _offset(step: int, number: int, reach: int) -> int:
    return step * number if step >= 0 else reach + step * number
