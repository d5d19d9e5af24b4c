"""The gallery as the template shows it: names of models instead of files, numbers for categories and conditions.

Conventions
    The page's script finds models, conditions and categories by their numbers, never by their names: names come from files and
    are shown as text only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avsrobust.reporting.columns import MISSING, percent
from avsrobust.reporting.media import ClipRanks, GalleryClip, GalleryRow, PredictedMask
from avsrobust.reporting.model import Subject

ORDERS = ("largest mask under a negative", "lowest IoU under clean", "least change between sounds")


@dataclass(frozen=True)
class MaskView:
    """The masks of one model in a row: its number, its name, the masks and a line of scores."""

    model: int
    name: str
    entry: PredictedMask
    scores: str


@dataclass(frozen=True)
class RowView:
    """A row, the number of its condition, and the masks of each model."""

    condition: int
    row: GalleryRow
    masks: tuple[MaskView, ...]


@dataclass(frozen=True)
class ClipView:
    """A clip: its anchor, the numbers of its categories, for each order its rank value for each model ("-": undefined), and the
    first one in words.
    """

    anchor: str
    clip: GalleryClip
    categories: str
    ranks: tuple[str, ...]
    worst: str
    rows: tuple[RowView, ...]


@dataclass(frozen=True)
class GalleryView:
    """The gallery of one section."""

    models: tuple[str, ...]
    first: int
    second: int
    conditions: tuple[str, ...]
    categories: tuple[str, ...]
    orders: tuple[str, ...]
    clips: tuple[ClipView, ...]


def gallery_view(clips: Sequence[GalleryClip], subjects: Sequence[Subject], anchor: str) -> GalleryView | None:
    """Return the gallery of a section; None where none of the clips is of it.

    Args:
        clips: The clips of the section.
        subjects: The section's models.
        anchor: Anchor of the section.
    """
    sources = {entry.source for clip in clips for row in clip.rows for entry in row.masks}
    shown = [subject for subject in subjects if subject.source in sources]
    if not clips or not shown:
        return None
    numbers = {subject.source or "": number for number, subject in enumerate(shown)}
    conditions = tuple(dict.fromkeys(row.title for clip in clips for row in clip.rows))
    categories = tuple(sorted({label for clip in clips for label in clip.labels}))
    models = [number for number, subject in enumerate(shown) if not subject.is_baseline] or [0]
    others = [number for number in range(len(shown)) if number != models[0]]
    return GalleryView(
        models=tuple(subject.name for subject in shown),
        first=models[0],
        second=models[1] if len(models) > 1 else (others[0] if others else -1),
        conditions=conditions,
        categories=categories,
        orders=ORDERS,
        clips=tuple(
            _clip_view(clip, shown, numbers, conditions, categories, f"{anchor}.clip-{number}", models[0])
            for number, clip in enumerate(clips, start=1)
        ),
    )


def _clip_view(
    clip: GalleryClip,
    subjects: Sequence[Subject],
    numbers: dict[str, int],
    conditions: tuple[str, ...],
    categories: tuple[str, ...],
    anchor: str,
    first: int,
) -> ClipView:
    ranks = {entry.source: entry for entry in clip.ranks}
    of = [ranks.get(subject.source or "") for subject in subjects]
    return ClipView(
        anchor=anchor,
        clip=clip,
        categories=" ".join(str(categories.index(label)) for label in clip.labels),
        # The larger, the worse.
        ranks=(
            _values([None if entry is None else entry.largest for entry in of]),
            _values([None if entry is None or entry.clean_iou is None else -entry.clean_iou for entry in of]),
            _values([None if entry is None or entry.change is None else -entry.change for entry in of]),
        ),
        worst=_worst(of[first]),
        rows=tuple(
            RowView(
                conditions.index(row.title),
                row,
                tuple(
                    MaskView(numbers[entry.source], subjects[numbers[entry.source]].name, entry, _scores(row, entry))
                    for entry in row.masks
                    if entry.source in numbers
                ),
            )
            for row in clip.rows
        ),
    )


def _values(values: Sequence[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.4f}" for value in values)


def _worst(ranks: ClipRanks | None) -> str:
    """What the first order says of the model that is shown first; the script says it of whatever is chosen."""
    return "" if ranks is None or ranks.largest is None else f"{ORDERS[0]}: {_percent(ranks.largest)}"


def _scores(row: GalleryRow, entry: PredictedMask) -> str:
    """The scores of one model in a row, for people."""
    parts = [f"marked {_percent(entry.area)}"]
    if entry.iou is not None:
        parts.insert(0, f"IoU {_percent(entry.iou)}")
    if entry.overlap is not None:
        parts.append(f"overlap with clean {_percent(entry.overlap)}")
    return ", ".join(parts)


def _percent(value: float | None) -> str:
    text = percent(value)
    return text if text == MISSING else f"{text} %"
