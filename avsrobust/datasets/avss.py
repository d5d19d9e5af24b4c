"""AVSS, AVSBench-semantic: all of it, or its v1s and v1m rows as S4 and MS3.

Conventions
    metadata.csv lists vid, uid, a_obj (labels joined by "_", read by `slips`), split and label (v1s, v1m, v2); other columns
    are not needed.
    Clips lie in {label}/{uid}/: frames/{i}.jpg, labels_semantic/{i}.png (or, where that is missing, labels_rgb/{i}.png),
    audio.wav; i counts from 0. v1s and v1m have 5 frames, v2 has 10 (AVSBench, avs_scripts/avss/color_dataloader.py).
    A clip's id is ``label/uid``. Of v1s in the train split only frame 0 has a mask; elsewhere every frame has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from avsrobust.clips import DeclaredClip
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.entries import DeclaredDataSet, Draft, accept, printable
from avsrobust.datasets.overlap import source_of_part, train_overlap
from avsrobust.datasets.slips import Reading, read_labels, reading_notes
from avsrobust.datasets.tables import Table, TableRow, read_table
from avsrobust.datasets.taxonomy import AVSS_CLASSES, broad_kinds
from avsrobust.datasets.trees import SEMANTIC, Survey, Tree, is_folder, join
from avsrobust.errors import DataSetError, did_you_mean
from avsrobust.textfiles import read_json
from avsrobust.vocabulary import SEMANTIC_RELEASE

LABEL_INDEX = "label2idx.json"
FRAMES_OF = {"v1s": 5, "v1m": 5, "v2": 10}
SUBSETS_OF = {"s4": ("v1s",), "ms3": ("v1m",), "avss": tuple(FRAMES_OF)}
COLUMNS = ("vid", "uid", "a_obj", "split", "label")
_MOST_CLASSES = 1000
SEMANTIC_MASKS, RGB_MASKS = "labels_semantic", "labels_rgb"
LOOKED_FOR = (
    "AVSBench-semantic's metadata.csv beside v1s/, v1m/ or v2/ (in AVSBench_semantic/, AVSS/ or the data root itself)"
)


def list_clips(found: Survey, splits: Collection[str], release: str | None = None) -> DeclaredDataSet:
    """Return the AVSS clips of these splits; AVSS has one release only.

    Raises `DataSetError` where there are none or a table cannot be read.
    """
    tree = found.find(SEMANTIC)
    if tree is None:
        raise found.absent("avss", LOOKED_FOR)
    return list_clips_of(found.root, tree, "avss", splits)


def list_clips_of(root: Path, tree: Tree, dataset: str, splits: Collection[str]) -> DeclaredDataSet:
    """Return the clips of a data set in the semantic release's form: all rows for avss, v1s rows for s4, v1m rows for ms3.

    Raises `DataSetError` where the table cannot be read, or has no such row.
    """
    table = read_table(root, tree.table)
    column = table.require(*COLUMNS)
    subsets = SUBSETS_OF[dataset]
    rows = [row for row in table.rows if row.cells[column["label"]] in subsets]
    if not rows:
        raise DataSetError(
            f"{table.path}: found no row with the label {' or '.join(subsets)}, so nothing of {dataset}; "
            f"take the {SEMANTIC.table} that comes with {SEMANTIC.title}"
        )
    readings = {row.line: read_labels(row.cells[column["a_obj"]]) for row in rows}
    drafts = [_draft(row, column, readings[row.line]) for row in rows]
    good, findings, rows_per_split = accept(table, drafts, splits)
    whole: tuple[Finding, ...] = ()
    if dataset == "avss":
        # Only avss reads every row and every class id.
        whole = (*_strays(table, column["label"]), *check_classes(root, tree.folder))
    unlabelled = [draft for draft in good if not draft.labels and not draft.has_no_label]
    findings += [
        Finding(table.where(draft.row), "an empty a_obj", "categories joined by '_'", clip_id=draft.shown_id)
        for draft in unlabelled
    ]
    labelled = [draft for draft in good if draft not in unlabelled]
    entries = tuple(_entry(root, tree.folder, dataset, draft) for draft in labelled)
    return DeclaredDataSet(
        layout=f"AVSBench-semantic, {tree}" + ("" if dataset == "avss" else f", {subsets[0]} rows of {tree.table}"),
        entries=entries,
        findings=(*table.findings, *whole, *findings),
        notes=(
            f"categories are AVSBench-semantic's, column a_obj of {tree.table}",
            *reading_notes(tree.table, ((draft.shown_id, readings[draft.row.line]) for draft in labelled)),
            *_mask_notes(entries),
        ),
        rows_per_split=rows_per_split,
        release=SEMANTIC_RELEASE,
        overlap=train_overlap((row.cells[column["split"]], source_of_part(row.cells[column["vid"]])) for row in rows),
    )


def split_labels(a_obj: str) -> tuple[str, ...]:
    """Return the labels of an a_obj cell, each once, in their order (`slips.read_labels`).

    >>> split_labels("man_emergency-car_man")
    ('man', 'emergency-car')
    """
    return read_labels(a_obj).labels


def check_classes(root: Path, folder: str) -> tuple[Finding, ...]:
    """Compare label2idx.json, where it is there, with `taxonomy.AVSS_CLASSES`; return where they differ.

    A mask's class ids mean what label2idx.json says. Class names of results come from `AVSS_CLASSES`, so a file that says
    otherwise is a finding, not a choice.
    """
    path = join(folder, LABEL_INDEX)
    expected = {name: index for index, name in enumerate(AVSS_CLASSES, start=1)}
    try:
        found = read_json(root / path, DataSetError)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        return (
            Finding(
                path, f"a file that cannot be read ({printable(str(error))})", "71 category names with their index"
            ),
        )
    if not isinstance(found, dict) or len(found) > _MOST_CLASSES:
        what = f"{len(found):,} names" if isinstance(found, dict) else f"a {type(found).__name__}"
        return (Finding(path, what, "71 category names with their index"),)
    names = dict.fromkeys([*expected, *found])
    return tuple(
        Finding(
            path, f"index {printable(str(found.get(name)))[:50]} for '{printable(name)[:50]}'", f"{expected.get(name)}"
        )
        for name in names
        if found.get(name) != expected.get(name)
    )


def _draft(row: TableRow, column: Mapping[str, int], reading: Reading) -> Draft:
    label, uid, split = (row.cells[column[name]] for name in ("label", "uid", "split"))
    # "ms3" and "avss" name the same categories.
    return Draft(row, f"{label}/{uid}", split, {"uid": uid}, reading.labels, "avss", reading.no_label is not None)


def _strays(table: Table, label: int) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            table.where(row),
            f"the label '{printable(row.cells[label])}'",
            f"{', '.join(FRAMES_OF)}{did_you_mean(row.cells[label], FRAMES_OF)}",
            clip_id=f"line {row.line}",
        )
        for row in table.rows
        if row.cells[label] not in FRAMES_OF
    )


def _entry(root: Path, folder: str, dataset: str, draft: Draft) -> DeclaredClip:
    place = join(folder, draft.clip_id)
    subset = draft.clip_id.partition("/")[0]
    numbers = range(FRAMES_OF[subset])
    masks = _mask_folder(root, place)
    only_first = subset == "v1s" and draft.split == "train"
    return DeclaredClip(
        dataset=dataset,
        split=draft.split,
        clip_id=draft.clip_id,
        labels=draft.labels,
        broad=broad_kinds("avss", draft.labels),
        frames=tuple(f"{place}/frames/{number}.jpg" for number in numbers),
        masks=tuple(None if only_first and number else f"{masks}/{number}.png" for number in numbers),
        audio=f"{place}/audio.wav",
        has_no_label=draft.has_no_label,
    )


def _mask_folder(root: Path, place: str) -> str:
    semantic, rgb = f"{place}/{SEMANTIC_MASKS}", f"{place}/{RGB_MASKS}"
    return rgb if not is_folder(root / semantic) and is_folder(root / rgb) else semantic


def _mask_notes(entries: Iterable[DeclaredClip]) -> tuple[str, ...]:
    coloured = [entry.clip_id for entry in entries if any(mask and f"/{RGB_MASKS}/" in mask for mask in entry.masks)]
    if not coloured:
        return ()
    return (
        f"{len(coloured)} clips have {RGB_MASKS}/ only (first: {coloured[0]}); their class ids are decoded from the palette, "
        "the order of the channels is decided from the clip's labels",
    )
