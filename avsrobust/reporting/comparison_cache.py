"""A cache for the pairs of a comparison: every model's terms and resampled scores are computed once.

Conventions
    Clips are numbered alike for all results of a group and split. The resamples of a split depend on its name, the seed and the
    clips' clusters alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np

from avsrobust.errors import ResultsError
from avsrobust.heap import release_unused
from avsrobust.metrics import ClipScores, SemanticProtocol, SemanticSums, clip_scores, semantic_sums
from avsrobust.metrics.binary.bootstrap import binary_terms
from avsrobust.metrics.bootstrap import Conditions
from avsrobust.metrics.comparison import ResampledScores
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of
from avsrobust.metrics.resampling import ClipTerms, Clusters, Resamplings
from avsrobust.metrics.semantic.bootstrap import semantic_terms
from avsrobust.reporting.clip_clusters import clip_clusters
from avsrobust.reporting.columns import is_extended
from avsrobust.reporting.comparison_pairs import Group
from avsrobust.reporting.selection import AnyProtocol, requested_negatives
from avsrobust.reporting.split_results import SplitResult, clip_ids_of, split_result, splits_of
from avsrobust.results import Run, Scores
from avsrobust.vocabulary import NEGATIVE, NEGATIVES, POSITIVE

_T = TypeVar("_T")


class Cache:
    """Values that are computed once for all pairs.

    Args:
        samples: Number of resamples.
        seed: Seed of the resamples.
        members: The results of all groups.
        runs: The ``run.json`` of each, where there is one.
    """

    def __init__(self, samples: int, seed: int, members: Sequence[Scores], runs: Sequence[Run | None]) -> None:
        self._runs: Mapping[int, Run | None] = {id(scores): run for scores, run in zip(members, runs, strict=True)}
        self._samples = samples
        self._seed = seed
        self._resamplings: dict[str, Resamplings] = {}
        self._found: dict[tuple[object, ...], object] = {}

    def _once(self, name: tuple[object, ...], make: Callable[[], _T]) -> _T:
        if name not in self._found:
            self._found[name] = make()
        return cast("_T", self._found[name])

    def result(self, group: Group, number: int, split: str) -> SplitResult:
        """A model's results on a split, clips numbered alike for all models of the group."""

        def numbering() -> list[str]:
            return sorted({clip for scores in group.members for clip in clip_ids_of(scores, split)})

        clips = self._once(("clips", id(group), split), numbering)
        return self._once(
            ("result", id(group), number, split), lambda: split_result(group.members[number], split, clips)
        )

    def negatives(self, group: Group, texts: Sequence[str] | None) -> tuple[str, ...]:
        """The negative conditions of the G scores."""

        def make() -> tuple[str, ...]:
            sources = [
                self.result(group, number, split)
                for number, scores in enumerate(group.members)
                for split in splits_of(scores)
            ]
            return requested_negatives(texts, sources)

        return NEGATIVES if texts is None else self._once(("negatives", id(group)), make)

    def polarities(self, group: Group, number: int, split: str) -> Mapping[ConditionKey, str]:
        """Polarity of each condition of a result."""

        def make() -> dict[ConditionKey, str]:
            rows = self.result(group, number, split).frames.rows
            return {
                (name, level): NEGATIVE if rows.negative[chosen].any() else POSITIVE
                for name, level, chosen in conditions_of(rows)
            }

        return self._once(("polarities", id(group), number, split), make)

    def clusters(self, group: Group, number: int, split: str) -> tuple[Clusters, str | None]:
        """The clusters of the group's clips, by the sounds of one model's build."""
        run = self._runs[id(group.members[number])]
        return self._once(
            ("clusters", id(group), number, split),
            lambda: clip_clusters(self.result(group, number, split), {} if run is None else run.details),
        )

    def reasons(self, group: Group, pair: tuple[int, int], splits: Sequence[str]) -> list[str]:
        """Why the sources of sounds are not known, where they are not."""
        found = dict.fromkeys(self.clusters(group, pair[0], split)[1] for split in splits)
        return [
            f"differences under borrowed sounds are by source video alone, and too certain where a sound "
            f"serves several clips: {why}"
            for why in found
            if why is not None
        ]

    def terms(self, group: Group, number: int, split: str, protocol: AnyProtocol, of: Conditions) -> ClipTerms:
        """Terms that the clips add to a model's scores under some conditions."""

        def rows() -> SemanticSums | ClipScores:
            result = self.result(group, number, split)
            # From the rows too, which are not kept.
            self.polarities(group, number, split)
            self.clusters(group, number, split)
            found = (
                _sums(result, protocol)
                if isinstance(protocol, SemanticProtocol)
                else clip_scores(result.frames, protocol)
            )
            result.frames.forget_rows()
            release_unused()
            return found

        def make() -> ClipTerms:
            name = ("rows", id(group), number, split, type(protocol))
            found = self._once(name, rows)
            clips = np.arange(len(self.result(group, number, split).clip_ids))
            terms = (
                semantic_terms(found, clips, of) if isinstance(found, SemanticSums) else binary_terms(found, clips, of)
            )
            conditions = self.polarities(group, number, split)
            if not any(is_extended(key) for key in conditions if key not in of.values()):
                # Nobody asks for terms of other conditions.
                del self._found[name]
            return terms

        return self._once(("terms", id(group), number, split, type(protocol), tuple(of.items())), make)

    def resampled(
        self, group: Group, pair: tuple[int, int], split: str, protocol: AnyProtocol, of: Conditions
    ) -> tuple[ResampledScores, ResampledScores]:
        """Both models' scores on the resamples of the rows that both have."""
        terms = [self.terms(group, number, split, protocol, of) for number in pair]
        rows = terms[0].has_row & terms[1].has_row
        clusters = self.clusters(group, pair[0], split)[0].take(np.flatnonzero(rows.any(axis=1)))
        if split not in self._resamplings:
            entropy = int.from_bytes(hashlib.sha256(f"compare {split} {self._seed}".encode()).digest()[:8], "big")
            self._resamplings[split] = Resamplings(self._samples, entropy)
        resampling = self._resamplings[split](clusters)
        key = ("scores", id(group), split, type(protocol), tuple(of.items()), rows.tobytes(), clusters.digest)
        a, b = (
            self._once((*key, number), lambda entry=entry: ResampledScores(entry.only(rows), resampling, of))  # type: ignore[misc]
            for number, entry in zip(pair, terms, strict=True)
        )
        return a, b


def _sums(result: SplitResult, protocol: SemanticProtocol) -> SemanticSums:
    """Semantic sums of a result, which holds classes."""
    if result.classes is None:
        raise ResultsError(f"{result.origin}: holds no classes; expected results of a model that returns classes")
    return semantic_sums(result.classes, result.frames, protocol)
