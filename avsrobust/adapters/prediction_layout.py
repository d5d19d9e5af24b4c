"""The layout of a folder of predictions: the names that programs of the field give their masks.

Conventions
    Below the root lies a folder per condition, and in it one per level where the condition has levels: ``clean``,
    ``mixture/-5``. A root without a folder ``clean`` is taken for the masks of clean audio themselves.
    There a clip is known by its id, or by the last part of it (its name) alone; AVSBench's splits and the labels of the semantic
    release may stand before either. Frames of a clip are ``<clip>/<k>.png``, ``<clip>/<name>_<k>.png`` or
    ``<clip>/<name>.mp4_<k>.png`` (or ``.npy``), or lie next to those of other clips as ``<name>_<k>.png``; a whole clip is
    ``<clip>.npz``, ``<clip>.npy`` or ``<clip>.json``. Anything else in the folder is ignored.
    Names are read once, when the folder is opened; whether k counts from 0 or 1 is decided per condition
    (`adapters.prediction_frames`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from avsrobust.adapters.base import RowView
from avsrobust.adapters.prediction_frames import describe, first_frame_number
from avsrobust.errors import AdapterError, AvsRobustError, ClipError
from avsrobust.files import resolve_inside
from avsrobust.limits import Limit
from avsrobust.vocabulary import CLEAN

FRAME_SUFFIXES = (".png", ".npy")
CLIP_SUFFIXES = (".npz", ".npy", ".json")
LAYOUTS = (
    "DIR/<condition>[/<level>]/ with <clip_id>/<k>.png, <clip_id>/<name>_<k>.png, <name>/<name>_<k>.png, <name>_<k>.png "
    "(or .npy), <clip_id>.npz, .npy or .json"
)
FILES = Limit(5_000_000, "files", "AVSS under thirty conditions has 500,000")
# condition / level / split or label / category / name
_DEEPEST = 6
_MOST_DIGITS = 9
_GROUPS = ("v1s", "v1m", "v2")


@dataclass
class _Folder:
    """The predictions in one folder: frames that are the folder's own clip's, frames of clips by name, files of whole clips."""

    own: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    flat: dict[str, dict[int, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    whole: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    strange: str = ""


@dataclass(frozen=True)
class Found:
    """A clip's predictions: a file of the whole clip, or files by frame number.

    Attributes:
        path: The file, the folder of the files, or a pattern of their names; for messages.
        whole: File of the whole clip, or None.
        numbered: Files by frame number.
        first: Number of the first frame.
    """

    path: Path
    whole: Path | None = None
    numbered: dict[int, Path] = field(default_factory=dict)
    first: int = 0


class PredictionFolder:
    """The names below a folder of predictions.

    Raises:
        AdapterError: All of its files are in an unknown layout, or the folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, _Folder] = {}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._smallest: dict[str, int | None] = {}
        self._used: dict[tuple[str, Path], str] = {}
        strange = ""
        for relative, names in _walk(root):
            folder = _sort_names(relative.rpartition("/")[2], names)
            self._folders[relative] = folder
            strange = strange or (f"{relative}/{folder.strange}" if folder.strange else "")
            if folder.own:
                self._by_name[relative.rpartition("/")[2]].append(relative)
            for name in folder.whole:
                self._by_name[name].append(f"{relative}/{name}".lstrip("/"))
        if strange and not any(folder.own or folder.flat or folder.whole for folder in self._folders.values()):
            raise AdapterError(
                f"--option masks={root}: found files such as '{strange.lstrip('/')}', named in no known way; expected {LAYOUTS}"
            )

    def files(self) -> list[Path]:
        """Return every PNG, NPY and NPZ file that may be a prediction, sorted."""
        names: list[Path] = []
        for relative, folder in self._folders.items():
            numbered = [folder.own] if folder.own else list(folder.flat.values())
            names += [self.root / relative / name for files in numbered for same in files.values() for name in same]
            names += [self.root / relative / name for same in folder.whole.values() for name in same]
        return sorted({path for path in names if path.suffix != ".json"})

    def find(self, row: RowView) -> Found:
        """Return a row's predictions.

        Raises:
            ClipError: They are missing, or there twice.
        """
        level = "" if row.level is None else f"/{row.level:g}"
        tree = row.condition + level + (f"/draw{row.draw}" if row.draw else "")
        expected = self._resolve(f"{tree}/{row.clip_id}")
        if row.condition == CLEAN and not level and CLEAN not in self._folders:
            tree = ""
        candidates = list(self._candidates(tree, row))
        if not candidates:
            raise ClipError(
                f"{expected / '0.png'}: not found; expected the prediction of this frame {self._hint(tree, expected)}"
            )
        if len(candidates) > 1:
            raise ClipError(
                f"{candidates[0].path}: found next to {_other_name(candidates[0].path, candidates[1].path)} for {describe(row)}; "
                "expected one of the two; remove one"
            )
        found = candidates[0]
        other = self._used.setdefault((tree, found.path), row.clip_id)
        if other != row.clip_id:
            raise ClipError(
                f"{found.path}: fits clip {row.clip_id} and clip {other}; expected folders named by the whole clip_id"
            )
        return found

    def _hint(self, tree: str, expected: Path) -> str:
        hint = f"there (or in {expected}.npz)"
        if tree.partition("/")[0] not in self._folders:
            there = sorted(name for name in self._folders if name and "/" not in name)
            hint += f"; {self.root} has {', '.join(there[:8]) or 'no folders'}"
        return f"{hint}; known: {LAYOUTS}"

    def _resolve(self, relative: str) -> Path:
        try:
            return resolve_inside(self.root, relative, named_by="the manifest")
        except AvsRobustError as error:
            raise ClipError(str(error)) from error

    def _candidates(self, tree: str, row: RowView) -> Iterator[Found]:
        for key in self._keys(tree, row):
            parent, _, name = key.rpartition("/")
            around = self._folders.get(parent)
            for whole in around.whole.get(name, ()) if around else ():
                path = self.root / parent / whole
                yield Found(path, whole=path)
            own = self._folders.get(key)
            if own is not None and own.own:
                yield self._numbered(tree, self.root / key, self.root / key, own.own, row)
            if around is not None and not around.own and name in around.flat:
                yield self._numbered(
                    tree, self.root / parent / f"{name}_<k>", self.root / parent, around.flat[name], row
                )

    def _numbered(self, tree: str, place: Path, folder: Path, files: dict[int, list[str]], row: RowView) -> Found:
        for number, names in files.items():
            if len(names) > 1:
                raise ClipError(
                    f"{folder}: holds {' and '.join(sorted(names)[:2])} for frame {number} of {describe(row)}; "
                    "expected one file per frame; remove one"
                )
        numbered = {number: folder / names[0] for number, names in files.items()}
        return Found(place, numbered=numbered, first=self._first(tree))

    def _keys(self, tree: str, row: RowView) -> list[str]:
        """Return the folders in which a row's clip may lie, relative to the root, each once."""
        name = row.clip_id.rpartition("/")[2]
        keys = [
            row.clip_id,
            name,
            f"{row.split}/{row.clip_id}",
            *(f"{group}/{name}" for group in (row.split, *_GROUPS)),
        ]
        below = f"{tree}/" if tree else ""
        found = [below + key for key in keys]
        if tree and name == row.clip_id:
            # An id that is a bare name says nothing of the folder around it.
            found += [key for key in self._by_name.get(name, ()) if key.startswith(below)]
        return list(dict.fromkeys(found))

    def _first(self, tree: str) -> int:
        """Return the number of the first frame below a condition's folder: 0 where that number occurs at all."""
        if tree not in self._smallest:
            below = f"{tree}/" if tree else ""
            numbers: set[int] = set()
            for relative, folder in self._folders.items():
                if relative == tree or relative.startswith(below):
                    for files in [folder.own] if folder.own else folder.flat.values():
                        numbers.add(min(files))
            self._smallest[tree] = min(numbers, default=None)
        return first_frame_number(self._smallest[tree])


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder below `root`, "" being itself, with the names of its files."""
    waiting, seen = [""], 0
    while waiting:
        relative = waiting.pop()
        entries = _listed(root / relative)
        seen += len(entries)
        FILES.check(seen, f"--option masks={root}", AdapterError)
        below = [f"{relative}/{name}".lstrip("/") for name, is_folder in entries if is_folder]
        waiting += [folder for folder in below if folder.count("/") < _DEEPEST]
        yield relative, [name for name, is_folder in entries if not is_folder and not name.startswith(".")]


def _listed(folder: Path) -> list[tuple[str, bool]]:
    """Return the names in a folder, and whether each is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir()) for entry in entries]
    except OSError as error:
        raise AdapterError(
            f"{folder}: cannot be listed ({error.strerror}); expected a folder of predictions"
        ) from error


def _sort_names(folder_name: str, names: list[str]) -> _Folder:
    folder = _Folder()
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        suffix = dot + suffix
        number = _frame_number(stem)
        if suffix in FRAME_SUFFIXES and number is not None and number[0] in ("", folder_name):
            folder.own[number[1]].append(name)
            continue
        if suffix == ".png" and number is not None:
            folder.flat[number[0]][number[1]].append(name)
        elif suffix in CLIP_SUFFIXES:
            folder.whole[stem].append(name)
        elif not folder.strange:
            folder.strange = name
    return folder


def _frame_number(stem: str) -> tuple[str, int] | None:
    """Split a file's stem into the clip's name ("" where it has none) and the frame's number.

    >>> _frame_number("a_1_03"), _frame_number("a.mp4_3"), _frame_number("7"), _frame_number("overlay")
    (('a_1', 3), ('a', 3), ('', 7), None)
    """
    name, _, digits = stem.rpartition("_")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        return None
    return name.removesuffix(".mp4"), int(digits)


def _other_name(one: Path, other: Path) -> str:
    if one.with_suffix("") == other and one != other:
        return "a folder of the same name"
    return str(other)
