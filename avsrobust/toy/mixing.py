"""The sound of a scene: every object's voice in the seconds in which it sounds, mixed over a faint room tone.

Conventions
    Mixes are int16 [S], mono, at 44.1 kHz. Voices are made for the whole clip and then gated by whole seconds. Each is
    brought to about the same loudness (root mean square over the seconds in which it sounds), so that no mask hangs on a
    sound that another one buries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avsrobust.toy.draws import generator
from avsrobust.toy.scenes import Actor, Scene
from avsrobust.toy.sounds import VOICES
from avsrobust.toy.sounds.base import SAMPLE_RATE, Wave, noise

_LOUDNESS = 0.11
_SPREAD_DB = 3.0
_ROOM_TONE = 0.0006
_FADE_S = 0.02
_PEAK = 0.9


def mix_scene(scene: Scene) -> NDArray[np.int16]:
    """Return the sound of a scene, int16 [sound_s * 44100]."""
    room = generator(scene.seed, scene.part, scene.index, "room")
    total = _ROOM_TONE * noise(room, scene.sound_s, 40, 4000)
    for actor in scene.actors:
        if any(actor.sounding[: scene.sound_s]):
            total += _voice(scene, actor)
    peak = float(np.abs(total).max())
    return np.round(total * (32767 * min(1.0, _PEAK / peak))).astype(np.int16)


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
