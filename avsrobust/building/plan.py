"""The plan of a build: clips and a recipe in, rows out, without touching a file.

Conventions
    A pure function: equal clips (in any order), recipe, seed and listing give an equal plan. Rows are sorted by split,
    clip_id, condition, level, as in the manifest. What cannot be made is listed in `skipped`, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from avsrobust.clips import Clip
from avsrobust.conditions.base import Choice, Condition, Scene, Unavailable
from avsrobust.conditions.recipe import Entry, Recipe
from avsrobust.conditions.reference import ReleasedListing
from avsrobust.conditions.seeds import check_seed, row_seed
from avsrobust.conditions.sounds import Sound
from avsrobust.manifest import Skipped

EVERY_CLIP = "*"
_MOST_NAMED = 20


@dataclass(frozen=True)
class PlannedRow:
    """One clip under one condition, before anything is made.

    `front_end` names the one its log-mel comes out of; `donor` is the clip whose sound it is, where that is another one.
    """

    clip: Clip
    condition: str
    polarity: str
    level: float | None
    seed: int
    sound: Sound
    donor: Clip | None
    front_end: str

    @property
    def key(self) -> tuple[str, str, str, float]:
        """Sort key, that of `avsrobust.manifest.Row`."""
        return (
            self.clip.split,
            self.clip.clip_id,
            self.condition,
            float("-inf") if self.level is None else self.level,
        )


@dataclass(frozen=True)
class Plan:
    """Rows to make; what is left out, and why (`clip_id` is `EVERY_CLIP` where that holds for all); remarks."""

    rows: tuple[PlannedRow, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def plan(
    clips: Sequence[Clip],
    recipe: Recipe,
    seed: int,
    off_screen_obstacle: str | None = None,
    listing: ReleasedListing | None = None,
) -> Plan:
    """Return the rows that `recipe` makes of `clips`, all of one data set.

    `off_screen_obstacle` says why off-screen sounds cannot be chosen; `listing` is what the released generator finds on
    disk, for recipes that reproduce it (None: what the table of clips holds).
    Raises `OptionError` for a seed out of range, `RecipeError` for a data set that the released generator does not cover.
    """
    check_seed(seed)
    ordered = tuple(sorted(clips, key=lambda clip: (clip.split, clip.clip_id)))
    scene = Scene(ordered[0].dataset if ordered else "", ordered, seed, off_screen_obstacle, listing)
    rows: list[PlannedRow] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for entry in recipe.entries:
        if entry.condition.highest_seed is not None:
            check_seed(seed, entry.condition.highest_seed)
        notes += entry.condition.notes
        obstacle = entry.condition.obstacle(scene)
        if obstacle is not None:
            skipped.append(Skipped(EVERY_CLIP, entry.condition.name, obstacle))
            continue
        fallbacks = _plan_condition(entry, scene, rows, skipped)
        if fallbacks:
            notes.append(_fallback_note(entry.condition, fallbacks))
    notes += _source_notes(ordered, rows)
    # A condition with several levels gives one reason for all of them.
    unique = sorted(set(skipped), key=lambda entry: (entry.clip_id, entry.condition or "", entry.reason))
    return Plan(tuple(sorted(rows, key=lambda row: row.key)), tuple(unique), tuple(notes))


def _plan_condition(entry: Entry, scene: Scene, rows: list[PlannedRow], skipped: list[Skipped]) -> list[str]:
    """Append the rows of one condition and what it leaves out; return the clips for which it fell back."""
    condition = entry.condition
    if not scene.clips:
        return []
    choose = condition.prepare(scene)
    fallbacks: list[str] = []
    for clip in scene.clips:
        for level in condition.levels:
            seed = row_seed(scene.seed, clip.dataset, clip.clip_id, condition.name, level)
            match choose(clip, seed, level):
                case Unavailable(reason):
                    skipped.append(Skipped(clip.clip_id, condition.name, reason))
                case Choice(sound, donor, fallback):
                    rows.append(
                        PlannedRow(clip, condition.name, condition.polarity, level, seed, sound, donor, entry.front_end)
                    )
                    if fallback:
                        fallbacks.append(clip.clip_id)
    return fallbacks


def _fallback_note(condition: Condition, clip_ids: Iterable[str]) -> str:
    names = sorted(set(clip_ids))
    return (
        f"{condition.name}: for {len(names)} clips no sound of a suitable other kind is in the split; they have one of a clip "
        f"that shares no category: {_named(names)}"
    )


def _source_notes(clips: Iterable[Clip], rows: Iterable[PlannedRow]) -> Iterator[str]:
    """Say which clips are muted, and how often a rule draws source clips that `offscreen` never does by our own rule."""
    muted = [clip.clip_id for clip in clips if clip.is_muted]
    drawn = [(row.condition, row.donor) for row in rows if row.donor is not None]
    silent = Counter(condition for condition, donor in drawn if donor.is_muted)
    unlabelled = Counter(condition for condition, donor in drawn if donor.has_no_label)
    if muted:
        count = "1 clip is" if len(muted) == 1 else f"{len(muted)} clips are"
        never = "" if silent else "; none is a source clip"
        yield f"{count} muted, the recording is silent or nearly so: {_named(muted)}{never}"
    for counts, sources in ((silent, "a muted clip"), (unlabelled, "a clip without an on-screen label")):
        for condition, number in sorted(counts.items()):
            yield f"{condition}: rows with the sound of {sources}, as the recipe's rule draws it: {number}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
