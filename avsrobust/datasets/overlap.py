"""Clips of val and test whose YouTube source also gave a train clip.

Conventions
    S4's names and AVSBench-semantic's uids are ``{source}_{start ms}_{end ms}``; MS3's names, and the column vid of its rows in
    metadata.csv, are ``{source}`` or ``{source}_{part}``, parts counted from 0; of v1s and v2 rows vid is the source itself.
    YouTube's ids have 11 characters, may end in "_" and a digit themselves, and then are no part of anything.
    Counts are those of the table: also where only one split is read, or files of a clip are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TRAIN = "train"
HELD_OUT = ("val", "test")
_ID_LENGTH = 11


def source_of_part(name: str) -> str:
    """Return the YouTube source of an MS3 name, or of a vid: the name without its part number.

    >>> source_of_part("_fvpYLXtQHQ_0"), source_of_part("n-Ey8CoFl_1"), source_of_part("baby_dog_2_1")
    ('_fvpYLXtQHQ', 'n-Ey8CoFl_1', 'baby_dog_2')
    """
    if len(name) == _ID_LENGTH:
        return name
    # No part has a leading zero: the toy's clips, mix0_00017, are no parts of one source.
    return re.sub(r"_(0|[1-9]\d{0,2})$", "", name, flags=re.ASCII)


def source_of_cut(name: str) -> str:
    """Return the YouTube source of a name that ends in the times it was cut at.

    >>> source_of_cut("__GOGlHL23s_4000_9000")
    '__GOGlHL23s'
    """
    return re.sub(r"_\d+_\d+$", "", name, flags=re.ASCII)


def source_of_clip(dataset: str, clip_id: str) -> str:
    """Return the YouTube source of a clip of a data set.

    >>> source_of_clip("ms3", "_fvpYLXtQHQ_0"), source_of_clip("s4", "dog/__GOGlHL23s_4000_9000")
    ('_fvpYLXtQHQ', '__GOGlHL23s')
    >>> source_of_clip("avss", "v1m/_fvpYLXtQHQ_0"), source_of_clip("avss", "v2/__GOGlHL23s_0_10000")
    ('_fvpYLXtQHQ', '__GOGlHL23s')
    """
    label, _, name = clip_id.rpartition("/")
    return source_of_part(name) if dataset == "ms3" or label == "v1m" else source_of_cut(name)


def train_overlap(clips: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Count the clips of val and test that share their source with a train clip.

    Args:
        clips: (split, source) of each clip.

    Returns:
        For each of val and test that has clips, ``{"clips": their number, "shared": those that share their source}``.

    >>> train_overlap([("train", "a"), ("test", "a"), ("test", "b")])
    {'test': {'clips': 2, 'shared': 1}}
    """
    clips = list(clips)
    train = {source for split, source in clips if split == TRAIN}
    overlap = {}
    for held_out in HELD_OUT:
        sources = [source for split, source in clips if split == held_out]
        if sources:
            overlap[held_out] = {"clips": len(sources), "shared": sum(source in train for source in sources)}
    return overlap
