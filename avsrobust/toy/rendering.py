"""Rendering a scene: its frames, the object that each pixel shows, and its sound.

Conventions
    Frames are uint8 [T, H, W, 3], RGB. Owners are uint8 [T, H, W]: i + 1 where actor i of the scene is visible, 0 for the
    background. The camera pans slowly over a background that is larger than the picture.
    Sounds are int16 [S], mono, at 44.1 kHz: every object's voice in the seconds in which it sounds, over a faint room tone.
    Voices are made for the whole clip and then gated by whole seconds. Each is brought to about the same loudness (root mean
    square over its seconds), so that no mask depends on a sound that another one buries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avsrobust.toy.backgrounds import background
from avsrobust.toy.looks import LOOKS
from avsrobust.toy.painting import Owners, paint
from avsrobust.toy.scenes import Actor, Scene, generator
from avsrobust.toy.sounds import VOICES
from avsrobust.toy.sounds.base import SAMPLE_RATE, Wave, noise

_PAN_PER_FRAME = 3
_LOUDNESS = 0.11
_SPREAD_DB = 3.0
_ROOM_TONE = 0.0006
_FADE_S = 0.02
_PEAK = 0.9


@dataclass(frozen=True)
class Rendered:
    """A scene in pixels and samples.

    Attributes:
        scene: The plan.
        frames: RGB, uint8 [T, H, W, 3].
        owners: Uint8 [T, H, W]; 0 also where the visible object is silent in that second.
        sound: Mono at 44.1 kHz, int16 [S].
    """

    scene: Scene
    frames: NDArray[np.uint8]
    owners: Owners
    sound: NDArray[np.int16]


def render(scene: Scene) -> Rendered:
    """Return the frames, masks and sound of a scene."""
    frames, owners = draw_scene(scene)
    return Rendered(scene, frames, foreground_owners(scene, owners), mix_scene(scene))


def draw_scene(scene: Scene) -> tuple[NDArray[np.uint8], Owners]:
    """Draw a scene.

    Returns:
        Frames, RGB, uint8 [T, H, W, 3], and owners, uint8 [T, H, W], silent objects included.
    """
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
        for owner, actor in enumerate(scene.actors, start=1):
            paint(picture, owners[number], LOOKS[actor.name], actor.poses[number], actor.tint, owner)
        frames[number] = np.clip(picture * exposure + np.float32(0.5), 0, 255)
    return frames, owners


def foreground_owners(scene: Scene, owners: Owners) -> Owners:
    """Return the owners of the foreground: objects that are silent in a frame become background there."""
    kept = np.zeros((scene.num_frames, len(scene.actors) + 1), np.uint8)
    for owner, actor in enumerate(scene.actors, start=1):
        kept[:, owner] = np.where(actor.sounding, owner, 0)
    return np.stack([row[frame] for row, frame in zip(kept, owners, strict=True)])


def mix_scene(scene: Scene) -> NDArray[np.int16]:
    """Return the sound of a scene, int16 [sound_s * 44100]."""
    room = generator(scene.seed, scene.part, scene.index, "room")
    total = _ROOM_TONE * noise(room, scene.sound_s, 40, 4000)
    for actor in scene.actors:
        if any(actor.sounding[: scene.sound_s]):
            total += _voice(scene, actor)
    peak = float(np.abs(total).max())
    return np.round(total * (32767 * min(1.0, _PEAK / peak))).astype(np.int16)


def _offset(step: int, number: int, reach: int) -> int:
    return step * number if step >= 0 else reach + step * number


def _voice(scene: Scene, actor: Actor) -> Wave:
    """Return one object's voice, gated and levelled."""
    rng = generator(scene.seed, scene.part, scene.index, f"voice/{actor.name}")
    gate = _gate(actor.sounding[: scene.sound_s])
    voice = VOICES[actor.name](rng, scene.sound_s) * gate
    level = float(np.sqrt(np.square(voice).sum() / gate.sum()))
    return voice * (_LOUDNESS / level * 10 ** (rng.uniform(-_SPREAD_DB, _SPREAD_DB) / 20))


def _gate(sounding: tuple[bool, ...]) -> Wave:
    """Return 1 where the object sounds and 0 elsewhere, with short ramps inside the sounding seconds."""
    edges = np.diff(np.array([0, *sounding, 0], dtype=np.int8))
    times = np.arange(len(sounding) * SAMPLE_RATE) / SAMPLE_RATE
    gate = np.zeros(len(times))
    for start, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        gate += np.clip(np.minimum(times - start, end - times) / _FADE_S, 0, 1)
    return gate
