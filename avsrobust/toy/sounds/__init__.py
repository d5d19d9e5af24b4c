"""The voice of every object of the toy: one module per supercategory, one `Voice` per object."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from avsrobust.toy.sounds import animal, device, human, music
from avsrobust.toy.sounds.base import Voice

VOICES: Mapping[str, Voice] = MappingProxyType({**music.VOICES, **human.VOICES, **animal.VOICES, **device.VOICES})
