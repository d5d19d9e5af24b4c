"""The look of every object of the toy: one module per supercategory, one `Look` per object."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from avsrobust.toy.looks import animal, device, human, music
from avsrobust.toy.looks.base import Look

LOOKS: Mapping[str, Look] = MappingProxyType({**music.LOOKS, **human.LOOKS, **animal.LOOKS, **device.LOOKS})
