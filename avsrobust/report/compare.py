"""Two models on the same clips: which differences would survive another draw of clips?

Conventions
    Differences are A minus B, with the 95 % interval of a paired bootstrap over the clips both have (`metrics.bootstrap`).
    Scores are fractions in values and in JSON, percent in the text. All statistics are taken from the same resamples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from avsrobust.errors import ResultsError
from avsrobust.metrics import DEFAULT_PROTOCOL, PairedDifference, Protocol, clip_scores, get_protocol, paired_bootstraps
from avsrobust.metrics.bootstrap import CONDITION_STATISTICS, STATISTICS
from avsrobust.report.columns import METRICS, MISSING, percent
from avsrobust.report.evaluations import clip_ids_of, evaluation, splits_of
from avsrobust.report.text_table import text_table
from avsrobust.results import Scores

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
    """Two models under one protocol. `a` and `b` are their names, told apart where they are the same."""

    a: str
    b: str
    dataset: str
    protocol: str
    samples: int
    seed: int
    splits: tuple[SplitComparison, ...]
    notes: tuple[str, ...]


def compare(
    a: Scores, b: Scores, protocol: str = DEFAULT_PROTOCOL, samples: int = DEFAULT_SAMPLES, seed: int = 0
) -> Comparison:
    """Compare two models on the clips both were scored on.

    Raises `OptionError` for an unknown protocol, `ResultsError` where the results are of different data sets or splits, or
    have no clip in common.
    """
    chosen = get_protocol(protocol)
    origin_a, origin_b = _origin(a, "the first"), _origin(b, "the second")
    if a.info.dataset != b.info.dataset:
        raise ResultsError(
            f"{origin_b}: is of data set {b.info.dataset}, {origin_a} of {a.info.dataset}; expected results of one data set"
        )
    splits = splits_of(a)
    if splits != splits_of(b):
        raise ResultsError(
            f"{origin_b}: has split {', '.join(splits_of(b))}, {origin_a} {', '.join(splits)}; expected the same splits; "
            "evaluate both on the same ones"
        )
    names = (a.info.model, b.info.model)
    if names[0] == names[1]:
        names = (f"{names[0]} ({origin_a})", f"{names[1]} ({origin_b})")
    return Comparison(
        a=names[0],
        b=names[1],
        dataset=a.info.dataset,
        protocol=chosen.name,
        samples=samples,
        seed=seed,
        splits=tuple(_split(a, b, split, chosen, samples, seed) for split in splits),
        notes=tuple(_notes(a, b)),
    )


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables; a difference whose interval does not hold 0 is bold."""
    parts = [
        f"A: {comparison.a}\nB: {comparison.b}\n"
        f"{comparison.dataset}, protocol {comparison.protocol}, {comparison.samples} resamples of clips, in percent"
    ]
    for split in comparison.splits:
        only = f"; {split.only_a} only in A, {split.only_b} only in B" if split.only_a or split.only_b else ""
        parts.append(f"{split.split}: {split.common} common clips{only}")
        header = ["score", "A", "B", "A - B", "95 % interval", "p"]
        parts.append(text_table(header, [_row(entry) for entry in split.differences]))
    parts += [f"- {note}" for note in comparison.notes]
    return "\n\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as JSON; undefined is null."""
    return json.dumps(asdict(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _origin(scores: Scores, otherwise: str) -> str:
    return otherwise if scores.source is None else str(scores.source)


def _split(a: Scores, b: Scores, split: str, protocol: Protocol, samples: int, seed: int) -> SplitComparison:
    clips_a, clips_b = set(clip_ids_of(a, split)), set(clip_ids_of(b, split))
    if not clips_a & clips_b:
        raise ResultsError(
            f"{_origin(b, 'the second')}: has no scored clip of split {split} in common with {_origin(a, 'the first')}; "
            "expected results on the same data; evaluate both on one manifest"
        )
    numbering = sorted(clips_a | clips_b)
    scores_a, scores_b = (clip_scores(evaluation(side, split, numbering).frames, protocol) for side in (a, b))
    entropy = [seed, int.from_bytes(hashlib.sha256(f"compare {split}".encode()).digest()[:8], "big")]
    differences = paired_bootstraps(
        scores_a, scores_b, (*STATISTICS, *CONDITION_STATISTICS), samples, np.random.default_rng(entropy)
    )
    return SplitComparison(split, len(clips_a & clips_b), len(clips_a - clips_b), len(clips_b - clips_a), differences)


def _notes(a: Scores, b: Scores) -> Iterator[str]:
    if a.classes is not None or b.classes is not None:
        yield "scored as sounding or not: any class but background is foreground; classes are not compared"
    if a.info.seed != b.info.seed:
        yield (
            f"the builds' seeds differ ({a.info.seed}, {b.info.seed}): the models heard different noise and other off-screen "
            "sounds, which is part of the difference"
        )
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
