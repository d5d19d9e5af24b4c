"""The protocols: which choices turn the same pixels into the numbers of which paper.

Conventions
    A protocol is data; `clips.clip_scores` reads it. Names are those of the command line and of every result's column
    `protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from avsrobust.errors import OptionError, did_you_mean


@dataclass(frozen=True)
class Protocol:
    """One way to score.

    `threshold`: a pixel is activated where its probability is above it (0.5 or 0.4: the counts that are stored).
    `beta2`: weight of recall in F.
    `f_at`: F at the protocol's threshold, or the largest over the 255 thresholds of the clip's mean F ("best_of_255"; that
    includes threshold 0, at which everything is activated, so no prediction scores 0 on a visible object).
    `empty_targets`: frames whose target is empty are "scored" (IoU: the share that is rightly background; a clip without any
    other frame has F 0), or "left_out" of F, F- and IoU- (not of clean IoU and FPR; a clip without any other frame is
    left out of everything).
    `average`: over the clips' scores, or "pixels": sums over the whole split, then one ratio.
    `source`: where the choices come from.
    """

    name: str
    threshold: float
    beta2: float
    f_at: Literal["best_of_255", "threshold"]
    empty_targets: Literal["scored", "left_out"]
    average: Literal["clips", "pixels"]
    description: str
    source: str


DEFAULT_PROTOCOL = "avsbench"

_BUILT_IN = (
    Protocol(
        name="avsbench",
        threshold=0.5,
        beta2=0.3,
        f_at="best_of_255",
        empty_targets="scored",
        average="clips",
        description="as AVSBench and AVSBench-Robust compute it at batch size 1",
        source="AVSBench-Robust, training_evaluation/code/AVSegFormer/scripts/s4/utility.py and test.py",
    ),
    Protocol(
        name="bias_in_avs",
        threshold=0.4,
        beta2=0.1,
        f_at="best_of_255",
        empty_targets="scored",
        average="clips",
        description="as the AVS code of bias_in_AVS computes it",
        source="bias_in_AVS, AVS/utils/v1m/utility.py",
    ),
    Protocol(
        name="strict",
        threshold=0.5,
        beta2=0.3,
        f_at="threshold",
        empty_targets="left_out",
        average="clips",
        description="no floors: F at one threshold, no credit for frames in which nothing could be found",
        source="avsrobust",
    ),
    Protocol(
        name="pooled",
        threshold=0.5,
        beta2=0.3,
        f_at="threshold",
        empty_targets="scored",
        average="pixels",
        description="sums over the whole split before any ratio, for the foreground class",
        source="CAVP, utils/eval_utils.py, MIoU and ForegroundDetect (which also average over the background class)",
    ),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({protocol.name: protocol for protocol in _BUILT_IN})


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name. Raises `OptionError` for an unknown one.

    >>> get_protocol("strict").f_at
    'threshold'
    """
    if name not in PROTOCOLS:
        raise OptionError(
            f"--protocol: found '{name}'; expected one of {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]
