"""MS3, the multi-source set: AVSBench-object's ``Multi-sources/``, or the v1m rows of AVSBench-semantic.

Conventions
    Multi-sources/ms3_meta_data.csv lists name and split; the files lie in ms3_data/ by the patterns of `MS3.files`
    (AVSBench, avs_scripts/avs_ms3/dataloader.py).
    A clip's id is its name. The table has no categories; they are looked up in AVSBench-semantic's metadata.csv
    (`ms3_labels`). A clip that is not there has empty `labels` and `broad`, and so has one whose label there says that it
    has none (`slips`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from avsrobust.datasets.clip_rows import ClipFiles, ClipRow, accept
from avsrobust.datasets.ms3_labels import find_labels
from avsrobust.datasets.overlap import source_of_part, train_overlap
from avsrobust.datasets.releases import TwoReleases, name_column, require_folders
from avsrobust.datasets.slips import Reading
from avsrobust.datasets.spec import DeclaredDataSet
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, Categories
from avsrobust.datasets.trees import MULTI, FoundTrees, Tree, TreeKind
from avsrobust.vocabulary import OBJECT_RELEASE


class MS3(TwoReleases):
    """The multi-source set."""

    name: ClassVar[str] = "ms3"
    categories: ClassVar[Categories] = AVSS_CATEGORIES
    tree_kind: ClassVar[TreeKind] = MULTI
    subset: ClassVar[str] = "v1m"
    files: ClassVar[ClipFiles] = ClipFiles(
        frames="visual_frames/{name}/{name}.mp4_{number}.png",
        masks="gt_masks/{split}/{name}/{name}_{number}.png",
        audio="audio_wav/{split}/{name}.wav",
        num_frames=5,
    )

    def declare_object(self, found: FoundTrees, tree: Tree, data: str, splits: Collection[str]) -> DeclaredDataSet:
        """Declare the clips of AVSBench-object; see `TwoReleases.declare_object`."""
        require_folders(found.root, data)
        table = read_table(found.root, tree.table)
        split = table.require("split")["split"]
        name, notes = name_column(table)
        rows = [ClipRow(row, row.cells[name], row.cells[split], {"name": row.cells[name]}, ()) for row in table.rows]
        categories = find_labels(found, tuple((row.clip_id, row.split) for row in rows))
        rows = [_labelled(row, categories.readings.get(row.clip_id)) for row in rows]
        good, findings, rows_per_split = accept(table, rows, splits, self.categories)
        return DeclaredDataSet(
            layout=f"AVSBench-object, {tree}",
            clips=tuple(self.files.declare(self, data, row) for row in good),
            findings=(*table.findings, *findings),
            notes=(*notes, *categories.notes([row.clip_id for row in good])),
            rows_per_split=rows_per_split,
            release=OBJECT_RELEASE,
            overlap=train_overlap((row.split, source_of_part(row.clip_id)) for row in rows),
            off_screen_obstacle=categories.obstacle,
        )


def _labelled(row: ClipRow, reading: Reading | None) -> ClipRow:
    return row if reading is None else replace(row, labels=reading.labels, has_no_label=reading.no_label is not None)
