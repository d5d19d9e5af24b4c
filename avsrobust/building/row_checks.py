"""Check the rows of a manifest by themselves: do they agree with one another, and with the build's own facts?

Conventions
    No file but the manifest is read. Every problem is one line: which row or clip, what was found, what was expected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby

from avsrobust.building.plan import EVERY_CLIP
from avsrobust.condition_facts import BASIC_FACTS
from avsrobust.conditions.base import RELEASED
from avsrobust.conditions.seeds import row_seed
from avsrobust.manifest import MADE_PREFIX, Manifest, ManifestInfo, Row
from avsrobust.vocabulary import FOREGROUND_RULES, counted


def check_rows(manifest: Manifest) -> Iterator[str]:
    """Yield the problems that follow from the rows alone, one line each, and clips that lack rows."""
    is_sorted, before = True, None
    repeated: Counter[tuple[str, str, str, float, int]] = Counter()
    contradictions: list[str] = []
    for row in manifest.rows:
        key = row.key
        is_sorted = is_sorted and (before is None or before <= key)
        # Equal ones follow one another in sorted rows.
        if key == before:
            repeated[key] += 1
        before = key
        contradictions += (
            f"row {row_name(row)}: found {found}; expected {expected}; build again"
            for found, expected in _contradictions(manifest, row)
        )
    if before is None:
        yield f"{manifest.path}: found no rows; build again"
    if not is_sorted:
        yield f"{manifest.path}: rows are not sorted by split, clip_id, condition, level; build again"
        counts = Counter(row.key for row in manifest.rows)
        repeated = Counter({key: count - 1 for key, count in counts.items() if count > 1})
    for (split, clip_id, condition, level, draw), more in repeated.items():
        drawn = f", draw {draw}" if draw else ""
        times = f"is there {counted(more + 1, 'time')}; expected once"
        yield f"row {split}/{clip_id}/{condition}/{level}{drawn}: {times}; build again"
    yield from contradictions
    yield from _check_completeness(manifest, is_sorted=is_sorted)


def _rows_by_condition(rows: Iterable[Row], *, is_sorted: bool) -> Iterator[tuple[tuple[str, str], Counter[str]]]:
    """Yield each clip with its number of rows under each condition."""
    if is_sorted:
        for clip, group in groupby(rows, key=lambda row: (row.split, row.clip_id)):
            yield clip, Counter(row.condition for row in group)
        return
    present: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        present[row.split, row.clip_id][row.condition] += 1
    yield from present.items()


def _contradictions(manifest: Manifest, row: Row) -> Iterator[tuple[str, str]]:
    """Yield (found, expected) of a row's columns that contradict each other or the metadata."""
    info = manifest.info
    if row.dataset != info.dataset:
        yield f"data set {row.dataset}", f"{info.dataset}"
    seed = row_seed(info.seed, row.dataset, row.clip_id, row.condition, row.level, row.draw)
    if row.seed != seed:
        yield f"seed {row.seed}", f"{seed}"
    facts = manifest.facts(row.condition)
    if facts is None:
        known = dict.fromkeys([*BASIC_FACTS, *info.conditions])
        yield f"condition {row.condition}", f"one of {', '.join(known)}"
    elif row.polarity != facts["polarity"]:
        yield f"polarity {row.polarity}", str(facts["polarity"])
    if row.num_frames != len(row.frames) or len(row.masks) != len(row.frames):
        yield f"{counted(len(row.frames), 'frame')} and {counted(len(row.masks), 'mask')}", f"{row.num_frames} of each"
    if row.log_mel.startswith(MADE_PREFIX) != row.audio.startswith(MADE_PREFIX):
        yield f"the audio {row.audio} and the log-mel {row.log_mel}", "a file of both or of none"
    if row.source_clip_id == row.clip_id:
        yield "its own clip as source", "another one"
    if row.foreground not in FOREGROUND_RULES:
        yield f"foreground {row.foreground}", f"one of {', '.join(FOREGROUND_RULES)}"
    shared = sorted(set(row.source_labels or ()) & set(row.labels))
    if shared and not _is_released(info, row.condition):
        yield f"a source that shares the category {', '.join(shared)}", "one that shares none"


def _is_released(info: ManifestInfo, condition: str) -> bool:
    """Return whether the released generator chose the sound: its fallbacks may share a category."""
    options = info.recipe.get("conditions", {}).get(condition, {})
    return bool(options.get("generator") == RELEASED)


def _check_completeness(manifest: Manifest, *, is_sorted: bool) -> Iterator[str]:
    """Check that every clip is there under every condition of the recipe, or is listed as left out."""
    conditions = manifest.info.recipe.get("conditions")
    if not isinstance(conditions, dict) or not conditions:
        yield f"{manifest.path}: found a recipe without conditions in the metadata; expected some; build again"
        return
    skipped = {(entry.clip_id, entry.condition) for entry in manifest.info.skipped}
    for (split, clip_id), there in _rows_by_condition(manifest.rows, is_sorted=is_sorted):
        for name in sorted(conditions):
            facts = manifest.facts(name)
            if facts is None:
                yield f"{manifest.path}: condition {name}: not known; expected facts about it in the metadata; build again"
                return
            expected = len(facts["levels"]) * int(facts["draws"])
            if {(clip_id, name), (EVERY_CLIP, name)} & skipped:
                continue
            if there[name] != expected:
                yield f"clip {split}/{clip_id}: found {counted(there[name], 'row')} of {name}; expected {expected}; build again"


def row_name(row: Row) -> str:
    """Return the name of a row in messages."""
    level = "" if row.level is None else f"/{row.level:g}"
    draw = f"/draw {row.draw}" if row.draw else ""
    return f"{row.split}/{row.clip_id}/{row.condition}{level}{draw}"
