"""Views of clips for adapters with `needs_clips`: who the clip is and where its files lie, without labels and targets.

Conventions
    Paths are absolute: an adapter may be in a working folder of its own. The view of a row names its condition; that of a
    picture, for `encode_frames`, does not, since one encoding serves all conditions, and its seed follows from data set, split,
    clip and frames alone: it does not depend on the conditions that happen to be run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from avsrobust.adapters.base import ClipView
from avsrobust.manifest import MADE_PREFIX, Manifest, Row


@dataclass(frozen=True)
class ClipViewer:
    """Makes the views of a manifest's rows.

    Attributes:
        build: The manifest.
        data_root: Folder of the data set.
    """

    build: Manifest
    data_root: Path

    def of_row(self, row: Row) -> ClipView:
        """Return the view of a row."""
        sound = None
        if not row.audio.startswith(MADE_PREFIX):
            sound = self.build.audio_path(row, self.data_root).absolute()
        return ClipView(
            dataset=row.dataset,
            split=row.split,
            clip_id=row.clip_id,
            condition=row.condition,
            level=row.level,
            draw=row.draw,
            seed=row.seed,
            frames=self._frames(row),
            sound=sound,
            num_frames=row.num_frames,
            sample_rate=row.sample_rate,
        )

    def of_picture(self, row: Row) -> ClipView:
        """Return the view of a row's frames."""
        return ClipView(
            dataset=row.dataset,
            split=row.split,
            clip_id=row.clip_id,
            condition="",
            level=None,
            draw=0,
            seed=_picture_seed(row),
            frames=self._frames(row),
            sound=None,
            num_frames=row.num_frames,
            sample_rate=row.sample_rate,
        )

    def _frames(self, row: Row) -> tuple[Path, ...]:
        return tuple(self.build.picture_path(name, self.data_root).absolute() for name in row.frames)


def _picture_seed(row: Row) -> int:
    name = "\n".join((row.dataset, row.split, row.clip_id, *row.frames))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
