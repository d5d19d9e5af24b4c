"""Protocols of semantic segmentation: the choices that turn the same pixels per class into the numbers of one paper.

Conventions
    A protocol is data; `avsrobust.metrics.semantic.scores.semantic_scores` reads it. Names are those of the binary protocols
    where the idea is the same. bias_in_avs has no counterpart: that repository scores no classes, and a threshold of 0.4 means
    nothing to the largest of 71 values.
    Every protocol has its means over classes with and without background. One of the two is what tables call mIoU and F:
    with background under avsbench, as published; without it under strict and pooled, where under a negative condition an
    empty prediction must not be credited with an overlap (of backgrounds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from avsrobust.errors import OptionError
from avsrobust.metrics.binary.protocols import check_choices
from avsrobust.vocabulary import BACKGROUND, NUM_CLASSES


@dataclass(frozen=True)
class SemanticProtocol:
    """One way to score classes.

    Attributes:
        name: Name on the command line and in the column `protocol` of every result.
        beta2: Weight of recall in F; above 0.
        classes: The mean over classes divides by "all" 71, absent ones scoring 0, or by the "present" ones.
        background: The class that is left out of means "without background", 0..70.
        headline: The mean that is called mIoU and F: "with background" or "without background".
        average: A class's score is the mean over the "frames" it occurs in, or the ratio of sums over all "pixels".
        padded_to: Clips with fewer frames are scored as if they had so many, the further ones rightly all background; None:
            as they are.
        description: One line for tables.
        source: Paper, repository or file that the choices come from.

    Raises:
        OptionError: A value that is none of these.
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

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.background < NUM_CLASSES:
            raise OptionError(
                f"protocol {self.name}: found background {self.background}; expected a class, 0..{NUM_CLASSES - 1}"
            )


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
