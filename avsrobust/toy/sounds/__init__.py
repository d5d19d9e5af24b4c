"""What every object of the toy sounds like: one module per broad kind, one `Voice` per object."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from avsrobust.toy.sounds import animal, device, human, music
from avsrobust.toy.sounds.base import Voice

VOICES: Mapping[str, Voice] = MappingProxyType({**music.VOICES, **human.VOICES, **animal.VOICES, **device.VOICES})
