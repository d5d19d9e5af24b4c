"""Categories of MS3 clips, looked up in AVSBench-semantic's metadata.csv.

Conventions
    Rows with the label v1m are MS3's clips. Which of their columns equals the MS3 name is not documented: AVSBench-Robust
    (dataset_generation/audio_processing.py `process_ms3_split`) matches the wav's stem with `vid`; the names look like a vid
    followed by a start time. So the rules of `_RULES` are tried in turn, clip by clip, the plainest first. A rule that
    gives a clip two different sets of labels gives it none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from avsrobust.datasets.avss import COLUMNS
from avsrobust.datasets.slips import Reading, read_labels, reading_notes
from avsrobust.datasets.tables import Table, read_table
from avsrobust.datasets.trees import SEMANTIC, FoundTrees

SUBSET = "v1m"
NAMES_SHOWN = 5


def _whole(text: str) -> str:
    return text


def _less_times(text: str) -> str:
    return re.sub(r"_\d+_\d+$", "", text)


def _less_number(text: str) -> str:
    return re.sub(r"_\d+$", "", text)


@dataclass(frozen=True)
class _Rule:
    """A clip and a row belong together where ``of_name(name) == of_cell(row[column])``."""

    column: str
    title: str
    of_name: Callable[[str], str]
    of_cell: Callable[[str], str]


_RULES = (
    _Rule("vid", "vid", _whole, _whole),
    _Rule("uid", "uid", _whole, _whole),
    _Rule("uid", "uid without its times", _whole, _less_times),
    _Rule("uid", "uid without its end time", _whole, _less_number),
    _Rule("vid", "vid, which equals the name without its last number", _less_number, _whole),
)


@dataclass(frozen=True)
class Ms3Labels:
    """Categories of MS3 clips.

    Attributes:
        table: Path of AVSBench-semantic's table; None where there is none.
        readings: Readings of a_obj by clip name; clips whose categories are not known are missing.
        rules: Number of clips that each rule matched, by its title.
        obstacle: Reason why there are no categories at all, or None.
    """

    table: str | None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    rules: Mapping[str, int] = field(default_factory=dict)
    obstacle: str | None = None

    def notes(self, names: Collection[str]) -> tuple[str, ...]:
        """Return notes about the origin of the categories of these clips, and about clips without any."""
        if self.table is None or self.obstacle is not None:
            return ()
        rules = "; ".join(f"{count} clips matched by {title}" for title, count in self.rules.items())
        notes = [f"categories are AVSBench-semantic's, {SUBSET} rows of {self.table} ({rules})"]
        notes += reading_notes(self.table, ((name, self.readings[name]) for name in names if name in self.readings))
        without = sorted(name for name in names if name not in self.readings)
        if without:
            shown = ", ".join(without[:NAMES_SHOWN]) + (", ..." if len(without) > NAMES_SHOWN else "")
            notes.append(
                f"{self.table} gives no categories, or contradicting ones, for {len(without)} MS3 clips ({shown}); "
                "they get no off-screen sound"
            )
        return tuple(notes)


def find_labels(found: FoundTrees, clips: Iterable[tuple[str, str]]) -> Ms3Labels:
    """Look up the categories of MS3 clips.

    Args:
        found: AVSBench's trees below the data root.
        clips: (name, split) of each clip.

    Raises:
        DataSetError: metadata.csv is there but cannot be read, lacks a column, or is there twice.
    """
    path = found.semantic_table()
    if path is None:
        wanted = f"{found.root}/{SEMANTIC.usual_names[0]}/{SEMANTIC.table}"
        return Ms3Labels(
            None, obstacle=f"MS3's own table has no categories; put AVSBench-semantic's metadata.csv at {wanted}"
        )
    table = read_table(found.root, path)
    rows = _rows_by_rule(table)
    clips = tuple(clips)
    namesakes = [Counter(rule.of_name(name) for name in {name for name, _ in clips}) for rule in _RULES]
    readings: dict[str, Reading] = {}
    rules: Counter[str] = Counter()
    for name, split in clips:
        for rule, by_key, sharing in zip(_RULES, rows, namesakes, strict=True):
            key = rule.of_name(name)
            # Two clips cut from one video share a shortened name: which row is whose cannot be told.
            if key in by_key and sharing[key] == 1:
                choice = _one_choice(by_key[key], split)
                if choice is not None:
                    readings[name] = choice
                    rules[rule.title] += 1
                break
    if not readings:
        return Ms3Labels(
            path,
            obstacle=f"{path} has no row with the label {SUBSET} that fits an MS3 clip, so their categories are unknown; "
            "put the metadata.csv that comes with AVSBench-semantic there",
        )
    return Ms3Labels(path, readings, rules)


def _rows_by_rule(table: Table) -> list[dict[str, list[tuple[str, Reading]]]]:
    """Return, per rule, (split, reading) of the v1m rows by the key that a name must have."""
    column = table.require(*COLUMNS)
    tables: list[dict[str, list[tuple[str, Reading]]]] = []
    for rule in _RULES:
        by_key = defaultdict(list)
        for row in table.rows:
            if row.cells[column["label"]] == SUBSET:
                entry = (row.cells[column["split"]], read_labels(row.cells[column["a_obj"]]))
                by_key[rule.of_cell(row.cells[column[rule.column]])].append(entry)
        tables.append(dict(by_key))
    return tables


def _one_choice(rows: list[tuple[str, Reading]], split: str) -> Reading | None:
    """Return the reading that all rows agree on, those of the clip's own split first; None where they contradict or are empty."""
    own = [reading for row_split, reading in rows if row_split == split] or [reading for _, reading in rows]
    agree = len({(frozenset(reading.labels), reading.no_label is None) for reading in own}) == 1
    return own[0] if agree and (own[0].labels or own[0].no_label is not None) else None
