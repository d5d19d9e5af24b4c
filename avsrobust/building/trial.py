"""Trying a recipe's plug-ins on one row each, before anything is written.

Conventions
    A plug-in is a condition or a front end that does not come with avsrobust. Each is tried on the first of its rows whose
    recordings can be read: a plug-in that raises, or returns anything else than it has to, is refused before a folder is made.
"""

from __future__ import annotations

from avsrobust.audio.front_ends import FRONT_ENDS, log_mel_of
from avsrobust.audio.io import FULL_SCALE
from avsrobust.building.layout import check_paths
from avsrobust.building.plan import Plan, PlannedRow
from avsrobust.building.render import Roots, samples_of
from avsrobust.conditions.recipe import Recipe
from avsrobust.conditions.sounds import MadeSound
from avsrobust.errors import AudioError
from avsrobust.manifest import DATA_PREFIX

_BUILT_IN = "avsrobust.conditions."


def try_plugins(planned: Plan, recipe: Recipe, roots: Roots) -> None:
    """Make the sound and the log-mel of one row of each plug-in.

    Raises:
        RecipeError: A plug-in raises or returns something wrong.
    """
    for entry in recipe.entries:
        is_own = type(entry.condition).__module__.startswith(_BUILT_IN)
        if is_own and entry.front_end in FRONT_ENDS.built_in:
            continue
        if not is_own:
            check_paths(planned.rows.of_condition(entry.name))
        for row in planned.rows.of_condition(entry.name):
            try:
                _try(row, roots, with_front_end=entry.front_end not in FRONT_ENDS.built_in)
            except AudioError:
                # The survey of contents names recordings that cannot be read.
                continue
            break


def _try(row: PlannedRow, roots: Roots, *, with_front_end: bool) -> None:
    sound = row.sound
    if isinstance(sound, MadeSound):
        samples = samples_of(sound, roots.read) / FULL_SCALE
        rate = sound.sample_rate
    elif sound.audio.startswith(DATA_PREFIX):
        samples, rate = roots.read(sound.audio, row.clip.num_frames)
    else:
        return
    if with_front_end:
        log_mel_of(row.front_end, samples, rate, row.clip.num_frames, of=f"{row.clip.clip_id}/{row.condition}")
