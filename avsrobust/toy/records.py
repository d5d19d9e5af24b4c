"""Records of the trees that the toy has written, one per tree, so that no tree of another origin is ever touched.

Conventions
    One data root holds the toy of one seed. Each tree holds `RECORD_NAME`, written before anything else, so that an
    interrupted run can be completed by the same command and by no other. ``AVSBench_semantic/`` belongs to the toy of
    AVSS; the toy of MS3 alone puts nothing but metadata.csv there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.files import require_writable, write_text
from avsrobust.textfiles import read_json
from avsrobust.vocabulary import counted

RECORD_NAME = "toy.json"
TREES: Mapping[str, str] = {"s4": "Single-source", "ms3": "Multi-sources", "avss": "AVSBench_semantic"}
# Raised whenever the same arguments would give other bytes, so that no tree is half of one kind and half of another.
_FORMAT = 1
# Other names under which a reader looks for the semantic release; next to ours there would be two releases.
_OTHER_SEMANTIC = ("AVSS", "metadata.csv")


@dataclass(frozen=True)
class Record:
    """The arguments that a tree was made with."""

    dataset: str
    clips: int
    seed: int
    format: int = _FORMAT

    def __str__(self) -> str:
        clips = counted(self.clips, "clip")
        text = f"{clips} of {self.dataset} with seed {self.seed}"
        return text if self.format == _FORMAT else f"{text} by another version of avsrobust"


def acquire_trees(out: Path, wanted: Record) -> dict[str, Record]:
    """Check that a tree may be written, and record it.

    Args:
        out: The data root.
        wanted: The arguments of the tree.

    Returns:
        All records below `out`, by data set.

    Raises:
        OptionError: A tree is there that the toy did not make, or made with other arguments, or `out` cannot be written.
            Nothing is changed then.
    """
    records = _read_records(out)
    others = [record for record in records.values() if record.dataset == wanted.dataset or not _fits(record, wanted)]
    for found in others:
        if found != wanted:
            raise OptionError(
                f"{out}: found the toy of {found}; expected {wanted}; choose another folder, or delete it"
            )
    for tree in _foreign_trees(out, wanted.dataset, records):
        raise OptionError(
            f"{tree}: is there already, and 'avsrobust toy' did not make it; choose another folder for the toy"
        )
    require_writable(out)
    write_text(out / TREES[wanted.dataset] / RECORD_NAME, json.dumps(asdict(wanted), indent=1) + "\n")
    return {**records, wanted.dataset: wanted}


def _fits(one: Record, other: Record) -> bool:
    return one.seed == other.seed and one.format == other.format


def _foreign_trees(out: Path, dataset: str, records: Mapping[str, Record]) -> list[Path]:
    """Return the trees that stand in the way of writing `dataset`."""
    foreign = []
    if dataset not in records and _is_filled(out / TREES[dataset]) and not (dataset == "avss" and "ms3" in records):
        foreign.append(out / TREES[dataset])
    if dataset != "s4":
        foreign += [out / name for name in _OTHER_SEMANTIC if (out / name).exists()]
        if not {"ms3", "avss"} & records.keys() and _is_filled(out / TREES["avss"]):
            foreign.append(out / TREES["avss"])
    return foreign


def _is_filled(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def _read_records(out: Path) -> dict[str, Record]:
    records = {}
    for dataset, tree in TREES.items():
        path = out / tree / RECORD_NAME
        if path.exists():
            records[dataset] = _read_record(path)
    return records


def _read_record(path: Path) -> Record:
    try:
        return Record(**read_json(path, OptionError))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"{path}: cannot be read as the toy's record; choose another folder, or delete it") from error
