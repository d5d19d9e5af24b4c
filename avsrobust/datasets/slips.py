"""Reading AVSBench-semantic's column a_obj: labels joined by "_", and the slips of the released table.

Conventions
    The released metadata.csv (11,356 rows) holds three spellings that are no category; `SLIPS` says what each of them means and
    where it stands. They are AVSBench itself, not faults of a user's copy, so they are read, each with a note.
    A row whose only label is ``off-the-screen`` or ``background`` has no on-screen label: nothing in the picture sounds. Next to
    a category such a label contradicts it, which is a finding (`datasets.clip_rows`).
    Read with a note are also spellings that can mean one category only: blanks around a label, capitals, a label that is there
    twice, nothing between two "_". The released table has none of them; copies that went through a spreadsheet may.
    Everything else that is no category stays a finding, with a suggestion (`datasets.clip_rows`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, BACKGROUND, OFF_THE_SCREEN

_IDS_SHOWN = 5
_SPELLINGS_SHOWN = 5


@dataclass(frozen=True)
class Slip:
    """A released label that is no category.

    Attributes:
        label: The spelling.
        means: The category it means; None: the clip has no on-screen label.
        source: The rows that have it.
    """

    label: str
    means: str | None
    source: str


SLIPS = (
    Slip("h orse", "horse", "AVSBench-semantic's metadata.csv: one v1s train row, uid zVfLHhs9uv8_3000_8000"),
    Slip(OFF_THE_SCREEN, None, "AVSBench-semantic's metadata.csv: 27 v2 rows, 21 of train, 2 of val, 4 of test"),
    Slip(
        BACKGROUND,
        None,
        "AVSBench-semantic's metadata.csv: 5 v1m train rows, uids IrYMIVbDsh8_0, OBx79oY-RTc_0, RmYRkbGXZPY, SA6kKf9H3H4_0, "
        "SA6kKf9H3H4_1",
    ),
)
_SLIPS = {slip.label: slip for slip in SLIPS}


@dataclass(frozen=True)
class Reading:
    """The reading of a cell of a_obj.

    Attributes:
        labels: The categories, each once, in their order, and texts that are none, as they stand.
        no_label: The label which says that nothing on screen makes a sound (`labels` is then empty), or None.
        corrections: Pairs of a spelling and its reading.
    """

    labels: tuple[str, ...]
    no_label: str | None = None
    corrections: tuple[tuple[str, str], ...] = ()


def read_labels(a_obj: str) -> Reading:
    """Read a cell of a_obj.

    >>> read_labels("man_emergency-car")
    Reading(labels=('man', 'emergency-car'), no_label=None, corrections=())
    >>> read_labels("h orse").labels, read_labels("off-the-screen").labels
    (('horse',), ())
    """
    spelt = a_obj.split("_")
    read = {label: _category(label) for label in spelt}
    labels = tuple(dict.fromkeys(read[label] for label in spelt if label.strip()))
    corrections = [(label, category) for label, category in read.items() if label.strip() and label != category]
    if a_obj.strip("_ ") and len(labels) < len(spelt):
        corrections.append((a_obj, "_".join(labels)))
    if len(labels) == 1 and labels[0] in AVSS_CATEGORIES.no_label:
        return Reading((), labels[0], tuple(corrections))
    return Reading(labels, None, tuple(corrections))


def reading_notes(table: str, readings: Iterable[tuple[str, Reading]]) -> tuple[str, ...]:
    """Return notes about corrected spellings and about clips without an on-screen label.

    Args:
        table: Path of the table.
        readings: Pairs of a clip's id, to be shown, and the reading of its cell.
    """
    corrected: dict[tuple[str, str], list[str]] = defaultdict(list)
    without: dict[str, list[str]] = defaultdict(list)
    for clip_id, reading in sorted(readings, key=lambda entry: entry[0]):
        for correction in reading.corrections:
            corrected[correction].append(clip_id)
        if reading.no_label is not None:
            without[reading.no_label].append(clip_id)
    notes = [
        f"{table}: {_clips(ids)} {'has' if len(ids) == 1 else 'have'} no on-screen label ('{label}'): {_shown(ids)}; kept with "
        "empty labels, never a source clip"
        for label, ids in sorted(without.items())
    ]
    spellings = sorted(corrected.items())
    notes += [
        f"{table}: '{label}' is read as '{category}' in {_clips(ids)}: {_shown(ids)}"
        for (label, category), ids in spellings[:_SPELLINGS_SHOWN]
    ]
    if len(spellings) > _SPELLINGS_SHOWN:
        clips = {clip_id for _, ids in spellings[_SPELLINGS_SHOWN:] for clip_id in ids}
        more = len(spellings) - _SPELLINGS_SHOWN
        notes.append(f"{table}: {more} other spellings are read as the one thing they can mean, in {_clips(clips)}")
    return tuple(notes)


def _category(label: str) -> str:
    """Return the category that a spelling means; the spelling itself where it means none."""
    for spelling in (label, label.strip(), label.strip().casefold()):
        if spelling in _SLIPS:
            return _SLIPS[spelling].means or spelling
        if spelling in AVSS_CATEGORIES.supercategory:
            return spelling
    return label


def _clips(ids: Collection[str]) -> str:
    return "1 clip" if len(ids) == 1 else f"{len(ids)} clips"


def _shown(ids: list[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return ", ".join(ids[:_IDS_SHOWN]) + more
