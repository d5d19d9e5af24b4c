"""Sentences that stand under every table of a build's results.

Conventions
    They follow from the manifest's metadata: the form of the data (`release`), the clips of other splits that share their
    source with a train clip (``survey["train_overlap"]``), the muted clips, and conditions whose sounds are few
    (``survey["sources"]``). Evaluating copies them into the results
    (`results.ScoreInfo.notes`), reports print them. The data set's notes hold the same sentences.
    ``train_overlap`` maps a split to ``{"clips": clips of the split, "shared": those of them that share their source}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from avsrobust.datasets.overlap import HELD_OUT, TRAIN, source_of_clip
from avsrobust.errors import ManifestError
from avsrobust.vocabulary import SEMANTIC_RELEASE

if TYPE_CHECKING:
    from avsrobust.manifest import Manifest, ManifestInfo

OVERLAP = "train_overlap"
SOURCES = "sources"
# Of fewer rows nobody expects many sources.
_MANY_ROWS = 32
_SEMANTIC_ROWS = {"s4": "v1s", "ms3": "v1m"}
_SPLITS = ("test", "val")


def caveats(info: ManifestInfo) -> tuple[str, ...]:
    """Return the sentences for the results of a build.

    Raises `ManifestError` where the manifest's survey does not hold the counts it should.
    """
    try:
        shared = overlap_caveat(info.dataset, dict(info.survey.get(OVERLAP, {})))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"manifest of {info.dataset}: its survey has a damaged {OVERLAP} ({error}); build again"
        ) from error
    sentences = (release_caveat(info.dataset, info.release), shared, muted_caveat(info.dataset, len(info.muted)))
    return (
        *(sentence for sentence in sentences if sentence),
        *source_caveats(info.dataset, info.survey.get(SOURCES, {})),
    )


def train_sources(manifest: Manifest) -> tuple[str, ...] | None:
    """Return the ids of the clips of val and test whose YouTube source also gave a clip of train, sorted.

    Of the whole build, where `manifest` is a selection of it. None where the build has no clip of train.
    """
    table = pq.read_table(manifest.path, columns=["split", "clip_id"])
    clips = sorted(set(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)))
    train = {source_of_clip(manifest.info.dataset, clip_id) for split, clip_id in clips if split == TRAIN}
    if not train:
        return None
    held_out = (clip_id for split, clip_id in clips if split in HELD_OUT)
    return tuple(sorted(name for name in held_out if source_of_clip(manifest.info.dataset, name) in train))


def release_caveat(dataset: str, release: str) -> str | None:
    """Return which form of S4 or MS3 was read; AVSS has only one.

    >>> release_caveat("s4", "object")
    's4 is in the form of AVSBench-object'
    """
    if dataset not in _SEMANTIC_ROWS or not release:
        return None
    if release == SEMANTIC_RELEASE:
        return (
            f"{dataset} is in the form of AVSBench-semantic ({_SEMANTIC_ROWS[dataset]} rows), whose frames and masks differ from "
            "AVSBench-object's: scores on the two forms are not comparable"
        )
    return f"{dataset} is in the form of AVSBench-{release}"


def overlap_caveat(dataset: str, overlap: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return how many val and test clips share their YouTube source with a train clip, or None where none does.

    >>> overlap_caveat("ms3", {"test": {"clips": 64, "shared": 38}, "val": {"clips": 64, "shared": 41}})
    'ms3: 38 of 64 test and 41 of 64 val clips share their YouTube source with a train clip'
    """
    shares = [
        f"{int(overlap[split]['shared'])} of {int(overlap[split]['clips'])} {split}"
        for split in _SPLITS
        if split in overlap and int(overlap[split]["shared"])
    ]
    return f"{dataset}: {' and '.join(shares)} clips share their YouTube source with a train clip" if shares else None


def source_caveats(dataset: str, counts: object) -> tuple[str, ...]:
    """Return on how few recordings 32 rows or more of a condition rest, where a recording serves two or more on average.

    Args:
        dataset: Name of the data set.
        counts: ``survey["sources"]``: by condition and split, the numbers `rows`, `sources` and `largest`.

    Raises:
        ManifestError: The counts are none.

    >>> source_caveats("ms3", {"offscreen": {"test": {"rows": 64, "sources": 15, "largest": 12}}})
    ('ms3, test: the 64 rows of offscreen have the sounds of 15 distinct clips; the most used one serves 12 clips',)
    """
    try:
        found = [
            (condition, split, *(int(entry[name]) for name in ("rows", "sources", "largest")))
            for condition, splits in dict(counts).items()  # type: ignore[call-overload]
            for split, entry in dict(splits).items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"manifest of {dataset}: its survey has damaged {SOURCES} ({error}); build again"
        ) from error
    return tuple(
        f"{dataset}, {split}: the {rows} rows of {condition} have the sounds of {sources} distinct clips; the most used one "
        f"serves {largest} clips"
        for condition, split, rows, sources, largest in found
        if split != "train" and rows >= _MANY_ROWS and 2 * sources <= rows
    )


def muted_caveat(dataset: str, count: int) -> str | None:
    """Return how many clips have a silent recording of their own, or None where none has.

    >>> muted_caveat("avss", 2)
    'avss: 2 clips are muted, their own recording is silent or nearly so'
    """
    if not count:
        return None
    clips = "1 clip is muted, its" if count == 1 else f"{count} clips are muted, their"
    return f"{dataset}: {clips} own recording is silent or nearly so"
