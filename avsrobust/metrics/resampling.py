"""Resamples of clips that are no independent samples: how often each one counts, as products of matrices.

Conventions
    A *way* sorts clips into clusters whose scores depend on one another: by the video that they were cut from, and under a
    condition whose sounds are borrowed, by the recording that the sound comes from. Videos and sounds are crossed: clips of one
    video may be given several sounds, and one sound is given to clips of many videos.
    A resample draws as many clusters of each way as there are, with replacement, independently of the other ways; a clip counts
    as often as its clusters in all ways were drawn, multiplied: the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics
    1(2), 386-411; for more ways Owen and Eckles 2012, 6(3), 895-927). It is conservative: what belongs to a clip alone is counted
    up to three times in the variance. Therefore a cluster that lies within one cluster of the coarsest way is not drawn by
    itself: its clips are drawn together anyway. Where every video is given one sound, this is the bootstrap over sounds.
    Connected components of videos and sounds, the alternative, are too few: on data like MS3's test split 64 clips of 50 videos
    with 15 sounds fall into about 5, and 95 % intervals over these cover 80 to 87 %.
    The draws depend on seed, number of resamples and clusters alone: models with equal ones are given the same resamples.
    The counts of the draws take a byte per resample and cluster. Of many clusters they are not kept, but drawn again, a few
    resamples at a time, for each pass through them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from avsrobust.errors import OptionError
from avsrobust.metrics.dataset_score import ConditionKey
from avsrobust.metrics.rows import Flags, Floats, Ints

DEFAULT_RESAMPLES = 10_000
_BLOCK = 1 << 20
# Of few clips a block would otherwise hold so many resamples that their scores do not fit into memory.
_MOST_RESAMPLES = 1024

# Most bytes of the draws of one way that are kept: 13,000 clusters at 10,000 resamples.
_KEPT_BYTES = 1 << 27

Counts = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def cluster_numbers(clusters: Sequence[Hashable]) -> Ints:
    """Return a number from 0 on for the cluster of each clip.

    >>> cluster_numbers(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(cluster, len(number)) for cluster in clusters], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of N clips.

    Attributes:
        video: Cluster of each clip by its video, int64 [N].
        sounds: For each condition whose sounds are borrowed, the cluster of each clip by its sound, int64 [N]; -1: none.
    """

    video: Ints
    sounds: Mapping[ConditionKey, Ints] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.video)

    def take(self, clips: npt.NDArray[np.generic]) -> Clusters:
        """Return the clusters of some clips, by their numbers or a mask."""
        return Clusters(self.video[clips], {key: sounds[clips] for key, sounds in self.sounds.items()})

    @property
    def digest(self) -> bytes:
        """A checksum of all of it."""
        found = hashlib.sha256(self.video.tobytes())
        for key in sorted(self.sounds, key=repr):
            found.update(repr(key).encode())
            found.update(self.sounds[key].tobytes())
        return found.digest()


def clusters_of(clusters: Sequence[Hashable] | Clusters) -> Clusters:
    """Return clusters by video, given by their names, as `Clusters`; these as they are."""
    return clusters if isinstance(clusters, Clusters) else Clusters(cluster_numbers(clusters))


@dataclass(frozen=True, eq=False)
class ClipTerms:
    """Terms that N clips add to a model's scores under C conditions.

    Attributes:
        terms: float64 [N, C, ...]; 0 where a clip has no row.
        has_row: Whether a clip has a row under a condition, bool [N, C].
        scores_of: Maps sums of terms [R, C, ...] to scores [R, C, 3 measures], NaN where undefined.
    """

    terms: Floats
    has_row: Flags
    scores_of: Callable[[Floats], Floats]

    def only(self, rows: Flags) -> ClipTerms:
        """Return the terms with some rows [N, C] alone, without the clips that have none of them."""
        if rows.all():
            return self
        counted = rows.any(axis=1)
        shape = (*rows.shape, *[1] * (self.terms.ndim - 2))
        return ClipTerms((self.terms * rows.reshape(shape))[counted], (self.has_row & rows)[counted], self.scores_of)


@dataclass(frozen=True, eq=False)
class Grouping:
    """Grouping of the clips under some conditions: clips of one cell count equally often.

    Attributes:
        cell: Cell of each clip, int64 [N].
        ways: Of each way that has a say: the cluster of each clip, and that of each cell, -1 where the way has none.
        clusters: Clusters of the coarsest way.
    """

    cell: Ints
    ways: tuple[tuple[Ints, Ints], ...]
    clusters: int

    def clusters_of(self, clips: Flags) -> int:
        """Return the number of clusters of the coarsest way that hold some of these clips, bool [N]."""
        return self.clusters if clips.all() else len(np.unique(self.ways[0][0][clips]))


class Resampling:
    """Resamples of N clips, the same for all models; see the module's conventions.

    The counts of the draws are kept where they are not too many.

    Args:
        clusters: The clips' clusters, or their clusters by video alone, int64 [N].
        samples: Number of resamples.
        seed: Seed of the draws.

    Raises:
        OptionError: There are no samples.
    """

    def __init__(self, clusters: Clusters | Ints, samples: int = DEFAULT_RESAMPLES, seed: int = 0) -> None:
        if samples < 1:
            raise OptionError(f"samples: found {samples}; expected at least 1; 10000 is usual")
        self.clusters = clusters if isinstance(clusters, Clusters) else Clusters(clusters)
        self.samples = samples
        self.seed = seed
        self._counts: dict[bytes, Counts] = {}
        self._groupings: dict[tuple[bytes, ...], Grouping] = {}

    def __len__(self) -> int:
        return len(self.clusters)

    @property
    def bytes(self) -> int:
        """Bytes of the draws that are kept."""
        return sum(counts.nbytes for counts in self._counts.values())

    def grouping(self, keys: Sequence[ConditionKey]) -> Grouping:
        """Return how the clips count in a score of these conditions: equal objects where they count equally."""
        ways = [_compact(self.clusters.video)]
        for key in keys:
            sounds = self.clusters.sounds.get(key)
            if sounds is not None:
                ways.append(_compact(sounds))
        unique = {way.tobytes(): way for way in ways}
        name = tuple(unique)
        if name not in self._groupings:
            self._groupings[name] = _grouping(list(unique.values()))
        return self._groupings[name]

    def blocks(self, terms: Floats, grouping: Grouping) -> Iterator[Floats]:
        """Yield the sums of `terms` [N, ...] over the clips of some resamples, float64 [R, ...], until all had their turn."""
        return (sums for (sums,) in self.blocks_of_all([terms], grouping))

    def blocks_of_all(self, terms: Sequence[Floats], grouping: Grouping) -> Iterator[list[Floats]]:
        """Yield what `blocks` yields for each of several models' terms, in one pass through the draws."""
        cells = int(grouping.cell.max()) + 1
        flat = []
        for of_model in terms:
            sums = np.zeros((cells, *of_model.shape[1:]))
            np.add.at(sums, grouping.cell, of_model)
            flat.append(sums.reshape(cells, -1))
        counts = [(self._draws(way), of_cell) for way, of_cell in grouping.ways]
        block = min(max(_BLOCK // cells, 1), _MOST_RESAMPLES)
        for first in range(0, self.samples, block):
            last = min(first + block, self.samples)
            weight = np.ones((last - first, cells))
            for drawn, of_cell in counts:
                has = of_cell >= 0
                of_block = drawn.rows(first, last)
                if has.all():
                    weight *= of_block[:, of_cell]
                else:
                    weight[:, has] *= of_block[:, of_cell[has]]
            yield [
                (weight @ of_model).reshape(-1, *given.shape[1:]) for of_model, given in zip(flat, terms, strict=True)
            ]

    def _draws(self, way: Ints) -> _Kept | _DrawnAgain:
        """Number of times that each cluster of a way was drawn, [samples, clusters]."""
        name = way.tobytes()
        if name in self._counts:
            return _Kept(self._counts[name])
        is_video = name == _compact(self.clusters.video).tobytes()
        of_way = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
        seed = self.seed if is_video else [self.seed, of_way]
        clusters = int(way.max()) + 1
        if clusters * self.samples > _KEPT_BYTES:
            return _DrawnAgain(_drawn(clusters, self.samples, np.random.default_rng(seed)))
        self._counts[name] = _whole(clusters, self.samples, np.random.default_rng(seed))
        return _Kept(self._counts[name])


@dataclass(frozen=True, eq=False)
class _Kept:
    """Counts of all resamples, [samples, clusters]."""

    counts: Counts

    def rows(self, first: int, last: int) -> Counts:
        """Return those of some resamples."""
        return self.counts[first:last]


class _DrawnAgain:
    """Counts of resamples in order, of which the last ones drawn are there.

    Args:
        parts: All resamples, some at a time.
    """

    def __init__(self, parts: Iterator[Counts]) -> None:
        self._parts = parts
        self._first = 0
        self._part = next(parts)

    def rows(self, first: int, last: int) -> Counts:
        """Return those of some resamples, behind those of the call before."""
        found: list[Counts] = []
        while first < last:
            while first >= self._first + len(self._part):
                self._first += len(self._part)
                self._part = next(self._parts)
            found.append(self._part[first - self._first : last - self._first])
            first += len(found[-1])
        return found[0] if len(found) == 1 else cast("Counts", np.concatenate(found))


class Resamplings:
    """Resamples of several sets of clips, each drawn once; the oldest give way where all together hold too many bytes.

    Args:
        samples: Number of resamples of each.
        seed: Seed of the draws.
        most_bytes: Bytes of the draws that are kept.
    """

    def __init__(self, samples: int = DEFAULT_RESAMPLES, seed: int = 0, most_bytes: int = 1 << 28) -> None:
        self.samples = samples
        self.seed = seed
        self._most_bytes = most_bytes
        self._found: dict[bytes, Resampling] = {}

    def __call__(self, clusters: Clusters) -> Resampling:
        """Return the resamples of clips with these clusters."""
        name = clusters.digest
        found = self._found.pop(name, None) or Resampling(clusters, self.samples, self.seed)
        self._found[name] = found
        while len(self._found) > 1 and sum(entry.bytes for entry in self._found.values()) > self._most_bytes:
            self._found.pop(next(iter(self._found)))
        return found


def _compact(clusters: Ints) -> Ints:
    """The clusters, numbered from 0 in the order of the clips; a clip without one (-1) is one of its own."""
    alone = clusters < 0
    named = np.where(alone, clusters.max(initial=0) + 1 + np.arange(len(clusters)), clusters)
    _, first, number = np.unique(named, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return np.asarray(rank[number], dtype=np.int64)


def _grouping(ways: Sequence[Ints]) -> Grouping:
    """The cells of several ways, and which of their clusters have a say."""
    sizes = [int(way.max(initial=-1)) + 1 for way in ways]
    coarsest = int(np.argmin(sizes))
    chosen = [(ways[coarsest], ways[coarsest])]
    for position, way in enumerate(ways):
        if position != coarsest:
            crossed = np.unique(np.stack([way, ways[coarsest]]), axis=1)[0]
            spans = np.bincount(crossed, minlength=sizes[position]) > 1
            if spans.any():
                chosen.append((way, np.where(spans[way], way, -1)))
    labels = np.stack([say for _, say in chosen])
    _, first, cell = np.unique(labels, axis=1, return_index=True, return_inverse=True)
    return Grouping(
        np.asarray(cell, dtype=np.int64).reshape(-1),
        tuple((way, say[first]) for way, say in chosen),
        sizes[coarsest],
    )


def _drawn(clusters: int, samples: int, generator: np.random.Generator) -> Iterator[Counts]:
    """Yield how often each cluster was drawn in each resample, [some, clusters], in the smallest type that holds it."""
    block = min(max(_BLOCK // clusters, 1), _MOST_RESAMPLES)
    for first in range(0, samples, block):
        size = min(block, samples - first)
        draws = generator.integers(clusters, size=(size, clusters))
        draws += np.arange(size)[:, None] * clusters
        found = np.bincount(draws.ravel(), minlength=size * clusters).reshape(size, clusters)
        yield found.astype(np.uint8) if found.max() <= np.iinfo(np.uint8).max else found.astype(np.uint16)


def _whole(clusters: int, samples: int, generator: np.random.Generator) -> Counts:
    """Number of times that each cluster was drawn in each resample, [samples, clusters]."""
    counts: Counts = np.zeros((samples, clusters), dtype=np.uint8)
    first = 0
    for found in _drawn(clusters, samples, generator):
        if found.dtype != counts.dtype:
            counts = counts.astype(np.uint16)
        counts[first : first + len(found)] = found
        first += len(found)
    return counts
