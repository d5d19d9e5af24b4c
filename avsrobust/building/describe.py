"""Summary of a planned build, before anything is made: for ``--dry-run``.

Conventions
    Sizes are bytes of the files' contents as planned; the manifest itself (small) is not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from avsrobust.building.layout import lay_out
from avsrobust.building.lenders import Lenders
from avsrobust.building.plan import EVERY_CLIP, Plan
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.survey import ContentSurvey, survey_lines
from avsrobust.vocabulary import SPLITS, counted

_WAV_HEADER = 44
_NPY_HEADER = 128
_MOST_LISTED = 20


@dataclass(frozen=True)
class Summary:
    """Counts of a planned build: clips per split, rows per condition, files and bytes to be written.

    `contents` is what a survey of the files' contents found, in lines for people.
    """

    layout: str
    clips: dict[str, int]
    rows: dict[str, int]
    num_sounds: int
    num_log_mels: int
    num_pictures: int
    num_bytes: int
    num_picture_bytes: int
    notes: tuple[str, ...]
    findings: tuple[str, ...]
    skipped: tuple[str, ...]
    contents: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the summary as lines for people."""
        total = sum(self.clips.values())
        clips = ", ".join(f"{split} {self.clips[split]}" for split in SPLITS if split in self.clips)
        rows = ", ".join(f"{condition} {count}" for condition, count in self.rows.items())
        return [
            f"found: {self.layout}",
            f"clips: {total} ({clips})",
            *(f"note: {note}" for note in self.notes),
            *self.contents,
            *_listed("finding", self.findings),
            f"would make: {counted(sum(self.rows.values()), 'row')} ({rows})",
            f"would write: {counted(self.num_sounds, 'sound')}, {counted(self.num_log_mels, 'log-mel')}, "
            f"{_readable(self.num_bytes)}"
            + (
                f", and {counted(self.num_pictures, 'picture')}, about {_readable(self.num_picture_bytes)}"
                if self.num_pictures
                else ""
            ),
            *_listed("skipped", self.skipped),
        ]


def describe(
    dataset: DataSet,
    plan: Plan,
    survey: ContentSurvey | None = None,
    lenders: Lenders | None = None,
) -> Summary:
    """Return the summary of a planned build.

    Args:
        dataset: The data set.
        plan: The plan of the build.
        survey: Survey of its files' contents.
        lenders: Sounds from elsewhere; of a user's recordings the build keeps those that rows use.
    """
    lenders = lenders or Lenders()
    layout = lay_out(plan)
    used = layout.needed_sounds
    made = [*layout.sounds, *(sound for name, sound in lenders.sounds.items() if name in used)]
    sounds = sum(_WAV_HEADER + 2 * sound.num_samples for sound in made)
    log_mels = sum(_NPY_HEADER + shard.num_bytes for shard in layout.shards)
    conditions = plan.rows.conditions()
    return Summary(
        layout=dataset.layout,
        clips=dict(Counter(clip.split for clip in dataset.clips)),
        rows={condition: conditions[condition] for condition in sorted(conditions)},
        num_sounds=len(made),
        num_log_mels=layout.num_log_mels,
        num_pictures=len(layout.pictures),
        num_bytes=sounds + log_mels,
        num_picture_bytes=sum(picture.expected_bytes for picture in layout.pictures),
        notes=(*dataset.notes, *lenders.notes, *plan.notes),
        findings=tuple(str(finding) for finding in (*dataset.findings, *(survey.findings if survey else ()))),
        skipped=tuple(
            f"{'every clip' if entry.clip_id == EVERY_CLIP else entry.clip_id}, {entry.condition}: {entry.reason}"
            for entry in plan.skipped
        ),
        contents=tuple(survey_lines(survey.summary, dataset.name)) if survey else (),
    )


def _listed(title: str, entries: tuple[str, ...]) -> list[str]:
    more = [f"{title}: ... and {len(entries) - _MOST_LISTED} more"] if len(entries) > _MOST_LISTED else []
    return [*(f"{title}: {entry}" for entry in entries[:_MOST_LISTED]), *more]


def _readable(num_bytes: int) -> str:
    """Return a size with a decimal unit.

    >>> _readable(512), _readable(2_500_000)
    ('512 B', '2.5 MB')
    """
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
