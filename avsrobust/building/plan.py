"""The plan of a build: clips and a recipe in, rows out, without touching a file.

Conventions
    A pure function: equal clips (in any order), recipe, seed and listing give an equal plan. Rows are sorted by split,
    clip_id, condition, level, draw, as in the manifest. What cannot be made is listed in `skipped`, never dropped in silence.
"""

from __future__ import annotations

import gc
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, repeat

import numpy as np

from avsrobust.audio.front_ends import FRONT_ENDS
from avsrobust.bulk import make_many
from avsrobust.clips import Clip
from avsrobust.conditions.base import (
    Choice,
    Chooser,
    ManyChooser,
    PlannedDataset,
    RecordingPool,
    Request,
    Unavailable,
)
from avsrobust.conditions.pictures import Picture
from avsrobust.conditions.recipe import Recipe, RecipeEntry
from avsrobust.conditions.reference import ReleasedListing
from avsrobust.conditions.seeds import check_seed, row_seed, row_seeds
from avsrobust.conditions.sounds import Sound, unstored
from avsrobust.errors import RecipeError
from avsrobust.manifest import Skipped
from avsrobust.plugins import one_line

EVERY_CLIP = "*"
_MOST_NAMED = 20
# Clips whose rows are chosen together.
_CLIPS_AT_ONCE = 1 << 17


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One clip under one condition, before anything is made.

    Attributes:
        clip: The clip.
        condition: Name of the condition in the recipe.
        polarity: "positive" or "negative".
        level: In the condition's unit; None where it has none.
        draw: Number of the draw, from 0.
        seed: The row's own seed.
        sound: The audio, without a file where the recipe stores none.
        source: The clip whose sound it is, where that is another one.
        front_end: What its log-mel is made by.
        picture: Frames and masks where they are not the clip's own.
    """

    clip: Clip
    condition: str
    polarity: str
    level: float | None
    draw: int
    seed: int
    sound: Sound
    source: Clip | None
    front_end: str
    picture: Picture | None = None

    @property
    def key(self) -> tuple[str, str, str, float, int]:
        """Sort key, that of `avsrobust.manifest.Row`."""
        level = float("-inf") if self.level is None else self.level
        return (self.clip.split, self.clip.clip_id, self.condition, level, self.draw)


@dataclass(frozen=True)
class Plan:
    """Rows to make; what is left out, and why (`clip_id` is `EVERY_CLIP` where that holds for all); remarks."""

    rows: tuple[PlannedRow, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@contextmanager
def without_cycles() -> Iterator[None]:
    """Make millions of objects that form no cycles, without the search for these, which would look at all of them again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def plan(
    clips: Sequence[Clip],
    recipe: Recipe,
    seed: int,
    off_screen_obstacle: str | None = None,
    listing: ReleasedListing | None = None,
    pool: Sequence[Clip] = (),
    recordings: Mapping[str, RecordingPool] | None = None,
) -> Plan:
    """Return the rows that `recipe` makes of `clips`, all of one data set.

    Args:
        clips: The clips, in any order.
        recipe: The conditions.
        seed: Seed of the build.
        off_screen_obstacle: Why off-screen sounds cannot be chosen; None where they can.
        listing: What the released generator finds on disk, for recipes that reproduce it (None: what the table of clips holds).
        pool: Clips of other splits and data sets, for conditions whose source clips come from there.
        recordings: A user's recordings, for conditions that draw from them, by the condition's name in the recipe.

    Raises:
        OptionError: The seed is out of range.
        RecipeError: The released generator does not cover the data set.
    """
    dataset = clips[0].dataset if clips else ""
    planned = PlannedDataset(
        dataset, tuple(clips), seed, off_screen_obstacle, listing, tuple(pool), dict(recordings or {})
    )
    with without_cycles():
        return _plan(planned, recipe)


def _plan(planned: PlannedDataset, recipe: Recipe) -> Plan:
    check_seed(planned.seed)
    ordered = tuple(sorted(planned.clips, key=lambda clip: (clip.split, clip.clip_id)))
    planned = replace(planned, clips=ordered)
    rows: list[PlannedRow] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for entry in recipe.entries:
        if entry.condition.highest_seed is not None:
            check_seed(planned.seed, entry.condition.highest_seed)
        notes += entry.condition.notes
        with one_line(f"condition {entry.name}: obstacle()", RecipeError):
            obstacle = entry.condition.obstacle(planned)
        if obstacle is not None:
            skipped.append(Skipped(EVERY_CLIP, entry.name, obstacle))
            continue
        fallbacks = _plan_condition(entry, planned, rows, skipped, store_audio=recipe.store_audio)
        if fallbacks:
            notes.append(_fallback_note(entry.name, entry.condition.pool, fallbacks))
    notes += _source_notes(ordered, rows)
    notes += source_lines(count_sources(rows))
    # A condition with several levels gives one reason for all of them.
    unique = sorted(set(skipped), key=lambda entry: (entry.clip_id, entry.condition or "", entry.reason))
    return Plan(_in_order(rows), tuple(unique), tuple(notes))


def _in_order(rows: Sequence[PlannedRow]) -> tuple[PlannedRow, ...]:
    """Return rows, those of a condition in the order of their clips, sorted by their keys: by numbers, which take less memory."""
    kinds = {(row.condition, row.level, row.draw): row.key[2:] for row in rows}
    places = {kind: place for place, kind in enumerate(sorted(kinds, key=kinds.__getitem__))}
    clips: dict[int, int] = {}
    ordered = sorted({id(row.clip): row.clip for row in rows}.values(), key=lambda clip: (clip.split, clip.clip_id))
    number, before = -1, None
    for clip in ordered:
        name = (clip.split, clip.clip_id)
        number += name != before
        clips[id(clip)], before = number, name
    keys = np.fromiter(
        (clips[id(row.clip)] * len(places) + places[row.condition, row.level, row.draw] for row in rows),
        dtype=np.int64,
        count=len(rows),
    )
    return tuple(rows[position] for position in np.argsort(keys, kind="stable").tolist())


def _plan_condition(
    entry: RecipeEntry,
    planned: PlannedDataset,
    rows: list[PlannedRow],
    skipped: list[Skipped],
    *,
    store_audio: bool,
) -> list[str]:
    """Append the rows of one condition and what it skips; return the clips for which it fell back."""
    condition = entry.condition
    if not planned.clips:
        return []
    said = f"condition {entry.name}"
    with one_line(f"{said}: prepare()", RecipeError):
        choose = condition.prepare(planned)
    keep_none = not store_audio and entry.front_end in FRONT_ENDS.built_in
    fallbacks: list[str] = []
    names = (planned.seed, planned.dataset, entry.name)
    drawn = [
        (level, draw, row_seeds(*names, level, draw)) for level in condition.levels for draw in range(condition.draws)
    ]
    for first in range(0, len(planned.clips), _CLIPS_AT_ONCE):
        clips = planned.clips[first : first + _CLIPS_AT_ONCE]
        seeds_of = [partial(_seed_of, names, clip.clip_id) for clip in clips]
        requests = make_many(
            Request,
            len(clips) * len(drawn),
            condition=repeat(entry.name),
            clip=(clip for clip in clips for _ in drawn),
            level=cycle([level for level, _, _ in drawn]),
            draw=cycle([draw for _, draw, _ in drawn]),
            seed=[seeds(clip.clip_id) for clip in clips for _, _, seeds in drawn],
            seed_of=(seed_of for seed_of in seeds_of for _ in drawn),
        )
        made: list[tuple[Request, Choice]] = []
        for request, chosen in zip(requests, _choices(said, choose, requests), strict=True):
            if isinstance(chosen, Unavailable):
                skipped.append(Skipped(request.clip.clip_id, entry.name, chosen.reason))
                continue
            made.append((request, chosen))
            if chosen.fallback:
                fallbacks.append(request.clip.clip_id)
        sounds = (chosen.sound for _, chosen in made)
        rows += make_many(
            PlannedRow,
            len(made),
            clip=(request.clip for request, _ in made),
            condition=repeat(entry.name),
            polarity=repeat(condition.polarity),
            level=(request.level for request, _ in made),
            draw=(request.draw for request, _ in made),
            seed=(request.seed for request, _ in made),
            sound=map(unstored, sounds) if keep_none else sounds,
            source=(chosen.source for _, chosen in made),
            front_end=repeat(entry.front_end),
            picture=(chosen.picture for _, chosen in made),
        )
    return fallbacks


def _choices(said: str, choose: Chooser, requests: Sequence[Request]) -> Iterator[Choice | Unavailable]:
    """Yield what is chosen for each request; a built-in rule may answer many of them at once, sooner."""
    if isinstance(choose, ManyChooser):
        yield from choose.many(requests)
        return
    for request in requests:
        try:
            chosen = choose(request)
        except (Exception, SystemExit):
            with one_line(f"{said}, clip {request.clip.clip_id}: choosing", RecipeError):
                raise
        if not isinstance(chosen, Choice | Unavailable):
            raise RecipeError(
                f"{said}, clip {request.clip.clip_id}: found {type(chosen).__name__}; expected a Choice or Unavailable"
            )
        yield chosen


def _seed_of(names: tuple[int, str, str], clip_id: str, level: float | None, draw: int) -> int:
    seed, dataset, condition = names
    return row_seed(seed, dataset, clip_id, condition, level, draw)


def _fallback_note(condition: str, pool: str, clip_ids: Iterable[str]) -> str:
    names = sorted(set(clip_ids))
    return (
        f"{condition}: for {len(names)} clips no sound of a suitable other kind is in the {pool}; they have one of a clip "
        f"that shares no category: {_named(names)}"
    )


def _source_notes(clips: Iterable[Clip], rows: Iterable[PlannedRow]) -> Iterator[str]:
    """Say which clips are muted, and how often a rule draws source clips that `offscreen` never does by our own rule."""
    muted = [clip.clip_id for clip in clips if clip.is_muted]
    silent: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    for row in rows:
        if row.source is not None and row.source.is_muted:
            silent[row.condition] += 1
        if row.source is not None and row.source.has_no_label:
            unlabelled[row.condition] += 1
    if muted:
        count = "1 clip is" if len(muted) == 1 else f"{len(muted)} clips are"
        never = "" if silent else "; none is a source clip"
        yield f"{count} muted, the recording is silent or nearly so: {_named(muted)}{never}"
    for counts, sources in ((silent, "a muted clip"), (unlabelled, "a clip without an on-screen label")):
        for condition, number in sorted(counts.items()):
            yield f"{condition}: rows with the sound of {sources}, as the recipe's rule draws it: {number}"


def count_sources(rows: Iterable[PlannedRow]) -> dict[str, dict[str, dict[str, int]]]:
    """Count the distinct recordings behind the rows of each condition that takes its sound from other clips.

    Returns:
        By condition and split: `rows`, the number of rows, `sources`, of distinct source clips, `largest`, the number of clips
        that the most used one serves.
    """
    names: dict[tuple[str, str], int] = {}
    clips: dict[str, int] = {}
    pairs: dict[tuple[str, str], array[int]] = {}
    for row in rows:
        if row.source is not None:
            source = names.setdefault((row.source.dataset, row.source.clip_id), len(names))
            clip = clips.setdefault(row.clip.clip_id, len(clips))
            pairs.setdefault((row.condition, row.clip.split), array("q")).append(source << 32 | clip)
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (condition, split), served in sorted(pairs.items()):
        # A clip that a source serves under several levels or draws counts once.
        _, clips_of_source = np.unique(np.unique(np.frombuffer(served, dtype=np.int64)) >> 32, return_counts=True)
        found.setdefault(condition, {})[split] = {
            "rows": len(served),
            "sources": len(clips_of_source),
            "largest": int(clips_of_source.max()),
        }
    return found


def source_lines(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """Return the counts of `count_sources` as lines for people, where a recording serves more than one row."""
    return [
        f"{condition}, {split}: {entry['rows']} rows have the sound of {entry['sources']} distinct clips; "
        f"the most used one serves {entry['largest']} clips"
        for condition, splits in counts.items()
        for split, entry in splits.items()
        if entry["sources"] < entry["rows"]
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
