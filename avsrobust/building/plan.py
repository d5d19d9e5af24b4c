"""The plan of a build: clips and a recipe in, rows out, without touching a file.

Conventions
    A pure function: equal clips (in any order), recipe, seed and listing give an equal plan. Rows are sorted by split,
    clip_id, condition, level, draw, as in the manifest. What cannot be made is listed in `skipped`, never dropped in silence.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, repeat

import numpy as np
from numpy.typing import NDArray

from avsrobust.audio.front_ends import FRONT_ENDS
from avsrobust.building.planned_rows import PlannedRow, PlannedRows, RowCollector, RowKind
from avsrobust.bulk import make_many
from avsrobust.clips import Clip
from avsrobust.conditions.base import (
    Choice,
    Chooser,
    LendingChooser,
    PlannedDataset,
    RecordingPool,
    Request,
    SoundOfClip,
    Unavailable,
)
from avsrobust.conditions.recipe import Recipe, RecipeEntry
from avsrobust.conditions.reference import ReleasedListing
from avsrobust.conditions.seeds import check_seed, row_seed, row_seeds
from avsrobust.conditions.sounds import unstored
from avsrobust.errors import RecipeError
from avsrobust.manifest import Skipped
from avsrobust.plugins import one_line

__all__ = ["EVERY_CLIP", "Plan", "PlannedRow", "PlannedRows", "count_sources", "plan", "source_lines", "without_cycles"]

EVERY_CLIP = "*"
_MOST_NAMED = 20
# Clips whose rows are chosen together.
_CLIPS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Plan:
    """Rows to make; skipped clips, with the reason (`clip_id` is `EVERY_CLIP` where that holds for all); remarks."""

    rows: PlannedRows
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
        off_screen_obstacle: Reason why off-screen sounds cannot be chosen; None: they can.
        listing: Files that the released generator finds on disk, for recipes that reproduce it (None: the table's).
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
    collected = RowCollector(ordered)
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
        found = _plan_condition(entry, planned, collected, store_audio=recipe.store_audio)
        skipped += found.skipped
        if found.fallbacks:
            notes.append(_fallback_note(entry.name, entry.condition.pool, found.fallbacks))
    rows = collected.rows()
    notes += _source_notes(ordered, rows)
    notes += source_lines(count_sources(rows))
    # A condition with several levels gives one reason for all of them.
    unique = sorted(set(skipped), key=lambda entry: (entry.clip_id, entry.condition or "", entry.reason))
    return Plan(rows, tuple(unique), tuple(notes))


@dataclass(frozen=True)
class _Exceptions:
    """Exceptions among the rows of one condition: skipped clips, and clips for which a weaker rule was used."""

    skipped: list[Skipped]
    fallbacks: list[str]


@dataclass(frozen=True)
class _Drawn:
    """One level and draw of a condition."""

    level: float | None
    draw: int
    kind: int


def _plan_condition(
    entry: RecipeEntry, planned: PlannedDataset, collected: RowCollector, *, store_audio: bool
) -> _Exceptions:
    """Collect the rows of one condition; return its exceptions."""
    condition, said = entry.condition, f"condition {entry.name}"
    found = _Exceptions([], [])
    if not planned.clips:
        return found
    with one_line(f"{said}: prepare()", RecipeError):
        choose = condition.prepare(planned)
    keep_none = not store_audio and entry.front_end in FRONT_ENDS.built_in
    own = choose if isinstance(choose, SoundOfClip) else None
    rows = _ConditionRows(entry, planned, choose, collected, found, keep_none=keep_none)
    drawn = [
        _Drawn(
            level,
            draw,
            collected.add_kind(
                RowKind(entry.name, condition.polarity, level, draw, entry.front_end, own, keep_none=keep_none)
            ),
        )
        for level in condition.levels
        for draw in range(condition.draws)
    ]
    for first in range(0, len(planned.clips), _CLIPS_AT_ONCE):
        numbers = range(first, min(first + _CLIPS_AT_ONCE, len(planned.clips)))
        clips = planned.clips[first : numbers.stop]
        seeds = [
            row_seeds(planned.seed, planned.dataset, (clip.clip_id for clip in clips), entry.name, one.level, one.draw)
            for one in drawn
        ]
        if isinstance(choose, SoundOfClip):
            for one, its_seeds in zip(drawn, seeds, strict=True):
                collected.add(one.kind, np.array(numbers, dtype=np.int32), its_seeds)
        elif isinstance(choose, LendingChooser):
            for one, its_seeds in zip(drawn, seeds, strict=True):
                rows.add_lent(choose, one, numbers, its_seeds)
        else:
            rows.add_held(drawn, numbers, seeds)
    return found


@dataclass(frozen=True)
class _ConditionRows:
    """Collects the rows of one condition."""

    entry: RecipeEntry
    planned: PlannedDataset
    choose: Chooser
    collected: RowCollector
    found: _Exceptions
    keep_none: bool

    def add_lent(self, lender: LendingChooser, one: _Drawn, numbers: range, seeds: NDArray[np.uint64]) -> None:
        """Collect the rows of one level and draw that have the sound of another clip."""
        clips = self.planned.clips[numbers.start : numbers.stop]
        drawn = lender.first_draws(clips, seeds) if one.draw == 0 else [None] * len(clips)
        sources = np.array([self.collected.number_of(source) for source in drawn], dtype=np.int32)
        for position in np.flatnonzero(sources < 0).tolist():
            request = next(iter(self._requests([one], [clips[position]], [seeds[position : position + 1]])))
            chosen = self._chosen(request)
            if chosen is not None:
                sources[position] = self.collected.number_of(chosen.source)
        has_one = sources >= 0
        chosen_numbers = np.array(numbers, dtype=np.int32)[has_one]
        self.collected.add(one.kind, chosen_numbers, seeds[has_one], sources[has_one])

    def add_held(self, drawn: Sequence[_Drawn], numbers: range, seeds: Sequence[NDArray[np.uint64]]) -> None:
        """Collect the rows of some clips as objects."""
        clips = self.planned.clips[numbers.start : numbers.stop]
        asked = ((one.kind, number) for number in numbers for one in drawn)
        made: list[tuple[Request, Choice]] = []
        kinds: list[int] = []
        of_clips: list[int] = []
        for request, (kind, number) in zip(self._requests(drawn, clips, seeds), asked, strict=True):
            chosen = self._chosen(request)
            if chosen is not None:
                made.append((request, chosen))
                kinds.append(kind)
                of_clips.append(number)
        sounds = (chosen.sound for _, chosen in made)
        rows = make_many(
            PlannedRow,
            len(made),
            clip=(request.clip for request, _ in made),
            condition=repeat(self.entry.name),
            polarity=repeat(self.entry.condition.polarity),
            level=(request.level for request, _ in made),
            draw=(request.draw for request, _ in made),
            seed=(request.seed for request, _ in made),
            sound=map(unstored, sounds) if self.keep_none else sounds,
            source=(chosen.source for _, chosen in made),
            front_end=repeat(self.entry.front_end),
            picture=(chosen.picture for _, chosen in made),
        )
        self.collected.add_held(kinds, of_clips, rows)

    def _requests(
        self, drawn: Sequence[_Drawn], clips: Sequence[Clip], seeds: Sequence[NDArray[np.uint64]]
    ) -> list[Request]:
        """Return the requests of some clips, all levels and draws of one after the other."""
        names = (self.planned.seed, self.planned.dataset, self.entry.name)
        seeds_of = [partial(_seed_of, names, clip.clip_id) for clip in clips]
        return make_many(
            Request,
            len(clips) * len(drawn),
            condition=repeat(self.entry.name),
            clip=(clip for clip in clips for _ in drawn),
            level=cycle([one.level for one in drawn]),
            draw=cycle([one.draw for one in drawn]),
            seed=(seed for of_clip in zip(*(values.tolist() for values in seeds), strict=True) for seed in of_clip),
            seed_of=(seed_of for seed_of in seeds_of for _ in drawn),
        )

    def _chosen(self, request: Request) -> Choice | None:
        """Return the choice; None: there is none."""
        said = f"condition {self.entry.name}, clip {request.clip.clip_id}"
        try:
            chosen = self.choose(request)
        except (Exception, SystemExit):
            with one_line(f"{said}: choosing", RecipeError):
                raise
        if isinstance(chosen, Unavailable):
            self.found.skipped.append(Skipped(request.clip.clip_id, self.entry.name, chosen.reason))
            return None
        if not isinstance(chosen, Choice):
            raise RecipeError(f"{said}: found {type(chosen).__name__}; expected a Choice or Unavailable")
        if chosen.fallback:
            self.found.fallbacks.append(request.clip.clip_id)
        return chosen


def _seed_of(names: tuple[int, str, str], clip_id: str, level: float | None, draw: int) -> int:
    seed, dataset, condition = names
    return row_seed(seed, dataset, clip_id, condition, level, draw)


def _fallback_note(condition: str, pool: str, clip_ids: Iterable[str]) -> str:
    names = sorted(set(clip_ids))
    return (
        f"{condition}: for {len(names)} clips no sound of a suitable other kind is in the {pool}; they have one of a clip "
        f"that shares no category: {_named(names)}"
    )


def _source_notes(clips: Iterable[Clip], rows: PlannedRows) -> Iterator[str]:
    """Say which clips are muted, and how often a rule draws source clips that `offscreen` never does by our own rule."""
    muted = [clip.clip_id for clip in clips if clip.is_muted]
    silent: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    for lent in rows.lent():
        silent[lent.condition] = lent.count(lambda source: source.is_muted)
        unlabelled[lent.condition] = lent.count(lambda source: source.has_no_label)
    if muted:
        count = "1 clip is" if len(muted) == 1 else f"{len(muted)} clips are"
        never = "" if +silent else "; none is a source clip"
        yield f"{count} muted, the recording is silent or nearly so: {_named(muted)}{never}"
    for counts, sources in ((silent, "a muted clip"), (unlabelled, "a clip without an on-screen label")):
        for condition, number in sorted((+counts).items()):
            yield f"{condition}: rows with the sound of {sources}, as the recipe's rule draws it: {number}"


def count_sources(rows: PlannedRows) -> dict[str, dict[str, dict[str, int]]]:
    """Count the distinct recordings behind the rows of each condition that takes its sound from other clips.

    Returns:
        By condition and split: `rows`, the number of rows, `sources`, of distinct source clips, `largest`, the number of clips
        that the most used one serves.
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    for lent in rows.lent():
        for split in sorted({clip.split for clip in lent.clips}):
            served = lent.pairs_of(split)
            # A clip that a source serves under several levels or draws counts once.
            _, clips_of_source = np.unique(np.unique(served) >> 32, return_counts=True)
            found.setdefault(lent.condition, {})[split] = {
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
