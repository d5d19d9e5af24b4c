"""AVSS, AVSBench-semantic: all of it, or its v1s and v1m rows as S4 and MS3.

Conventions
    metadata.csv lists vid, uid, a_obj (labels joined by "_", read by `slips`), split and label (v1s, v1m, v2); other columns
    are not needed.
    Clips lie in {label}/{uid}/: frames/{i}.jpg, labels_semantic/{i}.png (or, where that is missing, labels_rgb/{i}.png),
    audio.wav; i counts from 0. v1s and v1m have 5 frames, v2 has 10 (AVSBench, avs_scripts/avss/color_dataloader.py).
    A clip's id is ``label/uid``. Of v1s in the train split only frame 0 has a mask; elsewhere every frame has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from avsrobust.clips import DeclaredClip
from avsrobust.datasets.clip_rows import ClipFiles, ClipRow, accept, printable
from avsrobust.datasets.dataset import Finding
from avsrobust.datasets.overlap import source_of_part, train_overlap
from avsrobust.datasets.slips import Reading, read_labels, reading_notes
from avsrobust.datasets.spec import DataSetSpec, DeclaredDataSet
from avsrobust.datasets.tables import Table, TableRow, read_table
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, AVSS_CLASSES, Categories
from avsrobust.datasets.trees import SEMANTIC, Tree, find_trees, is_folder, join
from avsrobust.errors import DataSetError, OptionError, did_you_mean
from avsrobust.textfiles import read_json
from avsrobust.vocabulary import OBJECT_RELEASE, RELEASES, SEMANTIC_RELEASE

LABEL_INDEX = "label2idx.json"
FILES_OF = {
    subset: ClipFiles(
        frames="{clip_id}/frames/{number}.jpg",
        masks="{clip_id}/{mask_folder}/{number}.png",
        audio="{clip_id}/audio.wav",
        num_frames=num_frames,
        first=0,
    )
    for subset, num_frames in {"v1s": 5, "v1m": 5, "v2": 10}.items()
}
COLUMNS = ("vid", "uid", "a_obj", "split", "label")
_MOST_CLASSES = 1000
SEMANTIC_MASKS, RGB_MASKS = "labels_semantic", "labels_rgb"
LOOKED_FOR = (
    "AVSBench-semantic's metadata.csv beside v1s/, v1m/ or v2/ (in AVSBench_semantic/, AVSS/ or the data root itself)"
)


class AVSS(DataSetSpec):
    """AVSBench-semantic, all of it."""

    name: ClassVar[str] = "avss"
    categories: ClassVar[Categories] = AVSS_CATEGORIES
    releases: ClassVar[tuple[str, ...]] = (SEMANTIC_RELEASE,)

    def declare(self, root: Path, splits: Collection[str], release: str | None) -> DeclaredDataSet:
        """Declare the clips of all subsets; see `DataSetSpec.declare`."""
        found = find_trees(root)
        tree = found.find(SEMANTIC)
        if tree is None:
            raise found.absent(self.name, LOOKED_FOR)
        return declare_subsets(self, root, tree, tuple(FILES_OF), splits)

    def check_release(self, release: str | None) -> None:
        """Check that AVSS can be read in a form; see `DataSetSpec.check_release`."""
        if release is not None and release not in RELEASES:
            raise OptionError(
                f"--release: found '{release}'; expected {' or '.join(RELEASES)}{did_you_mean(release, RELEASES)}"
            )
        if release == OBJECT_RELEASE:
            raise OptionError(
                f"--release {release}: found the data set {self.name}, which AVSBench-{SEMANTIC_RELEASE} alone has; "
                "expected s4 or ms3 with it; leave the option out"
            )


def declare_subsets(
    spec: DataSetSpec, root: Path, tree: Tree, subsets: Sequence[str], splits: Collection[str]
) -> DeclaredDataSet:
    """Declare the clips of a data set in the semantic release's form.

    Args:
        spec: The data set.
        root: The data root.
        tree: AVSBench-semantic's tree.
        subsets: Labels of its rows: all for avss, v1s for s4, v1m for ms3.
        splits: Requested splits.

    Raises:
        DataSetError: The table cannot be read, or has no such row.
    """
    table = read_table(root, tree.table)
    column = table.require(*COLUMNS)
    rows = [row for row in table.rows if row.cells[column["label"]] in subsets]
    if not rows:
        raise DataSetError(
            f"{table.path}: found no row with the label {' or '.join(subsets)}, so nothing of {spec.name}; "
            f"take the {SEMANTIC.table} that comes with {SEMANTIC.title}"
        )
    readings = {row.line: read_labels(row.cells[column["a_obj"]]) for row in rows}
    clip_rows = [_clip_row(row, column, readings[row.line]) for row in rows]
    good, findings, rows_per_split = accept(table, clip_rows, splits, AVSS_CATEGORIES)
    is_whole = len(subsets) == len(FILES_OF)
    whole: tuple[Finding, ...] = ()
    if is_whole:
        # Only avss reads every row and every class id.
        whole = (*_strays(table, column["label"]), *check_classes(root, tree.folder))
    unlabelled = [row for row in good if not row.labels and not row.has_no_label]
    findings += [
        Finding(table.where(row.table_row), "an empty a_obj", "categories joined by '_'", clip_id=row.shown_id)
        for row in unlabelled
    ]
    labelled = [row for row in good if row not in unlabelled]
    clips = tuple(_declare(spec, root, tree.folder, row) for row in labelled)
    return DeclaredDataSet(
        layout=f"AVSBench-semantic, {tree}" + ("" if is_whole else f", {subsets[0]} rows of {tree.table}"),
        clips=clips,
        findings=(*table.findings, *whole, *findings),
        notes=(
            f"categories are AVSBench-semantic's, column a_obj of {tree.table}",
            *reading_notes(tree.table, ((row.shown_id, readings[row.table_row.line]) for row in labelled)),
            *_mask_notes(clips),
        ),
        rows_per_split=rows_per_split,
        release=SEMANTIC_RELEASE,
        overlap=train_overlap((row.cells[column["split"]], source_of_part(row.cells[column["vid"]])) for row in rows),
    )


def check_classes(root: Path, folder: str) -> tuple[Finding, ...]:
    """Compare label2idx.json, where it is there, with `taxonomy.AVSS_CLASSES`; return a finding for each difference.

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
        found_noun = f"{len(found):,} names" if isinstance(found, dict) else f"a {type(found).__name__}"
        return (Finding(path, found_noun, "71 category names with their index"),)
    names = dict.fromkeys([*expected, *found])
    return tuple(
        Finding(
            path, f"index {printable(str(found.get(name)))[:50]} for '{printable(name)[:50]}'", f"{expected.get(name)}"
        )
        for name in names
        if found.get(name) != expected.get(name)
    )


def _clip_row(row: TableRow, column: Mapping[str, int], reading: Reading) -> ClipRow:
    label, uid, split = (row.cells[column[name]] for name in ("label", "uid", "split"))
    return ClipRow(row, f"{label}/{uid}", split, {"uid": uid}, reading.labels, reading.no_label is not None)


def _strays(table: Table, label: int) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            table.where(row),
            f"the label '{printable(row.cells[label])}'",
            f"{', '.join(FILES_OF)}{did_you_mean(row.cells[label], FILES_OF)}",
            clip_id=f"line {row.line}",
        )
        for row in table.rows
        if row.cells[label] not in FILES_OF
    )


def _declare(spec: DataSetSpec, root: Path, folder: str, row: ClipRow) -> DeclaredClip:
    subset = row.clip_id.partition("/")[0]
    return FILES_OF[subset].declare(
        spec,
        folder,
        row,
        only_first_mask=subset == "v1s" and row.split == "train",
        mask_folder=_mask_folder(root / folder / row.clip_id),
    )


def _mask_folder(clip: Path) -> str:
    """Return the name of a clip's folder of masks."""
    return RGB_MASKS if not is_folder(clip / SEMANTIC_MASKS) and is_folder(clip / RGB_MASKS) else SEMANTIC_MASKS


def _mask_notes(clips: Iterable[DeclaredClip]) -> tuple[str, ...]:
    coloured = [clip.clip_id for clip in clips if any(mask and f"/{RGB_MASKS}/" in mask for mask in clip.masks)]
    if not coloured:
        return ()
    return (
        f"{len(coloured)} clips have {RGB_MASKS}/ only (first: {coloured[0]}); their class ids are decoded from the palette, "
        "the order of the channels is decided from the clip's labels",
    )
