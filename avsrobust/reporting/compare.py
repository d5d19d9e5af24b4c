"""Comparison of two models on the same clips: does a difference exceed sampling error?

Conventions
    Differences are A minus B, with the 95 % interval of a paired bootstrap over the clips both have (`metrics.bootstrap`).
    Scores are fractions in values and in JSON, percent in the text. All statistics are taken from the same resamples.
    A resample draws clips, with all their frames and conditions. Binary: the protocol's score of a resample is a mean over its
    clips, or a ratio of their sums. Semantic: the sums per class are taken over its clips, and the mean over classes from these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from avsrobust.errors import ResultsError
from avsrobust.metrics import (
    DEFAULT_PROTOCOL,
    PairedDifference,
    SemanticProtocol,
    SemanticSums,
    clip_scores,
    find_protocol,
    paired_bootstraps,
    paired_semantic_bootstraps,
    semantic_sums,
)
from avsrobust.metrics.bootstrap import CONDITION_STATISTICS, G_CONDITIONS, STATISTICS, Conditions, statistics_of
from avsrobust.metrics.dataset_score import ConditionKey, conditions_of
from avsrobust.reporting.columns import (
    MEASURES,
    METRICS,
    MISSING,
    condition_columns,
    condition_title,
    is_extended,
    percent,
)
from avsrobust.reporting.escape import json_text, markdown, markdown_line, one_line, text_table
from avsrobust.reporting.naming import dataset_title, task_title
from avsrobust.reporting.plausibility import check_scores
from avsrobust.reporting.selection import AnyProtocol, check_task, protocol_for
from avsrobust.reporting.split_results import SplitResult, clip_ids_of, split_result, splits_of
from avsrobust.results import Scores
from avsrobust.vocabulary import BINARY, CLASS_DATASET, NEGATIVE, POSITIVE, SEMANTIC

DEFAULT_SAMPLES = 10_000


@dataclass(frozen=True)
class ConditionComparison:
    """Both models under one condition beyond those of the G scores.

    Attributes:
        condition: Name of the condition.
        level: Its level in dB, or None.
        polarity: "positive" or "negative".
        differences: Differences of mIoU, F and FPR, named as the columns of the report.
    """

    condition: str
    level: float | None
    polarity: str
    differences: tuple[PairedDifference, ...]


@dataclass(frozen=True)
class SplitComparison:
    """Both models on one split.

    Attributes:
        split: The split.
        common: Clips with a scored frame of both.
        only_a: Clips with a scored frame of A alone.
        only_b: Clips with a scored frame of B alone.
        differences: Differences of the scores of the G scores' conditions.
        further: Differences under each further condition that both were scored under.
    """

    split: str
    common: int
    only_a: int
    only_b: int
    differences: tuple[PairedDifference, ...]
    further: tuple[ConditionComparison, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two models under one protocol.

    Attributes:
        a: Name of one model.
        b: Name of the other; the two are told apart where they are the same.
        dataset: Data set.
        release: Release of both; empty where not both say it.
        task: "semantic" or "binary".
        protocol: Name of the protocol.
        samples: Resamples.
        seed: Seed of the resamples.
        splits: The comparison on each split.
        notes: Sentences to know before quoting a difference.
    """

    a: str
    b: str
    dataset: str
    release: str
    task: str
    protocol: str
    samples: int
    seed: int
    splits: tuple[SplitComparison, ...]
    notes: tuple[str, ...]


def compare(
    a: Scores,
    b: Scores,
    protocol: str = DEFAULT_PROTOCOL,
    samples: int = DEFAULT_SAMPLES,
    seed: int = 0,
    task: str | None = None,
) -> Comparison:
    """Compare two models on the clips both were scored on. Splits without such a clip are skipped, and noted.

    Args:
        a: Results of one model.
        b: Results of the other.
        protocol: A protocol, named as in `metrics.find_protocol`.
        samples: Number of resamples.
        seed: Seed of the resamples.
        task: "semantic", "binary", or None: semantic where both results hold classes.

    Raises:
        OptionError: The protocol or task is unknown, or the task does not have the protocol.
        ResultsError: The results are of different data sets or releases, have no split or clip in common, lack the classes
            that the task needs, or cannot be true.
    """
    check_task(task)
    find_protocol(protocol)
    check_scores(a)
    check_scores(b)
    origin_a, origin_b = _origin(a, "the first"), _origin(b, "the second")
    if a.info.dataset != b.info.dataset:
        raise ResultsError(
            f"{origin_b}: is of data set {one_line(b.info.dataset)}, {origin_a} of {one_line(a.info.dataset)}; "
            "expected results of one data set"
        )
    if a.info.release and b.info.release and a.info.release != b.info.release:
        raise ResultsError(
            f"{origin_b}: is of the {one_line(b.info.release)} release of {one_line(b.info.dataset)}, {origin_a} of the "
            f"{one_line(a.info.release)} release, "
            "whose pictures and masks are others; expected results on one release; evaluate both on builds of the same data"
        )
    splits, skipped = _common_splits(a, b)
    of_task = _task(a, b, task)
    chosen = protocol_for(protocol, of_task)
    names = (a.info.model, b.info.model)
    if names[0] == names[1]:
        names = (f"{names[0]} ({origin_a})", f"{names[1]} ({origin_b})")
    return Comparison(
        a=names[0],
        b=names[1],
        dataset=a.info.dataset,
        release=a.info.release if a.info.release == b.info.release else "",
        task=of_task,
        protocol=chosen.name,
        samples=samples,
        seed=seed,
        splits=tuple(_split(a, b, split, chosen, samples, seed) for split in splits),
        notes=(*skipped, *_notes(a, b, chosen)),
    )


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables; a difference whose interval does not hold 0 is bold."""
    data = markdown_line(dataset_title(comparison.dataset, comparison.release))
    parts = [
        f"A: {markdown(comparison.a)}\nB: {markdown(comparison.b)}\n"
        f"{data}, protocol {comparison.protocol}{task_title(comparison.task, comparison.dataset)}, "
        f"{comparison.samples} resamples of clips, in percent"
    ]
    for split in comparison.splits:
        only = f"; {split.only_a} only in A, {split.only_b} only in B" if split.only_a or split.only_b else ""
        parts.append(f"{markdown_line(split.split)}: {split.common} common clips{only}")
        header = ["score", "A", "B", "A - B", "95 % interval", "p"]
        parts.append(text_table(header, [_row(_heading(entry), entry) for entry in split.differences]))
        if split.further:
            parts.append(f"{markdown_line(split.split)}: under further conditions")
            parts.append(text_table(["condition", *header], list(_further_rows(split)), numeric_from=2))
    parts += [f"- {markdown_line(note)}" for note in comparison.notes]
    return "\n\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as JSON; undefined is null. A split has `further` where it has further conditions."""
    content = asdict(comparison)
    for split in content["splits"]:
        if not split["further"]:
            del split["further"]
    return json_text(content)


def _origin(scores: Scores, otherwise: str) -> str:
    """The results' file, for messages."""
    return otherwise if scores.source is None else one_line(str(scores.source))


def _common_splits(a: Scores, b: Scores) -> tuple[list[str], list[str]]:
    """Return the splits with a clip that both were scored on, and a note on each of the others. Raises `ResultsError`."""
    names = (_origin(a, "the first"), _origin(b, "the second"))
    splits_a, splits_b = splits_of(a), splits_of(b)
    for name, splits in zip(names, (splits_a, splits_b), strict=True):
        if not splits:
            raise ResultsError(f"{name}: found no scored frame in it; expected results to compare; evaluate again")
    common = [split for split in splits_a if split in splits_b]
    if not common:
        raise ResultsError(
            f"{names[1]}: has split {_listed(splits_b)}, {names[0]} {_listed(splits_a)}; expected the same splits, or one that "
            "both have; evaluate both on the same ones"
        )
    shared = [split for split in common if set(clip_ids_of(a, split)) & set(clip_ids_of(b, split))]
    if not shared:
        raise ResultsError(
            f"{names[1]}: has no scored clip of split {_listed(common)} in common with {names[0]}; "
            "expected results on the same data; evaluate both on one manifest"
        )
    notes = [
        f"{split} is skipped: only {'A' if split in splits_a else 'B'} was evaluated on it"
        for split in sorted(set(splits_a) ^ set(splits_b))
    ]
    notes += [f"{split} is skipped: no clip of it was scored by both" for split in common if split not in shared]
    return shared, notes


def _listed(names: Sequence[str]) -> str:
    """Names on one line."""
    return one_line(", ".join(names))


def _task(a: Scores, b: Scores, requested: str | None) -> str:
    """The requested task; otherwise semantic where both results hold classes, else binary."""
    without = [(scores, name) for scores, name in ((a, "the first"), (b, "the second")) if scores.classes is None]
    if requested == SEMANTIC and without:
        origins = " and ".join(_origin(scores, name) for scores, name in without)
        raise ResultsError(
            f"--task {SEMANTIC}: no classes in {origins}; expected two results of models that return class logits or ids, "
            f"evaluated on {CLASS_DATASET}; --task {BINARY} compares any two as binary segmentation"
        )
    return BINARY if without or requested == BINARY else SEMANTIC


def _split(a: Scores, b: Scores, split: str, protocol: AnyProtocol, samples: int, seed: int) -> SplitComparison:
    """Both models on one split."""
    clips_a, clips_b = set(clip_ids_of(a, split)), set(clip_ids_of(b, split))
    numbering = sorted(clips_a | clips_b)
    results = (split_result(a, split, numbering), split_result(b, split, numbering))
    entropy = [seed, int.from_bytes(hashlib.sha256(f"compare {split}".encode()).digest()[:8], "big")]

    def differences(statistics: Sequence[str], conditions: Conditions) -> tuple[PairedDifference, ...]:
        # The same draws for every group of conditions, as long as it has the same clips.
        generator = np.random.default_rng(entropy)
        if isinstance(protocol, SemanticProtocol):
            sums_a, sums_b = (_sums(result, protocol) for result in results)
            return paired_semantic_bootstraps(sums_a, sums_b, statistics, samples, generator, conditions)
        scores_a, scores_b = (clip_scores(result.frames, protocol) for result in results)
        return paired_bootstraps(scores_a, scores_b, statistics, samples, generator, conditions)

    return SplitComparison(
        split=split,
        common=len(clips_a & clips_b),
        only_a=len(clips_a - clips_b),
        only_b=len(clips_b - clips_a),
        differences=differences((*STATISTICS, *CONDITION_STATISTICS), G_CONDITIONS),
        further=tuple(
            ConditionComparison(*key, polarity, differences(list(statistics_of({prefix: key})), {prefix: key}))
            for prefix, key, polarity in _further_conditions(*results)
        ),
    )


def _further_conditions(a: SplitResult, b: SplitResult) -> list[tuple[str, ConditionKey, str]]:
    """Prefix, key and polarity of the conditions beyond those of the G scores that both results have."""
    keys_a, keys_b = (_polarities(result) for result in (a, b))
    common = [key for key, polarity in keys_a.items() if keys_b.get(key) == polarity and is_extended(key)]
    return [(prefix, key, keys_a[key]) for key, prefix in condition_columns(common).items()]


def _polarities(result: SplitResult) -> dict[ConditionKey, str]:
    """Polarity of each condition of a result."""
    rows = result.frames.rows
    return {
        (name, level): NEGATIVE if rows.negative[chosen].any() else POSITIVE
        for name, level, chosen in conditions_of(rows)
    }


def _sums(result: SplitResult, protocol: SemanticProtocol) -> SemanticSums:
    """Semantic sums of a result, which holds classes."""
    if result.classes is None:
        raise ResultsError(f"{result.origin}: holds no classes; expected results of a model that returns classes")
    return semantic_sums(result.classes, result.frames, protocol)


def _notes(a: Scores, b: Scores, protocol: AnyProtocol) -> Iterator[str]:
    """Sentences to know before quoting a difference."""
    if isinstance(protocol, SemanticProtocol):
        yield (
            f"mIoU and F are means over classes {protocol.headline}, computed anew from the sums per class of the clips of each "
            "resample"
        )
    elif a.classes is not None or b.classes is not None:
        alone = "" if a.classes is not None and b.classes is not None else ", which only one of the two has,"
        yield f"scored as binary segmentation: any class but background is foreground; classes{alone} are not compared"
    if a.info.seed != b.info.seed:
        yield (
            f"the builds' seeds differ ({a.info.seed}, {b.info.seed}): the models were given different noise and other "
            "off-screen audio, which is part of the difference"
        )
    if a.info.recipe != b.info.recipe:
        recipes = ", ".join(info.recipe or "unknown" for info in (a.info, b.info))
        yield (
            f"the builds' recipes differ ({recipes}): the models were given other negatives, which is part of the difference"
        )
    if a.info.release != b.info.release:
        yield f"only one of the results says of which release of {a.info.dataset} it is: the data may differ"
    yield from dict.fromkeys((*a.info.notes, *b.info.notes))
    yield (
        "p: two-sided share of resamples that turn the sign, for each score by itself; among many scores some are small by chance"
    )


def _heading(entry: PairedDifference) -> str:
    """A statistic for people, with the arrow towards better values."""
    return METRICS[entry.statistic].heading if entry.statistic in METRICS else f"{entry.statistic} ↓"


def _further_rows(split: SplitComparison) -> Iterator[list[str]]:
    """Rows of the further conditions; FPR only under negative ones, as a mask is right under the others."""
    for condition in split.further:
        title = markdown(condition_title(condition.condition, condition.level))
        negative = condition.polarity == NEGATIVE
        for measure, entry in zip(MEASURES, condition.differences, strict=True):
            if negative or measure != "FPR":
                yield [title, *_row(f"{measure} {'↓' if negative else '↑'}", entry)]


def _row(label: str, entry: PairedDifference) -> list[str]:
    """Cells of one difference, in percent."""
    if entry.difference is None:
        return [label, MISSING, MISSING, MISSING, MISSING, MISSING]
    interval, p = MISSING, MISSING
    difference = f"{100 * entry.difference:+.2f}"
    if entry.low is not None and entry.high is not None:
        interval = f"[{100 * entry.low:+.2f}, {100 * entry.high:+.2f}]"
        if entry.low > 0 or entry.high < 0:
            difference = f"**{difference}**"
    if entry.p is not None:
        p = f"{entry.p:.4f}"
    return [label, percent(entry.a), percent(entry.b), difference, interval, p]
