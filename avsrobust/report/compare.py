"""Two models on the same clips: which differences would survive another draw of clips?

Conventions
    Differences are A minus B, with the 95 % interval of a paired bootstrap over the clips both have (`metrics.bootstrap`).
    Scores are fractions in values and in JSON, percent in the text. All statistics are taken from the same resamples.
    What is resampled are clips, with all their frames and conditions. As sounding or not, the protocol's score of each resample
    is a mean over its clips, or a ratio of their sums; by class, the sums per class are taken over its clips and the mean over
    classes from these (`metrics.semantic_bootstrap`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from avsrobust.errors import OptionError, ResultsError
from avsrobust.metrics import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    SEMANTIC_PROTOCOLS,
    PairedDifference,
    SemanticProtocol,
    SemanticSums,
    clip_scores,
    paired_bootstraps,
    paired_semantic_bootstraps,
    semantic_sums,
)
from avsrobust.metrics.bootstrap import CONDITION_STATISTICS, STATISTICS
from avsrobust.report.builds import dataset_title
from avsrobust.report.checks import check_scores
from avsrobust.report.columns import METRICS, MISSING, percent
from avsrobust.report.escape import json_text, markdown, markdown_line, one_line
from avsrobust.report.evaluations import Evaluation, clip_ids_of, evaluation, splits_of
from avsrobust.report.tasks import AnyProtocol, check_protocols, check_task, task_title
from avsrobust.report.text_table import text_table
from avsrobust.results import Scores
from avsrobust.vocabulary import BINARY, CLASS_DATASET, SEMANTIC

DEFAULT_SAMPLES = 10_000


@dataclass(frozen=True)
class SplitComparison:
    """Both models on one split. `common` clips have a scored frame of both, `only_a` and `only_b` of one of them."""

    split: str
    common: int
    only_a: int
    only_b: int
    differences: tuple[PairedDifference, ...]


@dataclass(frozen=True)
class Comparison:
    """Two models under one protocol. `a` and `b` are their names, told apart where they are the same.

    `task` is "semantic" where classes are compared, "binary" where sounding or not is. `release` is that of both, or empty.
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
    """Compare two models on the clips both were scored on, by `task`: "semantic", "binary" or None, the finest that both have.

    Splits without a clip that both were scored on are left out, and noted. Raises `OptionError` for an unknown protocol or
    task, or a protocol that the task does not have; `ResultsError` where the results are of different data sets or releases,
    have no split or clip in common, lack the classes that were asked for, or cannot be true.
    """
    check_protocols([protocol])
    check_task(task)
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
    chosen = _protocol(protocol, of_task)
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
        parts.append(text_table(header, [_row(entry) for entry in split.differences]))
    parts += [f"- {markdown_line(note)}" for note in comparison.notes]
    return "\n\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as JSON; undefined is null."""
    return json_text(asdict(comparison))


def _origin(scores: Scores, otherwise: str) -> str:
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
        f"{split} is left out: only {'A' if split in splits_a else 'B'} was evaluated on it"
        for split in sorted(set(splits_a) ^ set(splits_b))
    ]
    notes += [f"{split} is left out: no clip of it was scored by both" for split in common if split not in shared]
    return shared, notes


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(names))


def _task(a: Scores, b: Scores, asked: str | None) -> str:
    """Return the task to compare by: the one asked for, else the finest that both results have."""
    without = [(scores, name) for scores, name in ((a, "the first"), (b, "the second")) if scores.classes is None]
    if asked == SEMANTIC and without:
        origins = " and ".join(_origin(scores, name) for scores, name in without)
        raise ResultsError(
            f"--task {SEMANTIC}: no classes in {origins}; expected two results of models that return class logits or ids, "
            f"evaluated on {CLASS_DATASET}; --task {BINARY} compares any two as sounding or not"
        )
    return BINARY if without or asked == BINARY else SEMANTIC


def _protocol(name: str, task: str) -> AnyProtocol:
    """Return the task's protocol of a name that one of the tasks has."""
    known: Mapping[str, AnyProtocol] = SEMANTIC_PROTOCOLS if task == SEMANTIC else PROTOCOLS
    if name not in known:
        what = "which scores no classes" if task == SEMANTIC else "which is for classes alone"
        hint = f"; or --task {BINARY}" if task == SEMANTIC else ""
        raise OptionError(f"--protocol: found '{name}', {what}; expected one of {', '.join(known)}{hint}")
    return known[name]


def _split(a: Scores, b: Scores, split: str, protocol: AnyProtocol, samples: int, seed: int) -> SplitComparison:
    clips_a, clips_b = set(clip_ids_of(a, split)), set(clip_ids_of(b, split))
    numbering = sorted(clips_a | clips_b)
    entropy = [seed, int.from_bytes(hashlib.sha256(f"compare {split}".encode()).digest()[:8], "big")]
    generator = np.random.default_rng(entropy)
    entry_a, entry_b = (evaluation(side, split, numbering) for side in (a, b))
    statistics = (*STATISTICS, *CONDITION_STATISTICS)
    if isinstance(protocol, SemanticProtocol):
        sums_a, sums_b = (_sums(entry, protocol) for entry in (entry_a, entry_b))
        differences = paired_semantic_bootstraps(sums_a, sums_b, statistics, samples, generator)
    else:
        scores_a, scores_b = (clip_scores(entry.frames, protocol) for entry in (entry_a, entry_b))
        differences = paired_bootstraps(scores_a, scores_b, statistics, samples, generator)
    return SplitComparison(split, len(clips_a & clips_b), len(clips_a - clips_b), len(clips_b - clips_a), differences)


def _sums(entry: Evaluation, protocol: SemanticProtocol) -> SemanticSums:
    if entry.classes is None:
        raise ResultsError(f"{entry.origin}: holds no classes; expected results of a model that returns classes")
    return semantic_sums(entry.classes, entry.frames, protocol)


def _notes(a: Scores, b: Scores, protocol: AnyProtocol) -> Iterator[str]:
    if isinstance(protocol, SemanticProtocol):
        yield (
            f"mIoU and F are means over classes {protocol.headline}, computed anew from the sums per class of the clips of each "
            "resample"
        )
    elif a.classes is not None or b.classes is not None:
        alone = "" if a.classes is not None and b.classes is not None else ", which only one of the two has,"
        yield f"scored as sounding or not: any class but background is foreground; classes{alone} are not compared"
    if a.info.seed != b.info.seed:
        yield (
            f"the builds' seeds differ ({a.info.seed}, {b.info.seed}): the models heard different noise and other off-screen "
            "sounds, which is part of the difference"
        )
    if a.info.recipe != b.info.recipe:
        recipes = ", ".join(info.recipe or "unknown" for info in (a.info, b.info))
        yield (
            f"the builds' recipes differ ({recipes}): the models heard other negatives, which is part of the difference"
        )
    if a.info.release != b.info.release:
        yield f"only one of the results says of which release of {a.info.dataset} it is: the data may differ"
    yield from dict.fromkeys((*a.info.notes, *b.info.notes))
    yield (
        "p: two-sided share of resamples that turn the sign, for each score by itself; among many scores some are small by chance"
    )


def _row(entry: PairedDifference) -> list[str]:
    label = METRICS[entry.statistic].heading if entry.statistic in METRICS else f"{entry.statistic} ↓"
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
