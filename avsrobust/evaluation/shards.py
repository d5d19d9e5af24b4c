"""Shards: an evaluation that several processes share, each taking a part of the clips.

Conventions
    Shards count from 1: "2/4" is the second of four. The clips of a split, sorted by their ids, are dealt out in turn: which
    shard has a clip follows from the build's clips and the number of shards alone, neither from the order of the manifest nor
    from the conditions or splits that are requested.
    Each shard has a results folder of its own, ``<results folder>/shards/2-of-4``; `merging` puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from avsrobust.errors import OptionError
from avsrobust.results import SHARDS_NAME
from avsrobust.row_keys import ClipKey

_MOST = 9999
_TEXT = re.compile(r"(\d{1,4})/(\d{1,4})")
_FOLDER = re.compile(r"(\d{1,4})-of-(\d{1,4})")


@dataclass(frozen=True, order=True)
class Shard:
    """One of several equal parts of an evaluation.

    Attributes:
        of: Number of shards.
        number: Which one this is, from 1.
    """

    of: int
    number: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that a text such as "2/4" names.

        Raises:
            OptionError: It names none.

        >>> str(Shard.parse("2/4"))
        '2/4'
        """
        found = _TEXT.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
            raise OptionError(
                f"--shard {text}: expected i/n, one of n shards counted from 1, such as 1/4 to 4/4, with n up to {_MOST}"
            )
        return cls(int(found[2]), int(found[1]))

    @classmethod
    def of_folder(cls, name: str) -> Shard | None:
        """Return the shard whose folder has this name, None for other names.

        >>> Shard.of_folder("2-of-4"), Shard.of_folder("5-of-4")
        (Shard(of=4, number=2), None)
        """
        found = _FOLDER.fullmatch(name)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
            return None
        shard = cls(int(found[2]), int(found[1]))
        return shard if shard.folder_name == name else None

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder_name(self) -> str:
        """Name of its folder."""
        return f"{self.number}-of-{self.of}"

    def folder(self, results: Path) -> Path:
        """Return its folder, given that of the whole evaluation."""
        return results / SHARDS_NAME / self.folder_name

    def clips(self, clips: Iterable[ClipKey]) -> frozenset[ClipKey]:
        """Return the clips of this shard, given all clips of the build.

        >>> sorted(Shard.parse("1/2").clips([("test", "c"), ("val", "a"), ("test", "a"), ("test", "b")]))
        [('test', 'a'), ('test', 'c'), ('val', 'a')]
        """
        by_split = groupby(sorted(set(clips)), key=lambda clip: clip[0])
        return frozenset(clip for _, group in by_split for clip in list(group)[self.number - 1 :: self.of])


def shards_in(results: Path) -> list[Shard]:
    """Return the shards that have a folder in a results folder, sorted; folders of other names are none."""
    folder = results / SHARDS_NAME
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
    return sorted(shard for shard in map(Shard.of_folder, names) if shard is not None)
