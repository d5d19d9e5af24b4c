"""Metrics of audio-visual segmentation: pure numpy, no files, no models.

Conventions
    Probabilities are float32 [N, H, W] in [0, 1], targets bool of the same shape. Scores are fractions.
    One clip: `mask_iou`, `f_measure`, `false_positive_rate`. A data set: `frame_statistics` of every frame, gathered in
    `ScoredFrames`, then `dataset_score` under a protocol. Classes: `class_statistics` of every frame beside the same
    `ScoredFrames`, then `semantic_scores` under a semantic protocol.
"""

from avsrobust.metrics.binary import f_measure, false_positive_rate, mask_iou
from avsrobust.metrics.bootstrap import PairedDifference, paired_bootstrap, paired_bootstraps
from avsrobust.metrics.classes import (
    BACKGROUND,
    NUM_CLASSES,
    ClassStatistics,
    background_prediction,
    class_statistics,
    concatenate_classes,
    take_classes,
)
from avsrobust.metrics.clips import ClipScores, activated_area, clip_scores
from avsrobust.metrics.frames import FrameStatistics, concatenate, empty_prediction, frame_statistics, take
from avsrobust.metrics.gscores import CLEAN, NEGATIVES, g_score
from avsrobust.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol, get_protocol
from avsrobust.metrics.scored import ScoredFrames
from avsrobust.metrics.scores import HIGHER_IS_BETTER, ConditionScore, DatasetScore, dataset_score, floors, summarise
from avsrobust.metrics.semantic import (
    ClassScores,
    SemanticScores,
    foreground_iou,
    frame_miou,
    semantic_floors,
    semantic_scores,
)
from avsrobust.metrics.semantic_bootstrap import SemanticSums, paired_semantic_bootstraps, semantic_sums
from avsrobust.metrics.semantic_protocols import SEMANTIC_PROTOCOLS, SemanticProtocol
from avsrobust.metrics.separation import (
    MaskOverlap,
    ThresholdCurve,
    area_auroc,
    auroc,
    mask_overlap,
    threshold_curve,
)

__all__ = [
    "BACKGROUND",
    "CLEAN",
    "DEFAULT_PROTOCOL",
    "HIGHER_IS_BETTER",
    "NEGATIVES",
    "NUM_CLASSES",
    "PROTOCOLS",
    "SEMANTIC_PROTOCOLS",
    "ClassScores",
    "ClassStatistics",
    "ClipScores",
    "ConditionScore",
    "DatasetScore",
    "FrameStatistics",
    "MaskOverlap",
    "PairedDifference",
    "Protocol",
    "ScoredFrames",
    "SemanticProtocol",
    "SemanticScores",
    "SemanticSums",
    "ThresholdCurve",
    "activated_area",
    "area_auroc",
    "auroc",
    "background_prediction",
    "class_statistics",
    "clip_scores",
    "concatenate",
    "concatenate_classes",
    "dataset_score",
    "empty_prediction",
    "f_measure",
    "false_positive_rate",
    "floors",
    "foreground_iou",
    "frame_miou",
    "frame_statistics",
    "g_score",
    "get_protocol",
    "mask_iou",
    "mask_overlap",
    "paired_bootstrap",
    "paired_bootstraps",
    "paired_semantic_bootstraps",
    "semantic_floors",
    "semantic_scores",
    "semantic_sums",
    "summarise",
    "take",
    "take_classes",
    "threshold_curve",
]
