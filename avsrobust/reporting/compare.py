"""Comparison of models on the same clips: does a difference exceed sampling error?

Conventions
    Differences are A minus B, with the 95 % interval of a paired bootstrap over the clips both have (`metrics.comparison`).
    All statistics are taken from the same resamples. A resample draws source videos, and under borrowed sounds also the sounds'
    sources, with all their clips, frames and conditions. Binary: the protocol's score of a resample is a mean over its clips, or
    a ratio of their sums. Semantic: the sums per class are taken over its clips, and the mean over classes from these.
    Of any number of models either all pairs are compared, in the order given, or all others with a reference, which is then B.
    p is corrected by Holm's method over all pairs, data sets and splits of one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avsrobust.errors import OptionError
from avsrobust.metrics import DEFAULT_PROTOCOL, PairedDifference, find_protocol
from avsrobust.metrics.bootstrap import Conditions
from avsrobust.metrics.comparison import Statistic, condition_statistics, difference, g_statistics, holm_by_statistic
from avsrobust.metrics.dataset_score import MEASURES, ConditionKey
from avsrobust.metrics.resampling import ClipTerms
from avsrobust.reporting.columns import condition_columns, is_extended
from avsrobust.reporting.comparison_cache import Cache
from avsrobust.reporting.comparison_model import (
    ChangedClip,
    Comparison,
    Comparisons,
    ConditionComparison,
    SplitComparison,
)
from avsrobust.reporting.comparison_pairs import (
    Group,
    check_pair,
    common_splits,
    groups_of,
    groups_on_common_clips,
    notes_of,
    task_of,
)
from avsrobust.reporting.comparison_text import (
    comparison_json,
    comparisons_json,
    render_comparison,
    render_comparisons,
)
from avsrobust.reporting.escape import one_line
from avsrobust.reporting.loading import load_runs
from avsrobust.reporting.plausibility import check_scores
from avsrobust.reporting.selection import AnyProtocol, check_task, protocol_for
from avsrobust.reporting.split_results import clip_ids_of
from avsrobust.results import Scores

__all__ = [
    "DEFAULT_SAMPLES",
    "ChangedClip",
    "Comparison",
    "Comparisons",
    "ConditionComparison",
    "SplitComparison",
    "compare",
    "compare_models",
    "comparison_json",
    "comparisons_json",
    "render_comparison",
    "render_comparisons",
]

DEFAULT_SAMPLES = 10_000
_LEVEL = 0.05
# The smallest p of n resamples is 2 / (n + 1), and somewhat more over few clusters.
_RESAMPLES_PER_COMPARISON = 200


def compare(
    a: Scores,
    b: Scores,
    protocol: str = DEFAULT_PROTOCOL,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
) -> Comparison:
    """Compare two models on the clips both were scored on. Splits without such a clip are skipped, and noted.

    Args:
        a: Results of one model.
        b: Results of the other.
        protocol: A protocol, named as in `metrics.find_protocol`.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: semantic where both results hold classes.
        negatives: The negative conditions that G averages over (`selection.requested_negatives`); None: the default ones.
        changed: How many of the clips that changed most to list of each split.

    Raises:
        OptionError: An option's value is unknown, or the task does not have the protocol.
        ResultsError: The results are of different data sets, releases or sizes, have no split or clip in common, lack the
            classes that the task needs, or cannot be true.
    """
    return compare_models([a, b], None, protocol, samples, seed, task, negatives, changed).comparisons[0]


def compare_models(
    results: Sequence[Scores],
    reference: str | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    task: str | None = None,
    negatives: Sequence[str] | None = None,
    changed: int = 0,
    common_clips: bool = False,
) -> Comparisons:
    """Compare any number of models, on each data set by itself.

    Args:
        results: Results of two models or more, on one data set or several.
        reference: The model that all others are compared with, as its results name it; None: all pairs are compared.
        protocol: A protocol, named as in `metrics.find_protocol`.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: of each pair semantic where both results hold classes.
        negatives: The negative conditions that G averages over (`selection.requested_negatives`); None: the default ones.
        changed: How many of the clips that changed most to list of each split and pair.
        common_clips: Compare all models of a data set on the clips that all of them were scored on; otherwise each pair on those
            that both were scored on.

    Raises:
        OptionError: An option's value is unknown, or a task does not have the protocol.
        ResultsError: There is no pair to compare, or one whose results do not belong together (see `compare`).
    """
    check_comparison(protocol, samples, task, changed)
    for entry in results:
        check_scores(entry)
    groups, notes = groups_of(results, reference)
    if common_clips:
        groups, left_out = groups_on_common_clips(groups)
        notes += left_out
    request = _Request(protocol, samples, seed, task, negatives, changed)
    members = [scores for group in groups for scores in group.members]
    runs, damaged = load_runs(members)
    cache = Cache(samples, seed, members, runs)
    found = [_pair(group, pair, request, cache) for group in groups for pair in group.pairs]
    notes += [one_line(text) for text in damaged]
    splits = sum(len(comparison.splits) for comparison in found)
    if 2 * splits / (samples + 1) >= _LEVEL:
        notes.append(
            f"{samples} resamples are too few: of {splits} comparisons none can have a corrected p below {_LEVEL}; "
            f"{_RESAMPLES_PER_COMPARISON * splits} or more are enough"
        )
    return Comparisons(reference, tuple(_corrected(found)), tuple(notes))


def check_comparison(protocol: str, samples: int, task: str | None, changed: int) -> None:
    """Raise `OptionError` for arguments of `compare_models` that are wrong whatever the results are."""
    check_task(task)
    find_protocol(protocol)
    if changed < 0:
        raise OptionError(f"--changed: found {changed}; expected 0 or more clips")
    if samples < 1:
        raise OptionError(f"samples: found {samples}; expected at least 1; 10000 is usual")


@dataclass(frozen=True)
class _Request:
    """The options of a comparison."""

    protocol: str
    samples: int
    seed: int
    task: str | None
    negatives: Sequence[str] | None
    changed: int


def _pair(group: Group, pair: tuple[int, int], request: _Request, cache: Cache) -> Comparison:
    """Two models of a group on every split that both have."""
    a, b = (group.members[number] for number in pair)
    check_pair(a, b)
    splits, skipped = common_splits(a, b)
    of_task = task_of(a, b, request.task)
    chosen = protocol_for(request.protocol, of_task)
    found = [_split(group, pair, split, chosen, request, cache) for split in splits]
    return Comparison(
        a=group.names[pair[0]],
        b=group.names[pair[1]],
        dataset=a.info.dataset,
        release=a.info.release if a.info.release == b.info.release else "",
        task=of_task,
        protocol=chosen.name,
        samples=request.samples,
        seed=request.seed,
        splits=tuple(found),
        notes=(*skipped, *notes_of(a, b, chosen), *cache.reasons(group, pair, splits)),
        negatives=cache.negatives(group, request.negatives),
    )


def _split(
    group: Group, pair: tuple[int, int], split: str, protocol: AnyProtocol, request: _Request, cache: Cache
) -> SplitComparison:
    """Two models on one split."""
    clips_a, clips_b = (set(clip_ids_of(group.members[number], split)) for number in pair)
    results = [cache.result(group, number, split) for number in pair]
    conditions, statistics = g_statistics(cache.negatives(group, request.negatives))

    def differences(of: Conditions, names: Sequence[Statistic]) -> tuple[PairedDifference, ...]:
        both = cache.resampled(group, pair, split, protocol, of)
        return tuple(difference(statistic, *both) for statistic in names)

    return SplitComparison(
        split=split,
        common=len(clips_a & clips_b),
        only_a=len(clips_a - clips_b),
        only_b=len(clips_b - clips_a),
        differences=differences(conditions, statistics),
        further=tuple(
            ConditionComparison(*key, polarity, differences(*condition_statistics(prefix, key)))
            for prefix, key, polarity in _further_conditions(
                [cache.polarities(group, number, split) for number in pair], list(conditions.values())
            )
        ),
        changed=_changed(
            [cache.terms(group, number, split, protocol, conditions) for number in pair],
            results[0].clip_ids,
            list(conditions.values()),
            request.changed,
        ),
    )


def _changed(
    terms: Sequence[ClipTerms], clip_ids: Sequence[str], keys: Sequence[ConditionKey], number: int
) -> tuple[ChangedClip, ...]:
    """The clips whose mIoU differs most under any condition, by size of the difference and then by name."""
    if not number:
        return ()
    common = terms[0].has_row & terms[1].has_row
    a, b = (entry.scores_of(entry.terms)[..., MEASURES.index("miou")] for entry in terms)
    gap = np.where(common, np.abs(a - b), np.nan)
    found = []
    for clip in np.flatnonzero(~np.isnan(gap).all(axis=1)).tolist():
        place = int(np.nanargmax(gap[clip]))
        values = float(a[clip, place]), float(b[clip, place])
        found.append(ChangedClip(clip_ids[clip], *keys[place], *values, values[0] - values[1]))
    return tuple(sorted(found, key=lambda entry: (-abs(entry.difference), entry.clip_id))[:number])


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, p corrected over all pairs, data sets and splits of each statistic."""
    groups: list[tuple[PairedDifference, ...]] = []
    for comparison in found:
        for split in comparison.splits:
            groups += [split.differences, *(entry.differences for entry in split.further)]
    corrected = iter(holm_by_statistic(groups))
    return [
        replace(
            comparison,
            splits=tuple(
                replace(
                    split,
                    differences=next(corrected),
                    further=tuple(replace(entry, differences=next(corrected)) for entry in split.further),
                )
                for split in comparison.splits
            ),
        )
        for comparison in found
    ]


def _further_conditions(
    polarities: Sequence[Mapping[ConditionKey, str]], of_g: Sequence[ConditionKey]
) -> list[tuple[str, ConditionKey, str]]:
    """Prefix, key and polarity of the conditions that both results have, beyond clean sound and the negatives."""
    a, b = polarities
    common = [key for key, polarity in a.items() if b.get(key) == polarity and is_extended(key) and key not in of_g]
    return [(prefix, key, a[key]) for key, prefix in condition_columns(common).items()]
