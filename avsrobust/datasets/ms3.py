"""MS3, the multi-source set: AVSBench-object's ``Multi-sources/``, or the v1m rows of AVSBench-semantic.

Conventions
    Multi-sources/ms3_meta_data.csv lists name and split; ms3_data/ holds visual_frames/{name}/{name}.mp4_{1..5}.png,
    gt_masks/{split}/{name}/{name}_{1..5}.png, audio_wav/{split}/{name}.wav (AVSBench, avs_scripts/avs_ms3/dataloader.py).
    A clip's id is its name. The table has no categories; they are looked up in AVSBench-semantic's metadata.csv
    (`ms3_labels`). A clip that is not there has empty `labels` and `broad`, and so has one whose label there says that it
    has none (`slips`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from avsrobust.clips import DeclaredClip
from avsrobust.datasets import avss
from avsrobust.datasets.entries import DeclaredDataSet, Draft, accept
from avsrobust.datasets.ms3_labels import find_labels
from avsrobust.datasets.objects import name_column, require_folders
from avsrobust.datasets.overlap import source_of_part, train_overlap
from avsrobust.datasets.releases import choose_release
from avsrobust.datasets.slips import Reading
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.taxonomy import broad_kinds
from avsrobust.datasets.trees import MULTI, Survey, Tree, join
from avsrobust.vocabulary import OBJECT_RELEASE, SEMANTIC_RELEASE

NUM_FRAMES = 5


def list_clips(found: Survey, splits: Collection[str], release: str | None = None) -> DeclaredDataSet:
    """Return the MS3 clips of these splits, from one release (None: the object release, else the semantic one).

    Raises `DataSetError` where it does not lie below the data root, and where a table cannot be read.
    """
    chosen = choose_release(found, "ms3", release)
    if chosen.release == SEMANTIC_RELEASE:
        return chosen.noted(avss.list_clips_of(found.root, chosen.tree, "ms3", splits))
    return chosen.noted(_list_object(found, chosen.tree, splits))


def _list_object(found: Survey, tree: Tree, splits: Collection[str]) -> DeclaredDataSet:
    data = join(tree.folder, MULTI.data[0])
    require_folders(found.root, data)
    table = read_table(found.root, tree.table)
    split = table.require("split")["split"]
    name, notes = name_column(table)
    drafts = [Draft(row, row.cells[name], row.cells[split], {"name": row.cells[name]}, (), "ms3") for row in table.rows]
    categories = find_labels(found, tuple((draft.clip_id, draft.split) for draft in drafts))
    drafts = [_labelled(draft, categories.readings.get(draft.clip_id)) for draft in drafts]
    good, findings, rows_per_split = accept(table, drafts, splits)
    entries = tuple(_entry(data, draft) for draft in good)
    return DeclaredDataSet(
        layout=f"AVSBench-object, {tree}",
        entries=entries,
        findings=(*table.findings, *findings),
        notes=(*notes, *categories.notes([entry.clip_id for entry in entries])),
        rows_per_split=rows_per_split,
        release=OBJECT_RELEASE,
        overlap=train_overlap((draft.split, source_of_part(draft.clip_id)) for draft in drafts),
        off_screen_obstacle=categories.obstacle,
    )


def _labelled(draft: Draft, reading: Reading | None) -> Draft:
    return (
        draft if reading is None else replace(draft, labels=reading.labels, has_no_label=reading.no_label is not None)
    )


def _entry(data: str, draft: Draft) -> DeclaredClip:
    name = draft.clip_id
    numbers = range(1, NUM_FRAMES + 1)
    return DeclaredClip(
        dataset="ms3",
        split=draft.split,
        clip_id=name,
        labels=draft.labels,
        broad=broad_kinds("ms3", draft.labels),
        frames=tuple(join(data, "visual_frames", name, f"{name}.mp4_{number}.png") for number in numbers),
        masks=tuple(join(data, "gt_masks", draft.split, name, f"{name}_{number}.png") for number in numbers),
        audio=join(data, "audio_wav", draft.split, f"{name}.wav"),
        has_no_label=draft.has_no_label,
    )
