"""A requested evaluation: the rows of a build, all of them or a shard's, and whether results hold them already.

Conventions
    Splits and conditions are those requested of all shards together; the clips are the ones of this shard. A shard's results
    folder is for its own clips of the whole build, whatever part of them was requested so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.evaluation.clip_table import ClipTable
from avsrobust.evaluation.existing_results import ExistingResults
from avsrobust.evaluation.provenance import requested_pairs
from avsrobust.evaluation.shards import Shard
from avsrobust.manifest import Manifest, Row
from avsrobust.row_keys import ClipKey


@dataclass(frozen=True)
class Request:
    """A requested evaluation.

    Attributes:
        manifest: The build.
        clips: The clips, each with the requested rows.
        splits: Requested splits, sorted.
        conditions: Requested conditions, sorted.
        shard: The shard whose clips these are; None: there are no shards.
        limited: Splits of which only the first clips are requested.
    """

    manifest: Manifest
    clips: ClipTable
    splits: Sequence[str]
    conditions: Sequence[str]
    shard: Shard | None
    limited: tuple[str, ...]

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        splits: Sequence[str],
        conditions: Sequence[str] | None = None,
        *,
        limit: int | None = None,
        shard: Shard | None = None,
    ) -> Request:
        """Return the request for these rows.

        Args:
            manifest: The build.
            splits: Splits to run.
            conditions: Conditions to run; None: all.
            limit: Run the first so many clips alone; None: all.
            shard: Run the clips of this shard alone.

        Raises:
            OptionError: The build has no such split or condition, or no row of both.
        """
        whole = _chosen(manifest, splits, conditions)[:limit]
        return cls(
            manifest,
            whole if shard is None else whole.among(_clips_of_shard(manifest, shard)),
            sorted(whole.distinct("split")),
            sorted(whole.distinct("condition")),
            shard,
            () if limit is None else tuple(splits),
        )

    @property
    def shard_name(self) -> str:
        """The shard as text, ``i/n``; "" where there are none."""
        return "" if self.shard is None else str(self.shard)

    def pairs(self) -> set[tuple[str, str]]:
        """Return the (split, condition) pairs requested of all shards; none where there are no shards."""
        if self.shard is None:
            return set()
        return {(split, name) for split in self.splits for name in self.conditions}

    def is_recorded(self, stored: ExistingResults) -> bool:
        """Return whether ``run.json`` holds the request; a shard without any of its clips is recorded too."""
        if self.shard is None:
            return stored.run is not None or stored.scores is None
        return stored.run is not None and self.pairs() <= requested_pairs(stored.run)

    def own_rows(self) -> Iterable[Row]:
        """Return the rows of the build that the results folder is for."""
        if self.shard is None:
            return self.manifest.rows
        mine = _clips_of_shard(self.manifest, self.shard)
        return (row for row in self.manifest.rows if (row.split, row.clip_id) in mine)


def _chosen(manifest: Manifest, splits: Sequence[str], conditions: Sequence[str] | None) -> ClipTable:
    for noun, requested, there in (
        ("split", splits, manifest.distinct("split")),
        ("condition", conditions or (), manifest.distinct("condition")),
    ):
        for value in requested:
            if value not in there:
                raise OptionError(
                    f"{manifest.path}: has no rows of {noun} '{value}'; it has {', '.join(there)}{did_you_mean(value, there)}"
                )
    clips = ClipTable(manifest.select(splits, conditions).rows)
    if not clips:
        raise OptionError(f"{manifest.path}: has no row of the chosen splits and conditions; choose others")
    return clips


def _clips_of_shard(manifest: Manifest, shard: Shard) -> frozenset[ClipKey]:
    return shard.clips((row.split, row.clip_id) for row in manifest.rows)
