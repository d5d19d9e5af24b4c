"""The values of a comparison of models: pairs, splits, differences, and the clips that changed most.

Conventions
    Differences are A minus B. Scores are fractions; None is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass

from avsrobust.metrics import PairedDifference
from avsrobust.vocabulary import NEGATIVES


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
class ChangedClip:
    """A clip, and the condition under which the two models' mIoU of it differs most; under the protocol, of the clip alone.

    Attributes:
        clip_id: The clip.
        condition: Name of the condition.
        level: Its level, or None.
        a: mIoU of A.
        b: mIoU of B.
        difference: A - B.
    """

    clip_id: str
    condition: str
    level: float | None
    a: float
    b: float
    difference: float


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
        changed: The clips whose scores differ most, where they were requested.
    """

    split: str
    common: int
    only_a: int
    only_b: int
    differences: tuple[PairedDifference, ...]
    further: tuple[ConditionComparison, ...] = ()
    changed: tuple[ChangedClip, ...] = ()


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
        negatives: The negative conditions that the G scores average over.
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
    negatives: tuple[str, ...] = NEGATIVES


@dataclass(frozen=True)
class Comparisons:
    """Any number of models: pairs on each data set, with p corrected over all of them.

    Attributes:
        reference: The model that all others are compared with; None: all pairs are compared.
        comparisons: The pairs. In each difference `p_holm` is corrected over the pairs and splits of one score.
        notes: Sentences about results that are in no pair, or clips that are left out.
    """

    reference: str | None
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]
