"""Files that the released AVSBench-Robust generator would find on disk, for recipes that reproduce it.

Conventions
    Its draws depend on every sound file of every split, also on those that no table names, and on the order of the rows of
    metadata.csv. So the folders are listed here (sorted), where our own readers take what the tables say.
    Source: AVSBench-Robust, dataset_generation/audio_processing.py, `process_s4_split` and `process_ms3_split`.
"""

from __future__ import annotations

from pathlib import Path

from avsrobust.conditions.recipe import Recipe
from avsrobust.conditions.reference import (
    AUDIO_FOLDER,
    SPLIT_ORDER,
    Ms3Listing,
    Ms3Record,
    ReleasedListing,
    S4Listing,
)
from avsrobust.datasets.avss import COLUMNS
from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.tables import read_table
from avsrobust.datasets.trees import find_trees
from avsrobust.vocabulary import DATASETS

_SUFFIX = ".wav"
_IGNORED = ".DS_Store"
_MS3_LABEL = "v1m"


def read_listing(dataset: DataSet, recipe: Recipe) -> ReleasedListing | None:
    """Return what the released generator finds, or None where the recipe does not ask or the tree has another form."""
    # The generator knows s4 and ms3; avss has no folder of sounds.
    if dataset.name not in DATASETS or not any(entry.condition.needs_listing for entry in recipe.entries):
        return None
    folder = _sound_folder(dataset)
    if folder is None:
        return None
    if dataset.name == "s4":
        return S4Listing({split: _categories(folder / split) for split in SPLIT_ORDER})
    wavs = {split: _stems(folder / split) for split in SPLIT_ORDER}
    return Ms3Listing(_metadata(dataset.root), wavs)


def _sound_folder(dataset: DataSet) -> Path | None:
    """Return the folder ``audio_wav`` of the tree, where it has one."""
    for clip in dataset.clips:
        tree, found, _ = clip.audio.rpartition(f"/{AUDIO_FOLDER}/{clip.split}/")
        return dataset.root / tree / AUDIO_FOLDER if found else None
    return None


def _categories(folder: Path) -> dict[str, tuple[str, ...]]:
    if not folder.is_dir():
        return {}
    return {
        entry.name: _stems(entry) for entry in sorted(folder.iterdir()) if entry.is_dir() and _IGNORED not in entry.name
    }


def _stems(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name.removesuffix(_SUFFIX) for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)))


def _metadata(root: Path) -> tuple[Ms3Record, ...]:
    path = find_trees(root).semantic_table()
    if path is None:
        return ()
    table = read_table(root, path)
    column = table.require(*COLUMNS)
    return tuple(
        Ms3Record(row.cells[column["vid"]], row.cells[column["split"]], tuple(row.cells[column["a_obj"]].split("_")))
        for row in table.rows
        if row.cells[column["label"]] == _MS3_LABEL
    )
