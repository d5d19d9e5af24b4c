"""Protocols of binary segmentation: the choices that turn the same pixels into the numbers of one paper.

Conventions
    A protocol is data; `avsrobust.metrics.binary.clip_scores.clip_scores` reads it. `avsrobust.metrics.protocols` finds one by
    its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.metrics.binary.counts import check_threshold
from avsrobust.vocabulary import counted


@dataclass(frozen=True)
class Protocol:
    """One way to score foreground against background.

    Attributes:
        name: Name on the command line and in the column `protocol` of every result.
        threshold: A pixel is activated where its probability is above 0.5 or 0.4, or at least k / 254, k = 0..254: the
            thresholds that the stored counts answer (`counts.check_threshold`).
        beta2: Weight of recall in F; above 0.
        f_at: F at the protocol's threshold, or the largest over the 255 thresholds of the clip's mean F ("best_of_255"; that
            includes threshold 0, at which everything is activated, so no prediction scores 0 on a visible object).
        empty_targets: Frames whose target is empty are "scored" (IoU: the share that is rightly background; a clip without
            any other frame has F 0), or "skipped" in F, F- and IoU- (not in clean IoU and FPR; a clip without any other
            frame is skipped altogether).
        average: Over the clips' scores, or "pixels": sums over the whole split, then one ratio.
        description: One line for tables.
        source: Paper, repository or file that the choices come from.
        batch: Clips whose frames are scored together, as the released test does with the clips of one batch: F is the largest
            over the thresholds of the mean over the batch's frames, and the data set's score the mean over batches. Batches
            hold consecutive clips, by their numbers. 1: every clip by itself.
        negative_batch: The same under negative conditions; None: as `batch`.

    Raises:
        OptionError: A threshold that the stored counts do not answer, or a value that is none of the above.
    """

    name: str
    threshold: float
    beta2: float
    f_at: Literal["best_of_255", "threshold"]
    empty_targets: Literal["scored", "skipped"]
    average: Literal["clips", "pixels"]
    description: str
    source: str
    batch: int = 1
    negative_batch: int | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        self._check_batches()
        try:
            check_threshold(self.threshold)
        except OptionError as error:
            raise OptionError(f"protocol {self.name}: {error}") from error

    def batch_under(self, *, negative: bool) -> int:
        """Return the number of clips that are scored together under a positive or a negative condition."""
        return self.batch if self.negative_batch is None or not negative else self.negative_batch

    def _check_batches(self) -> None:
        for name, value in (("batch", self.batch), ("negative_batch", self.negative_batch)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"protocol {self.name}: found {name} {value}; expected a number of clips, at least 1")
        largest = max(self.batch, self.negative_batch or 1)
        if largest > 1 and (self.f_at, self.average) != ("best_of_255", "clips"):
            raise OptionError(
                f"protocol {self.name}: found a batch of {counted(largest, 'clip')}, which changes nothing unless F is the best "
                "of 255 thresholds and clips are averaged; expected batch 1"
            )


def check_choices(protocol: Any) -> None:
    """Raise `OptionError` where a field of a protocol is none of the choices of its type, or `beta2` is not above 0."""
    for name, hint in get_type_hints(type(protocol)).items():
        value, choices = getattr(protocol, name), get_args(hint)
        if get_origin(hint) is Literal and value not in choices:
            raise OptionError(
                f"protocol {protocol.name}: found {name} {value!r}; expected one of {', '.join(choices)}"
                f"{did_you_mean(str(value), choices)}"
            )
    if not 0 < protocol.beta2 < float("inf"):
        raise OptionError(
            f"protocol {protocol.name}: found beta2 {protocol.beta2}; expected a number above 0; the papers use 0.3 or 0.1"
        )


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
        empty_targets="skipped",
        average="clips",
        description="no trivial scores: F at one threshold, no credit for frames in which nothing could be found",
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
    """Return the built-in protocol of that name.

    Raises:
        OptionError: No built-in protocol has this name.

    >>> get_protocol("strict").f_at
    'threshold'
    """
    if name not in PROTOCOLS:
        raise OptionError(
            f"--protocol: found '{name}'; expected one of {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]
