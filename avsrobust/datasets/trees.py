"""Find AVSBench's trees below a data root.

Conventions
    A tree is a folder with its table and its data next to each other: ``Single-source/`` (s4_meta_data.csv, s4_data/),
    ``Multi-sources/`` (ms3_meta_data.csv, ms3_data/), and AVSBench-semantic, in a folder of any name (metadata.csv next to one
    or more of v1s/, v1m/, v2/). These are the places the READMEs of AVSBench, AVSBench-Robust and bias_in_AVS name.
    Looked at are the data root, its folders, and folders of the usual names one level lower (AVSBench_object/Single-source).
    Folders are given relative to the data root, with forward slashes; the root itself is the empty string.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avsrobust.errors import DataSetError
from avsrobust.files import is_safe_relative

ENTRIES_SHOWN = 8


@dataclass(frozen=True)
class TreeKind:
    """A kind of tree, and how to tell it.

    Attributes:
        title: Name, for messages.
        usual_names: Usual names of its folder.
        table: File name of its table.
        data: Data folders; one of them is enough.
        serves: The data set that can be read from every tree of the kind.
        serves_by_folder: Data sets that can be read where a data folder is there.
    """

    title: str
    usual_names: tuple[str, ...]
    table: str
    data: tuple[str, ...]
    serves: str
    serves_by_folder: Mapping[str, str] = field(default_factory=dict)


SINGLE = TreeKind("AVSBench-object's single-source set", ("Single-source",), "s4_meta_data.csv", ("s4_data",), "s4")
MULTI = TreeKind("AVSBench-object's multi-source set", ("Multi-sources",), "ms3_meta_data.csv", ("ms3_data",), "ms3")
SEMANTIC = TreeKind(
    "AVSBench-semantic",
    ("AVSBench_semantic", "AVSS"),
    "metadata.csv",
    ("v1s", "v1m", "v2"),
    "avss",
    {"v1s": "s4", "v1m": "ms3"},
)
KINDS = (SINGLE, MULTI, SEMANTIC)

# Where macOS puts what its archives hold of each file besides its content, under the same names.
_OF_MACOS = "__MACOSX"
# metadata.csv is a common name: without data next to it, it counts only where the papers' READMEs put it.
_METADATA_FOLDERS = (*SEMANTIC.usual_names, *MULTI.usual_names)


@dataclass(frozen=True)
class Tree:
    """A tree found below a data root.

    Attributes:
        kind: Its kind.
        folder: Its folder, relative to the data root.
        data: The data folders of its kind that are there.
    """

    kind: TreeKind
    folder: str
    data: tuple[str, ...]

    @property
    def table(self) -> str:
        """The table's path, relative to the data root."""
        return join(self.folder, self.kind.table)

    @property
    def serves(self) -> tuple[str, ...]:
        """The data sets that can be read from it."""
        by_folder = self.kind.serves_by_folder
        return (self.kind.serves, *(by_folder[name] for name in self.data if name in by_folder))

    def __str__(self) -> str:
        return (
            f"{self.folder}/"
            if self.folder
            else f"{self.kind.table} beside {', '.join(f'{name}/' for name in self.data)}"
        )


@dataclass(frozen=True)
class FoundTrees:
    """The trees of AVSBench below a data root.

    Attributes:
        root: The data root.
        trees: Trees with a table and data.
        incomplete: Trees without a table or without data, and what they lack.
        metadata: Tables of AVSBench-semantic that have no data next to them.
        entries: Names in the data root, sorted.
    """

    root: Path
    trees: tuple[Tree, ...]
    incomplete: tuple[tuple[TreeKind, str], ...]
    metadata: tuple[str, ...]
    entries: tuple[str, ...]

    def find(self, kind: TreeKind) -> Tree | None:
        """Return the tree of this kind, or None.

        Raises:
            DataSetError: There are two.
        """
        found = [tree for tree in self.trees if tree.kind is kind]
        _refuse_two(self.root, kind.title, [str(tree) for tree in found])
        return found[0] if found else None

    def is_incomplete(self, kind: TreeKind) -> bool:
        """Return whether there is a tree of this kind that lacks its table or its data."""
        return any(incomplete is kind for incomplete, _ in self.incomplete)

    def semantic_table(self) -> str | None:
        """Return the path of AVSBench-semantic's metadata.csv, or None.

        Raises:
            DataSetError: There are two.
        """
        tree = self.find(SEMANTIC)
        if tree is not None:
            return tree.table
        _refuse_two(self.root, f"{SEMANTIC.title}'s {SEMANTIC.table}", self.metadata)
        return self.metadata[0] if self.metadata else None

    def absent(self, dataset: str, looked_for: str) -> DataSetError:
        """Return the error for a data set that no tree here serves; it names the requested and the found trees."""
        found = [f"{tree}, which serves {', '.join(tree.serves)}" for tree in self.trees]
        found += [
            *(text for _, text in self.incomplete),
            *(f"{table} without clips beside it" for table in self.metadata),
        ]
        if not found:
            shown = ", ".join(self.entries[:ENTRIES_SHOWN]) or "nothing at all"
            more = ", ..." if len(self.entries) > ENTRIES_SHOWN else ""
            found = [f"nothing of AVSBench (the folder holds {shown}{more})"]
        return DataSetError(
            f"{self.root}: found {'; '.join(found)}; {dataset} needs {looked_for}, here or one folder below; "
            "name the folder that holds it with --data-root"
        )


def find_trees(root: Path) -> FoundTrees:
    """Look for AVSBench's trees below a data root.

    Raises:
        DataSetError: The root is no folder that can be listed.
    """
    entries = _list_root(root)
    trees: list[Tree] = []
    incomplete: list[tuple[TreeKind, str]] = []
    metadata: list[str] = []
    seen: set[tuple[str, Path]] = set()
    for kind, folder in _places(root, entries):
        # Two names for one folder (a link) are one tree.
        key = (kind.title, (root / folder).resolve())
        if key in seen:
            continue
        seen.add(key)
        has_table = _is_file(root / folder / kind.table)
        data = tuple(name for name in kind.data if is_folder(root / folder / name))
        if has_table and data:
            trees.append(Tree(kind, folder, data))
        elif kind is SEMANTIC:
            if has_table and _may_hold_metadata(folder):
                metadata.append(join(folder, kind.table))
            elif data and folder.rpartition("/")[2] in kind.usual_names:
                incomplete.append((kind, f"{folder}/ without {kind.table}"))
        elif has_table or data:
            present, missing = (kind.table, f"{kind.data[0]}/") if has_table else (f"{kind.data[0]}/", kind.table)
            incomplete.append((kind, f"{join(folder, present)} without {missing} beside it"))
    return FoundTrees(root, tuple(trees), tuple(incomplete), tuple(metadata), tuple(entries))


def join(folder: str, *parts: str) -> str:
    """Join relative paths with forward slashes; an empty folder is the data root.

    >>> join("", "a"), join("a", "b", "c")
    ('a', 'a/b/c')
    """
    return "/".join(part for part in (folder, *parts) if part)


def _list_root(root: Path) -> list[str]:
    advice = (
        "expected the folder that holds Single-source/, Multi-sources/ or AVSBench_semantic/; name it with --data-root or "
        "AVSROBUST_DATA, or make a procedural data set with 'avsrobust toy'"
    )
    try:
        return sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError as error:
        raise DataSetError(f"{root}: found no such folder; {advice}") from error
    except NotADirectoryError as error:
        raise DataSetError(f"{root}: found a file, not a folder; {advice}") from error
    except OSError as error:
        raise DataSetError(f"{root}: cannot be listed ({error.strerror or error}); {advice}") from error


def _places(root: Path, entries: Iterable[str]) -> Iterator[tuple[TreeKind, str]]:
    """Yield every (kind, folder) to look at, the root first, then folder by folder in sorted order."""
    for kind in KINDS:
        yield kind, ""
    for name in entries:
        if name.startswith(".") or name == _OF_MACOS or not is_safe_relative(name) or not is_folder(root / name):
            continue
        for kind in KINDS:
            yield kind, name
            for usual in kind.usual_names:
                yield kind, join(name, usual)
        yield SEMANTIC, join(name, MULTI.usual_names[0])


def _may_hold_metadata(folder: str) -> bool:
    return folder == "" or folder.rpartition("/")[2] in _METADATA_FOLDERS


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Return whether there is a folder that can be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _refuse_two(root: Path, title: str, found: Iterable[str]) -> None:
    found = list(found)
    if len(found) > 1:
        raise DataSetError(
            f"{root}: found {title} {len(found)} times ({', '.join(found)}); expected it once; "
            "move one away, or name the folder that holds the right one with --data-root"
        )
