"""S4 and MS3 were published twice: choose the form to read.

Conventions
    AVSBench-object holds them in ``Single-source/`` and ``Multi-sources/``, AVSBench-semantic as the v1s and v1m rows of its
    metadata.csv, with other frames and masks. Scores on the two forms are not comparable.
    Unless one is asked for, the object release is read, and the semantic one only where nothing of the other lies there: half an
    object release is refused, not passed over. Where both lie there, a note says which was read. Only AVSBench-semantic has AVSS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from avsrobust.datasets.entries import DeclaredDataSet
from avsrobust.datasets.trees import MULTI, SEMANTIC, SINGLE, Survey, Tree, TreeKind
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.vocabulary import OBJECT_RELEASE, RELEASES, SEMANTIC_RELEASE

_KINDS: Mapping[str, TreeKind] = {"s4": SINGLE, "ms3": MULTI}
_LOOKED_FOR = {
    ("s4", OBJECT_RELEASE): "Single-source/s4_meta_data.csv beside s4_data/",
    ("s4", SEMANTIC_RELEASE): "AVSBench-semantic's metadata.csv with v1s rows beside v1s/",
    ("ms3", OBJECT_RELEASE): "Multi-sources/ms3_meta_data.csv beside ms3_data/",
    ("ms3", SEMANTIC_RELEASE): "AVSBench-semantic's metadata.csv with v1m rows beside v1m/",
}


@dataclass(frozen=True)
class Chosen:
    """The tree to read a data set from, its release, and what is to be said about the other one (None: it is not there)."""

    tree: Tree
    release: str
    note: str | None = None

    def noted(self, listing: DeclaredDataSet) -> DeclaredDataSet:
        """Return the listing with the note."""
        return listing if self.note is None else replace(listing, notes=(self.note, *listing.notes))


def check_release(dataset: str, release: str | None) -> None:
    """Check that a data set (in our spelling) can be read from `release` (None: from any). Raises `OptionError`."""
    if release is not None and release not in RELEASES:
        raise OptionError(
            f"--release: found '{release}'; expected {' or '.join(RELEASES)}{did_you_mean(release, RELEASES)}"
        )
    if release == OBJECT_RELEASE and dataset not in _KINDS:
        raise OptionError(
            f"--release {release}: found the data set {dataset}, which AVSBench-{SEMANTIC_RELEASE} alone has; "
            f"expected {' or '.join(_KINDS)} with it; leave the option out"
        )


def choose_release(found: Survey, dataset: str, release: str | None) -> Chosen:
    """Return where to read `dataset` (s4 or ms3) from, and as which release.

    Raises `DataSetError` where the release that is asked for, or with None either, does not lie below the data root.
    """
    kind = _KINDS[dataset]
    if release != SEMANTIC_RELEASE:
        tree = found.find(kind)
        if tree is not None:
            others = [str(other) for other in found.trees if other.kind is SEMANTIC and dataset in other.serves]
            return Chosen(tree, OBJECT_RELEASE, _note(dataset, tree, others, SEMANTIC_RELEASE, release))
    if release != OBJECT_RELEASE:
        tree = found.find(SEMANTIC)
        if tree is not None and dataset in tree.serves and (release is not None or not found.is_incomplete(kind)):
            others = [str(other) for other in found.trees if other.kind is kind]
            return Chosen(tree, SEMANTIC_RELEASE, _note(dataset, tree, others, OBJECT_RELEASE, release))
    wanted = RELEASES if release is None else (release,)
    raise found.absent(dataset, ", or ".join(_LOOKED_FOR[dataset, name] for name in wanted))


def _note(dataset: str, tree: Tree, others: list[str], other: str, asked: str | None) -> str | None:
    if not others:
        return None
    way = "as asked for" if asked is not None else f"--release {other} reads the other"
    return f"{dataset} is there in two forms, {tree} and {', '.join(others)} (AVSBench-{other}); read was {tree}, {way}"
