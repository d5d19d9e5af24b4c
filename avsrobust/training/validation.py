"""Validation: the strict G-mIoU of the model in training, on the validation split under all conditions.

Conventions
    The same scoring as ``avsrobust evaluate`` with the protocol `strict`; over several data sets the mean of their G-mIoU.
    Models of classes are scored by their foreground: every class but background. With a limit on the clips, these are spread
    evenly over the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.callbacks import MessageCallback
from avsrobust.errors import OptionError
from avsrobust.evaluation.arrivals import Arrivals, Forms
from avsrobust.evaluation.batches import Batch, LoadedClip, each_batch, load_batch
from avsrobust.evaluation.clip_data import ClipRows, clips_of
from avsrobust.evaluation.scoring import ScoredClip, score_clips
from avsrobust.evaluation.sound import SoundReader
from avsrobust.metrics import ScoredFrames, concatenate, dataset_score, get_protocol
from avsrobust.metrics.dataset_score import DatasetScore
from avsrobust.results import FailedClip
from avsrobust.training.data import TrainingBuild
from avsrobust.vocabulary import NEGATIVE, NEGATIVES

PROTOCOL = "strict"
_BATCH = 8


@dataclass(frozen=True)
class Validation:
    """Scores of one validation.

    Attributes:
        scores: Scores by data set.
    """

    scores: dict[str, DatasetScore]

    @property
    def g_miou(self) -> float:
        """Mean strict G-mIoU over the data sets, in [0, 1]; it decides which checkpoint is best."""
        values = [score.g_miou for score in self.scores.values() if score.g_miou is not None]
        return float(np.mean(values)) if values else 0.0

    def columns(self, dataset: str) -> dict[str, float | None]:
        """Return the numbers of one data set for the log."""
        score = self.scores[dataset]
        by_condition = {entry.condition: entry.miou for entry in score.conditions}
        negatives = {f"{name}_mIoU": by_condition.get(name) for name in NEGATIVES}
        return {"clips": score.clips, "mIoU": score.miou, **negatives, "G_mIoU": score.g_miou, "G_FPR": score.g_fpr}


def validate(
    adapter: Adapter,
    builds: Sequence[TrainingBuild],
    *,
    split: str,
    clips: int,
    device: torch.device,
    vggish: Path | None,
    on_stage: MessageCallback = lambda _text: None,
) -> Validation:
    """Score a model on a split of each build.

    Args:
        adapter: The model.
        builds: The builds.
        split: Split that is scored.
        clips: Most clips per build; 0: all.
        device: Device that the adapter is on.
        vggish: VGGish's weights, for models that take its embedding.
        on_stage: Called with the clip that comes next, for progress.

    Raises:
        OptionError: A build has no clip of the split.
        DataSetError: A clip cannot be read.
        AdapterError: The model fails.
    """
    scored = {}
    for build in builds:
        name = build.manifest.info.dataset
        chosen = _spread(clips_of(build.manifest.select([split]).rows), clips)
        if not chosen:
            raise OptionError(
                f"{build.manifest.path}: has no clip of split '{split}', which decides on the best checkpoint; build it too"
            )
        scored[name] = _score(adapter, build, chosen, device, vggish, on_stage)
    return Validation(scored)


def _score(
    adapter: Adapter,
    build: TrainingBuild,
    clips: Sequence[ClipRows],
    device: torch.device,
    vggish: Path | None,
    on_stage: MessageCallback,
) -> DatasetScore:
    sounds = SoundReader(build.manifest, build.data_root, AudioInput.of(adapter.audio), vggish, device)
    caller = AdapterCaller(adapter, "validation", device)
    arrivals = Arrivals(build.manifest, build.data_root)
    arrivals.forms = Forms.of(adapter)
    arrivals.expect(clips)

    def load(batch: Batch) -> list[LoadedClip | FailedClip]:
        return arrivals.loaded(batch, lambda some: load_batch(some, build.manifest, build.data_root, sounds))

    batches = each_batch(arrivals.awaited(clips), build.manifest, build.data_root, caller.batch_size(_BATCH))
    scored: list[ScoredClip] = []
    on_stage(f"{build.manifest.info.dataset}, {len(clips)} clip{'s' if len(clips) > 1 else ''} to score")
    try:
        for outcome in score_clips(caller, batches, load, as_foreground=True, keep_going=False):
            if isinstance(outcome, ScoredClip):
                scored.append(outcome)
                arrivals.done((outcome.split, outcome.clip_id))
                on_stage(f"{build.manifest.info.dataset}, {len(scored)} of {len(clips)} clips scored")
    finally:
        arrivals.end()
    return dataset_score(_frames(scored), get_protocol(PROTOCOL))


def _frames(clips: Sequence[ScoredClip]) -> ScoredFrames:
    entries = [(number, entry) for number, clip in enumerate(clips) for entry in clip.index]
    return ScoredFrames(
        concatenate([clip.statistics for clip in clips]),
        clip=np.array([number for number, _ in entries]),
        condition=np.array([entry["condition"] for _, entry in entries], dtype=np.str_),
        negative=np.array([entry["polarity"] == NEGATIVE for _, entry in entries]),
        level=np.array([np.nan if entry["level"] is None else entry["level"] for _, entry in entries]),
    )


def _spread(clips: list[ClipRows], limit: int) -> list[ClipRows]:
    if limit == 0 or len(clips) <= limit:
        return clips
    return [clips[position * len(clips) // limit] for position in range(limit)]
