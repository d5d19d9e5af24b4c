"""S4, the single-source set: AVSBench-object's ``Single-source/``, or the v1s rows of AVSBench-semantic.

Conventions
    Single-source/s4_meta_data.csv lists name, category and split; the files lie in s4_data/ by the patterns of `S4.files`
    (AVSBench, avs_scripts/avs_s4/dataloader.py and preprocess_scripts/preprocess_s4.py).
    A clip's id is ``category/name``. In the train split only the first frame has a mask.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from avsrobust.datasets.clip_rows import ClipFiles, ClipRow, accept
from avsrobust.datasets.overlap import source_of_cut, train_overlap
from avsrobust.datasets.releases import TwoReleases, name_column, require_folders
from avsrobust.datasets.spec import DeclaredDataSet
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, S4_CATEGORIES, Categories
from avsrobust.datasets.trees import SINGLE, FoundTrees, Tree, TreeKind
from avsrobust.vocabulary import OBJECT_RELEASE


class S4(TwoReleases):
    """The single-source set."""

    name: ClassVar[str] = "s4"
    # AVSBench-object's clips have S4's own categories, those of the semantic release have AVSBench-semantic's.
    categories: ClassVar[Categories] = Categories(
        {**AVSS_CATEGORIES.supercategory, **S4_CATEGORIES.supercategory}, S4_CATEGORIES.title
    )
    tree_kind: ClassVar[TreeKind] = SINGLE
    subset: ClassVar[str] = "v1s"
    files: ClassVar[ClipFiles] = ClipFiles(
        frames="visual_frames/{split}/{clip_id}/{name}_{number}.png",
        masks="gt_masks/{split}/{clip_id}/{name}_{number}.png",
        audio="audio_wav/{split}/{clip_id}.wav",
        num_frames=5,
    )

    def declare_object(self, found: FoundTrees, tree: Tree, data: str, splits: Collection[str]) -> DeclaredDataSet:
        """Declare the clips of AVSBench-object; see `TwoReleases.declare_object`."""
        require_folders(found.root, data)
        table = read_table(found.root, tree.table)
        column = table.require("category", "split")
        name, notes = name_column(table)
        rows = []
        for row in table.rows:
            names = {"name": row.cells[name], "category": row.cells[column["category"]]}
            clip_id = f"{names['category']}/{names['name']}"
            rows.append(ClipRow(row, clip_id, row.cells[column["split"]], names, (names["category"],)))
        good, findings, rows_per_split = accept(table, rows, splits, S4_CATEGORIES)
        return DeclaredDataSet(
            layout=f"AVSBench-object, {tree}",
            clips=tuple(self.files.declare(self, data, row, only_first_mask=row.split == "train") for row in good),
            findings=(*table.findings, *findings),
            notes=(*notes, f"categories are S4's own, from {tree.table}"),
            rows_per_split=rows_per_split,
            release=OBJECT_RELEASE,
            overlap=train_overlap((row.split, source_of_cut(row.names["name"])) for row in rows),
        )
