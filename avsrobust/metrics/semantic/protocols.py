"""The protocols of semantic segmentation: which choices turn the same pixels per class into the numbers of which paper.

Conventions
    Names are those of `protocols`, where the idea is the same; both kinds are data. bias_in_avs has no counterpart: that
    repository scores no classes, and a threshold of 0.4 means nothing to the largest of 71 values.
    Every protocol has its means over classes with and without background. One of the two is what tables call mIoU and F:
    with background under avsbench, as published; without it under strict and pooled, where under a negative condition an
    empty prediction must not be credited with an overlap (of backgrounds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from avsrobust.vocabulary import BACKGROUND, NUM_CLASSES


@dataclass(frozen=True)
class SemanticProtocol:
    """One way to score classes.

    `beta2`: weight of recall in F.
    `classes`: the mean over classes divides by "all" 71, absent ones scoring 0, or by the "present" ones.
    `background`: the class that is left out "without background".
    `headline`: which of the two means is called mIoU and F.
    `average`: a class's score is the mean over the "frames" it occurs in, or the ratio of sums over all "pixels".
    `padded_to`: clips with fewer frames are scored as if they had so many, the further ones rightly all background.
    `source`: where the choices come from.
    """

    name: str
    beta2: float
    classes: Literal["all", "present"]
    background: int
    headline: Literal["with background", "without background"]
    average: Literal["frames", "pixels"]
    padded_to: int | None
    description: str
    source: str


_RELEASED = "AVSBench, avs_scripts/avss/test.py and utils/compute_color_metrics.py"

_BUILT_IN = (
    SemanticProtocol(
        name="avsbench",
        beta2=0.3,
        classes="all",
        background=NUM_CLASSES - 1,
        headline="with background",
        average="frames",
        padded_to=None,
        description=(
            "as AVSBench's avss test computes it: per class the mean over the frames in which it is predicted or true, then "
            "over all 71 classes, absent ones scoring 0; 'without background' leaves out the last class, not class 0; "
            "without padded frames"
        ),
        source=_RELEASED,
    ),
    SemanticProtocol(
        name="avsbench_padded",
        beta2=0.3,
        classes="all",
        background=NUM_CLASSES - 1,
        headline="with background",
        average="frames",
        padded_to=10,
        description=(
            "avsbench, and 5-frame clips padded to 10 with frames without a target, as the released loader does; what the "
            "model shows there is taken to be background, which only a run on padded clips could tell"
        ),
        source=f"{_RELEASED}, color_dataloader.py",
    ),
    SemanticProtocol(
        name="strict",
        beta2=0.3,
        classes="present",
        background=BACKGROUND,
        headline="without background",
        average="frames",
        padded_to=None,
        description=(
            "per class the mean over the frames in which it is predicted or true (under a negative condition: true), then "
            "over the classes that have such frames, background (class 0) left out; real frames only"
        ),
        source="avsrobust",
    ),
    SemanticProtocol(
        name="pooled",
        beta2=0.3,
        classes="present",
        background=BACKGROUND,
        headline="without background",
        average="pixels",
        padded_to=None,
        description="per class sums over the whole split before any ratio, then the classes as in strict",
        source="CAVP, utils/eval_utils.py, MIoU (which divides by all classes)",
    ),
)

SEMANTIC_PROTOCOLS: Mapping[str, SemanticProtocol] = MappingProxyType(
    {protocol.name: protocol for protocol in _BUILT_IN}
)
