"""S4, the single-source set: AVSBench-object's ``Single-source/``, or the v1s rows of AVSBench-semantic.

Conventions
    Single-source/s4_meta_data.csv lists name, category and split; s4_data/ holds
    visual_frames/{split}/{category}/{name}/{name}_{1..5}.png, gt_masks/ alike, audio_wav/{split}/{category}/{name}.wav
    (AVSBench, avs_scripts/avs_s4/dataloader.py and preprocess_scripts/preprocess_s4.py).
    A clip's id is ``category/name``. In the train split only the first frame has a mask.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from avsrobust.clips import DeclaredClip
from avsrobust.datasets import avss
from avsrobust.datasets.entries import DeclaredDataSet, Draft, accept
from avsrobust.datasets.objects import name_column, require_folders
from avsrobust.datasets.overlap import source_of_cut, train_overlap
from avsrobust.datasets.releases import choose_release
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.taxonomy import broad_kinds
from avsrobust.datasets.trees import SINGLE, Survey, Tree, join
from avsrobust.vocabulary import OBJECT_RELEASE, SEMANTIC_RELEASE

NUM_FRAMES = 5


def list_clips(found: Survey, splits: Collection[str], release: str | None = None) -> DeclaredDataSet:
    """Return the S4 clips of these splits, from one release (None: the object release, else the semantic one).

    Raises `DataSetError` where it does not lie below the data root, and where a table cannot be read.
    """
    chosen = choose_release(found, "s4", release)
    if chosen.release == SEMANTIC_RELEASE:
        return chosen.noted(avss.list_clips_of(found.root, chosen.tree, "s4", splits))
    return chosen.noted(_list_object(found.root, chosen.tree, splits))


def _list_object(root: Path, tree: Tree, splits: Collection[str]) -> DeclaredDataSet:
    data = join(tree.folder, SINGLE.data[0])
    require_folders(root, data)
    table = read_table(root, tree.table)
    column = table.require("category", "split")
    name, notes = name_column(table)
    drafts = []
    for row in table.rows:
        names = {"name": row.cells[name], "category": row.cells[column["category"]]}
        clip_id = f"{names['category']}/{names['name']}"
        drafts.append(Draft(row, clip_id, row.cells[column["split"]], names, (names["category"],), "s4"))
    good, findings, rows_per_split = accept(table, drafts, splits)
    notes += (f"categories are S4's own, from {tree.table}",)
    return DeclaredDataSet(
        layout=f"AVSBench-object, {tree}",
        entries=tuple(_entry(data, draft) for draft in good),
        findings=(*table.findings, *findings),
        notes=notes,
        rows_per_split=rows_per_split,
        release=OBJECT_RELEASE,
        overlap=train_overlap((draft.split, source_of_cut(draft.names["name"])) for draft in drafts),
    )


def _entry(data: str, draft: Draft) -> DeclaredClip:
    name = draft.names["name"]
    place = f"{draft.split}/{draft.clip_id}"
    numbers = range(1, NUM_FRAMES + 1)
    return DeclaredClip(
        dataset="s4",
        split=draft.split,
        clip_id=draft.clip_id,
        labels=draft.labels,
        broad=broad_kinds("s4", draft.labels),
        frames=tuple(join(data, "visual_frames", place, f"{name}_{number}.png") for number in numbers),
        masks=tuple(
            join(data, "gt_masks", place, f"{name}_{number}.png") if number == 1 or draft.split != "train" else None
            for number in numbers
        ),
        audio=join(data, "audio_wav", f"{place}.wav"),
    )
