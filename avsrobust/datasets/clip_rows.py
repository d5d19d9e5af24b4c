"""From rows of a table to declared clips.

Conventions
    A `ClipRow` is a row that names a clip. `accept` keeps the rows that pass all checks which need the table alone: safe names, a
    known split, known categories, an id of its own. Only an accepted row gets paths (`ClipFiles.declare`), so a hostile name
    touches nothing on disk.
    Findings about a row carry the clip's id as the table has it, or ``line N`` where it has none; either way it is a text
    to show, not a path to use.
    Rows of splits that were not requested are skipped, but their ids count when ids are compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from avsrobust.clips import DeclaredClip
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.spec import DataSetSpec
from avsrobust.datasets.tables import Table, TableRow
from avsrobust.datasets.taxonomy import Categories
from avsrobust.errors import did_you_mean
from avsrobust.files import is_safe_relative
from avsrobust.vocabulary import SPLITS

# File systems take no more bytes in one part of a path; endings come to it.
_LONGEST_NAME = 240


@dataclass(frozen=True)
class ClipRow:
    """A row that names a clip.

    Attributes:
        table_row: The row.
        clip_id: Id of the clip, made of `names`.
        split: The cell that names the split.
        names: The cells that become parts of paths, by their nouns ("name", "category").
        labels: The clip's categories.
        has_no_label: The table says that nothing on screen makes a sound (`avsrobust.datasets.slips`).
    """

    table_row: TableRow
    clip_id: str
    split: str
    names: Mapping[str, str]
    labels: tuple[str, ...]
    has_no_label: bool = False

    @property
    def shown_id(self) -> str:
        """The clip's id as one printable line."""
        return printable(self.clip_id) if all(self.names.values()) else f"line {self.table_row.line}"


@dataclass(frozen=True)
class ClipFiles:
    """Patterns of the paths of a clip's files.

    In braces stand ``split``, ``clip_id``, ``number`` (of a frame or mask), and the names of a `ClipRow`.

    Attributes:
        frames: Pattern of a frame's path.
        masks: Pattern of a mask's path.
        audio: Pattern of the recording's path.
        num_frames: Number of frames.
        first: Number of the first frame.

    >>> from avsrobust.datasets.s4 import S4
    >>> S4.files.frames
    'visual_frames/{split}/{clip_id}/{name}_{number}.png'
    """

    frames: str
    masks: str
    audio: str
    num_frames: int
    first: int = 1

    def declare(
        self, spec: DataSetSpec, folder: str, row: ClipRow, *, only_first_mask: bool = False, **names: str
    ) -> DeclaredClip:
        """Return the clip of a row.

        Args:
            spec: The data set.
            folder: Folder of the patterns, relative to the data root; "" is the root itself.
            row: An accepted row.
            only_first_mask: The first frame alone has a mask.
            names: More names in the patterns.
        """
        names |= {**row.names, "split": row.split, "clip_id": row.clip_id}
        start = f"{folder}/" if folder else ""
        numbers = range(self.first, self.first + self.num_frames)
        return DeclaredClip(
            dataset=spec.name,
            split=row.split,
            clip_id=row.clip_id,
            labels=row.labels,
            broad=spec.categories.supercategories(row.labels),
            frames=tuple(start + self.frames.format(number=number, **names) for number in numbers),
            masks=tuple(
                None if only_first_mask and number != self.first else start + self.masks.format(number=number, **names)
                for number in numbers
            ),
            audio=start + self.audio.format(**names),
            has_no_label=row.has_no_label,
        )


def accept(
    table: Table, rows: Iterable[ClipRow], splits: Collection[str], categories: Categories
) -> tuple[list[ClipRow], list[Finding], Counter[str]]:
    """Check the rows of a table.

    Args:
        table: The table.
        rows: All its rows that name a clip.
        splits: Requested splits.
        categories: Categories of the data set.

    Returns:
        The rows of the requested splits that are in order, findings about the others of them, and the number of rows that name
        each split.
    """
    rows = list(rows)
    lines = defaultdict(list)
    for row in rows:
        lines[row.clip_id].append(row.table_row.line)
    good: list[ClipRow] = []
    findings: list[Finding] = []
    for row in rows:
        if row.split in SPLITS and row.split not in splits:
            continue
        problems = list(_name_problems(row)) or list(_label_problems(row, categories))
        problems += _split_problems(row)
        if len(lines[row.clip_id]) > 1 and all(row.names.values()):
            places = ", ".join(map(str, lines[row.clip_id]))
            problems.append((f"the clip '{row.shown_id}' in the lines {places}", "every clip once"))
        findings += [Finding(table.where(row.table_row), *problem, clip_id=row.shown_id) for problem in problems]
        if not problems:
            good.append(row)
    return good, findings, Counter(row.split for row in rows)


def printable(text: str) -> str:
    """Return a text from a data file as one line without control characters.

    >>> printable("a" + chr(10) + "b")
    'a?b'
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def _name_problems(row: ClipRow) -> Iterable[tuple[str, str]]:
    for noun, name in row.names.items():
        if not name:
            yield f"an empty {noun}", f"the {noun} of a clip"
        elif "/" in name or not is_safe_relative(name) or len(name.encode()) > _LONGEST_NAME:
            expected = f"part of a file's name, without '/', '\\', '..' or control characters, of at most {_LONGEST_NAME} bytes"
            yield f"the {noun} '{printable(name)[:100]}'", expected


def _split_problems(row: ClipRow) -> Iterable[tuple[str, str]]:
    if row.split not in SPLITS:
        hint = did_you_mean(row.split, SPLITS)
        yield f"the split '{printable(row.split)}'", f"{', '.join(SPLITS[:-1])} or {SPLITS[-1]}{hint}"


def _label_problems(row: ClipRow, categories: Categories) -> Iterable[tuple[str, str]]:
    opposed = [label for label in row.labels if label in categories.no_label]
    for label in opposed:
        expected = f"categories, or '{label}' alone, which says that nothing in the picture sounds"
        yield f"the label '{label}' beside others", expected
    for label in categories.unknown(label for label in row.labels if label not in opposed):
        hint = did_you_mean(label, categories.supercategory)
        yield f"the category '{printable(label)}'", f"one of {categories.title}{hint}"
