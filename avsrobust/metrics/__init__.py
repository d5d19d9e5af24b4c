"""Metrics of audio-visual segmentation: pure numpy, no files, no models.

Conventions
    Probabilities are float32 [N, H, W] in [0, 1], targets bool of the same shape. Scores are fractions.
    One clip: `mask_iou`, `f_measure`, `false_positive_rate`. A data set: `frame_statistics` of every frame, gathered in
    `ScoredFrames`, then `dataset_score` under a protocol. Classes: `class_statistics` of the same frames, then `semantic_scores`
    under a semantic protocol.
    `binary/` and `semantic/` hold the two tasks; what both use stands next to them.
"""

from avsrobust.metrics.activation import ActivationScores, activation_scores
from avsrobust.metrics.binary.bootstrap import binary_intervals, paired_bootstrap, paired_bootstraps
from avsrobust.metrics.binary.clip_scores import ClipScores, activated_area, clip_scores
from avsrobust.metrics.binary.counts import FrameStatistics, concatenate, empty_prediction, frame_statistics, take
from avsrobust.metrics.binary.dataset import (
    ceiling_score,
    dataset_score,
    perfect_frames,
    summarise,
    trivial_frames,
    trivial_score,
)
from avsrobust.metrics.binary.frames import ScoredFrames
from avsrobust.metrics.binary.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol, get_protocol
from avsrobust.metrics.binary.scores import f_measure, false_positive_rate, mask_iou
from avsrobust.metrics.bootstrap import PairedDifference
from avsrobust.metrics.dataset_score import HIGHER_IS_BETTER, ConditionKey, ConditionScore, DatasetScore
from avsrobust.metrics.g_score import g_score
from avsrobust.metrics.iiou import InteractiveIou, interactive_iou
from avsrobust.metrics.levels import LevelCurve, level_curves
from avsrobust.metrics.natural import NaturalNegatives, natural_negatives
from avsrobust.metrics.protocols import NamedProtocol, find_protocol, protocol_names
from avsrobust.metrics.semantic.bootstrap import (
    SemanticSums,
    class_intervals,
    paired_semantic_bootstraps,
    semantic_intervals,
    semantic_sums,
)
from avsrobust.metrics.semantic.counts import (
    ClassStatistics,
    background_prediction,
    class_statistics,
    concatenate_classes,
    take_classes,
)
from avsrobust.metrics.semantic.protocols import SEMANTIC_PROTOCOLS, SemanticProtocol
from avsrobust.metrics.semantic.scores import (
    ClassScores,
    SemanticScores,
    semantic_ceiling_scores,
    semantic_scores,
    semantic_trivial_scores,
)
from avsrobust.metrics.separation import (
    MaskOverlap,
    ThresholdCurve,
    area_auroc,
    auroc,
    mask_overlap,
    threshold_curve,
)
from avsrobust.metrics.signature import signature
from avsrobust.vocabulary import BACKGROUND, CLEAN, NEGATIVES, NUM_CLASSES

__all__ = [
    "BACKGROUND",
    "CLEAN",
    "DEFAULT_PROTOCOL",
    "HIGHER_IS_BETTER",
    "NEGATIVES",
    "NUM_CLASSES",
    "PROTOCOLS",
    "SEMANTIC_PROTOCOLS",
    "ActivationScores",
    "ClassScores",
    "ClassStatistics",
    "ClipScores",
    "ConditionKey",
    "ConditionScore",
    "DatasetScore",
    "FrameStatistics",
    "InteractiveIou",
    "LevelCurve",
    "MaskOverlap",
    "NamedProtocol",
    "NaturalNegatives",
    "PairedDifference",
    "Protocol",
    "ScoredFrames",
    "SemanticProtocol",
    "SemanticScores",
    "SemanticSums",
    "ThresholdCurve",
    "activated_area",
    "activation_scores",
    "area_auroc",
    "auroc",
    "background_prediction",
    "binary_intervals",
    "ceiling_score",
    "class_intervals",
    "class_statistics",
    "clip_scores",
    "concatenate",
    "concatenate_classes",
    "dataset_score",
    "empty_prediction",
    "f_measure",
    "false_positive_rate",
    "find_protocol",
    "frame_statistics",
    "g_score",
    "get_protocol",
    "interactive_iou",
    "level_curves",
    "mask_iou",
    "mask_overlap",
    "natural_negatives",
    "paired_bootstrap",
    "paired_bootstraps",
    "paired_semantic_bootstraps",
    "perfect_frames",
    "protocol_names",
    "semantic_ceiling_scores",
    "semantic_intervals",
    "semantic_scores",
    "semantic_sums",
    "semantic_trivial_scores",
    "signature",
    "summarise",
    "take",
    "take_classes",
    "threshold_curve",
    "trivial_frames",
    "trivial_score",
]
