"""From rows of a table to entries: clips as the table declares them, before any of their files is looked at.

Conventions
    A `Draft` is a row that names a clip; a `DeclaredClip` is a draft that passed all checks which need the table alone: safe
    names, a known split, known categories, an id of its own. Only it has paths, so a hostile name touches nothing on disk.
    Findings about a row carry the clip's id as the table has it, or ``line N`` where it has none; either way it is a text
    to show, not a path to use.
    Rows of splits that were not asked for are passed over, but their ids count when ids are compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from avsrobust.clips import DeclaredClip
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.slips import contradictions
from avsrobust.datasets.tables import Table, TableRow
from avsrobust.datasets.taxonomy import kinds_of_style, unknown_categories
from avsrobust.errors import did_you_mean
from avsrobust.files import is_safe_relative
from avsrobust.vocabulary import SPLITS

# File systems take no more bytes in one part of a path; endings come to it.
_LONGEST_NAME = 240


@dataclass(frozen=True)
class Draft:
    """A row that names a clip.

    `names` are the cells that become parts of paths, by what they are. `labels` are names of the style (`taxonomy`).
    `has_no_label`: the table says that nothing on screen sounds (`slips`).
    """

    row: TableRow
    clip_id: str
    split: str
    names: Mapping[str, str]
    labels: tuple[str, ...]
    style: str
    has_no_label: bool = False

    @property
    def shown_id(self) -> str:
        """The clip's id as one printable line."""
        return printable(self.clip_id) if all(self.names.values()) else f"line {self.row.line}"


@dataclass(frozen=True)
class DeclaredDataSet:
    """What the reader of one layout returns; the fields are those of `clips.DataSet`.

    `rows_per_split` counts the rows that name each split, with or without findings. `overlap`: see `datasets.overlap`.
    """

    layout: str
    entries: tuple[DeclaredClip, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    rows_per_split: Mapping[str, int]
    release: str
    overlap: Mapping[str, Mapping[str, int]]
    off_screen_obstacle: str | None = None


def accept(
    table: Table, drafts: Iterable[Draft], splits: Collection[str]
) -> tuple[list[Draft], list[Finding], Counter[str]]:
    """Return the drafts of these splits without a finding, the findings, and the number of rows of every split."""
    drafts = list(drafts)
    lines = defaultdict(list)
    for draft in drafts:
        lines[draft.clip_id].append(draft.row.line)
    good: list[Draft] = []
    findings: list[Finding] = []
    for draft in drafts:
        if draft.split in SPLITS and draft.split not in splits:
            continue
        problems = list(_name_problems(draft)) or list(_label_problems(draft))
        problems += _split_problems(draft)
        if len(lines[draft.clip_id]) > 1 and all(draft.names.values()):
            places = ", ".join(map(str, lines[draft.clip_id]))
            problems.append((f"the clip '{draft.shown_id}' in the lines {places}", "every clip once"))
        findings += [Finding(table.where(draft.row), *problem, clip_id=draft.shown_id) for problem in problems]
        if not problems:
            good.append(draft)
    return good, findings, Counter(draft.split for draft in drafts)


def printable(text: str) -> str:
    """Return a text from a data file as one line without control characters.

    >>> printable("a" + chr(10) + "b")
    'a?b'
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def _name_problems(draft: Draft) -> Iterable[tuple[str, str]]:
    for what, name in draft.names.items():
        if not name:
            yield f"an empty {what}", f"the {what} of a clip"
        elif "/" in name or not is_safe_relative(name) or len(name.encode()) > _LONGEST_NAME:
            yield f"the {what} '{printable(name)[:100]}'", "a name that is part of a file name, without '/' or '..'"


def _split_problems(draft: Draft) -> Iterable[tuple[str, str]]:
    if draft.split not in SPLITS:
        hint = did_you_mean(draft.split, SPLITS)
        yield f"the split '{printable(draft.split)}'", f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}{hint}"


def _label_problems(draft: Draft) -> Iterable[tuple[str, str]]:
    # S4's own names are none of AVSBench-semantic's.
    opposed = () if draft.style == "s4" else contradictions(draft.labels)
    for label in opposed:
        expected = f"categories, or '{label}' alone, which says that nothing in the picture sounds"
        yield f"the label '{label}' beside others", expected
    for label in unknown_categories(draft.style, (label for label in draft.labels if label not in opposed)):
        hint = did_you_mean(label, kinds_of_style(draft.style))
        names = "S4's 23 categories" if draft.style == "s4" else "AVSBench-semantic's 70 categories"
        yield f"the category '{printable(label)}'", f"one of {names}{hint}"
