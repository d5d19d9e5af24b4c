"""All conditions a recipe can name: a new one is its module and a line here."""

from __future__ import annotations

from avsrobust.conditions.base import Condition
from avsrobust.conditions.clean import Clean
from avsrobust.conditions.noise import Noise
from avsrobust.conditions.offscreen import Offscreen
from avsrobust.conditions.silence import Silence

CONDITIONS: dict[str, type[Condition]] = {condition.name: condition for condition in (Clean, Silence, Noise, Offscreen)}
