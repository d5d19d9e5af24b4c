"""S4 and MS3: published twice, in AVSBench-object and in AVSBench-semantic.

Conventions
    AVSBench-object holds them in ``Single-source/`` and ``Multi-sources/``: three data folders (`FOLDERS`) and a table whose name
    column varies. AVSBench-semantic holds them as the v1s and v1m rows of its metadata.csv, with other frames and masks. Scores
    on the two forms are not comparable.
    Unless one is requested, the object release is read, and the semantic one only where nothing of the other lies there: half an
    object release is refused, not passed over. Where both lie there, a note says which was read. Only AVSBench-semantic has AVSS.
    The loaders of the papers take the table's first column for the clip's name, whatever it is called
    (AVSBench, avs_scripts/avs_s4/dataloader.py); so does this reader where it knows none of the headers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from avsrobust.datasets.avss import declare_subsets
from avsrobust.datasets.clip_rows import ClipFiles
from avsrobust.datasets.spec import DataSetSpec, DeclaredDataSet
from avsrobust.datasets.tables import Table
from avsrobust.datasets.trees import SEMANTIC, FoundTrees, Tree, TreeKind, find_trees, join
from avsrobust.errors import DataSetError
from avsrobust.vocabulary import OBJECT_RELEASE, RELEASES, SEMANTIC_RELEASE

FOLDERS = ("visual_frames", "gt_masks", "audio_wav")
NAME_COLUMNS = ("name", "video_name", "video_id", "vid", "uid", "file_name", "filename")
_OTHER_COLUMNS = ("category", "split")


class TwoReleases(DataSetSpec):
    """A data set of both releases.

    Attributes:
        tree_kind: Kind of its tree in AVSBench-object.
        subset: Label of its rows in AVSBench-semantic's table.
        files: Its files in AVSBench-object, below the tree's data folder.
    """

    tree_kind: ClassVar[TreeKind]
    subset: ClassVar[str]
    files: ClassVar[ClipFiles]
    releases: ClassVar[tuple[str, ...]] = RELEASES

    def declare(self, root: Path, splits: Collection[str], release: str | None) -> DeclaredDataSet:
        """Declare the clips of one release; see `DataSetSpec.declare`."""
        found = find_trees(root)
        tree, chosen, note = self._choose_release(found, release)
        if chosen == SEMANTIC_RELEASE:
            declared = declare_subsets(self, root, tree, (self.subset,), splits)
        else:
            declared = self.declare_object(found, tree, join(tree.folder, self.tree_kind.data[0]), splits)
        return declared if note is None else replace(declared, notes=(note, *declared.notes))

    @abstractmethod
    def declare_object(self, found: FoundTrees, tree: Tree, data: str, splits: Collection[str]) -> DeclaredDataSet:
        """Declare the clips of AVSBench-object.

        Args:
            found: All trees.
            tree: The data set's own.
            data: Its data folder, relative to the data root.
            splits: Requested splits.
        """

    def _choose_release(self, found: FoundTrees, release: str | None) -> tuple[Tree, str, str | None]:
        """Return the tree to read, its release, and a note about the other one (None: it is not there)."""
        if release != SEMANTIC_RELEASE:
            tree = found.find(self.tree_kind)
            if tree is not None:
                others = [str(other) for other in found.trees if other.kind is SEMANTIC and self.name in other.serves]
                return tree, OBJECT_RELEASE, self._note(tree, others, SEMANTIC_RELEASE, release)
        if release != OBJECT_RELEASE:
            tree = found.find(SEMANTIC)
            incomplete = release is None and found.is_incomplete(self.tree_kind)
            if tree is not None and self.name in tree.serves and not incomplete:
                others = [str(other) for other in found.trees if other.kind is self.tree_kind]
                return tree, SEMANTIC_RELEASE, self._note(tree, others, OBJECT_RELEASE, release)
        kind = self.tree_kind
        looked_for = {
            OBJECT_RELEASE: f"{kind.usual_names[0]}/{kind.table} beside {kind.data[0]}/",
            SEMANTIC_RELEASE: f"AVSBench-semantic's metadata.csv with {self.subset} rows beside {self.subset}/",
        }
        wanted = RELEASES if release is None else (release,)
        raise found.absent(self.name, ", or ".join(looked_for[name] for name in wanted))

    def _note(self, tree: Tree, others: list[str], other: str, requested: str | None) -> str | None:
        if not others:
            return None
        way = "as asked for" if requested is not None else f"--release {other} reads the other"
        return f"{self.name} is there in two forms, {tree} and {', '.join(others)} (AVSBench-{other}); read was {tree}, {way}"


def require_folders(root: Path, data: str) -> None:
    """Check that the folders for frames, masks and sounds are in the folder `data`.

    Raises:
        DataSetError: Some are missing; it names them.
    """
    missing = [folder for folder in FOLDERS if not (root / data / folder).is_dir()]
    if missing:
        raise DataSetError(
            f"{root / data}: found no folder {', '.join(missing)}; expected {', '.join(FOLDERS)}; "
            "unpack AVSBench-object here in full"
        )


def name_column(table: Table) -> tuple[int, tuple[str, ...]]:
    """Return the index of the column with the clips' names, and notes about the table's columns.

    Raises:
        DataSetError: No column can be it.
    """
    columns = f"{table.path} has the columns {', '.join(table.columns)}"
    index = table.column(*NAME_COLUMNS)
    if index is not None:
        return index, (columns,)
    for index, column in enumerate(table.columns):
        # pandas calls an index that was saved along "Unnamed: 0", or leaves its header empty.
        if column and not column.startswith("Unnamed") and column.casefold() not in _OTHER_COLUMNS:
            return index, (f"{columns}; none is called {NAME_COLUMNS[0]}, '{column}' serves as the clip's name",)
    raise DataSetError(
        f"{table.path}: has no column with the clips' names; found the columns {', '.join(table.columns)}; "
        f"expected one called {NAME_COLUMNS[0]}; take the table that comes with AVSBench"
    )
