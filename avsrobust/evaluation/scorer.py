"""The adapter of an evaluation and what it takes to score clips with it, in this process.

Conventions
    `evaluation.execution` decides which clips are due and keeps what comes back; a scorer knows the adapter. `LocalScorer` has it
    in this process; `evaluation.cluster` has one in each worker of a cluster, which holds a `LocalScorer`.
    `facts` is called first, then `begin`, then `score`.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from avsrobust import __version__
from avsrobust.adapters.base import VGGISH_OPTION, Adapter, AudioInput, looks_at_frames, sees_targets
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.checksums import load_checksums
from avsrobust.evaluation.adapter_source import source_file
from avsrobust.evaluation.arrivals import Arrivals, Forms
from avsrobust.evaluation.batch_size import choose_batch_size, is_measurable
from avsrobust.evaluation.batches import Batch, LoadedClip, default_readers, each_batch, load_batch
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.consistency import MOST_CLIPS, check_consistency
from avsrobust.evaluation.model_key import make_model_key, remember_state
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scoring import ScoredClip, score_clips
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest
from avsrobust.results import FailedClip

# Clips in a batch of an adapter that looks at no frame: masks are all that they hold, and calls are what takes time.
_MOST_WITHOUT_FRAMES = 8
Outcomes = Generator[ScoredClip | FailedClip, None, None]


@dataclass(frozen=True)
class AdapterFacts:
    """Facts about a loaded adapter, here or in a worker.

    Attributes:
        model_key: Key of the model on the build (`evaluation.model_key`).
        device: Name of its device.
        device_name: Model of the processor or GPU, for people.
        versions: Versions of what scores depend on.
        file: File that defines its class; None: there is none.
        sees_targets: It is given the annotated masks.
    """

    model_key: Mapping[str, Any]
    device: str
    device_name: str
    versions: Mapping[str, str]
    file: Path | None
    sees_targets: bool


@dataclass(frozen=True)
class ScoringChoices:
    """Choices about the scoring of an evaluation's clips.

    Attributes:
        keep_masks: Keep each row's binary masks.
        returns_classes: Whether the adapter returned classes so far; None: not known.
        readouts: Names of the readouts it returned so far; None: not known.
        check: First run a few clips twice and require the same masks.
    """

    keep_masks: bool = False
    returns_classes: bool | None = None
    readouts: tuple[str, ...] | None = None
    check: bool = True


class Scorer(Protocol):
    """Scores clips with one adapter.

    Attributes:
        batch_size: Most clips in a batch.
        remarks: Remarks for people.
    """

    batch_size: int
    remarks: list[str]

    def facts(self, output: Path) -> AdapterFacts:
        """Return the facts about the adapter; `output` is the results folder."""
        ...

    def begin(self, clips: Sequence[ClipRows], choices: ScoringChoices) -> None:
        """Get ready to score; `clips` are the first of those that will be."""
        ...

    def score(self, clips: Sequence[ClipRows], *, any_scored: bool) -> Outcomes:
        """Yield each clip when it is finished; `any_scored` as in `evaluation.scoring.score_clips`."""
        ...

    def end(self, model_key: Mapping[str, Any]) -> None:
        """Take notice that the evaluation is over; `model_key` is the one made before it."""
        ...


class LocalScorer:
    """A `Scorer` whose adapter is in this process.

    Attributes:
        batch_size: Most clips in a batch.
        remarks: Remarks for people.

    Args:
        manifest: The build.
        adapter: The adapter, loaded.
        name: Name of the model in tables.
        data_root: Folder of the data set.
        device: Device that the adapter is on.
        batch_size: Most clips in a batch; None: as many as a GPU's memory holds, else one, or eight where no frame is looked at.
        readers: Threads that read clips; None: by the number of cores.
        checkpoint: File of weights, or None.
        options: The adapter's options.
        score_size: Size of the scored masks; None: that of the mask files.
    """

    def __init__(
        self,
        manifest: Manifest,
        adapter: Adapter,
        *,
        name: str,
        data_root: Path,
        device: torch.device,
        batch_size: int | None = None,
        readers: int | None = None,
        checkpoint: Path | None = None,
        options: Mapping[str, str] | None = None,
        score_size: ScoreSize | None = None,
    ) -> None:
        self.batch_size = batch_size or 1
        self.remarks: list[str] = []
        self._requested = batch_size
        # Read in threads, while the adapter may be in a folder of its own.
        self._build = dataclasses.replace(manifest, path=manifest.path.absolute())
        self._manifest = manifest
        self._adapter = adapter
        self._name = name
        self._data_root = data_root
        self._device = device
        self._readers = default_readers() if readers is None else readers
        self._checkpoint = checkpoint
        self._options = dict(options or {})
        self._score_size = score_size
        self._arrivals = Arrivals(manifest, data_root)

    def facts(self, output: Path) -> AdapterFacts:
        """Return the facts about the adapter; `output` is the results folder."""
        key = make_model_key(
            self._manifest,
            self._adapter,
            name=self._name,
            checkpoint=self._checkpoint,
            options=self._options,
            device=self._device,
            output=output,
            score_size="" if self._score_size is None else str(self._score_size),
        )
        device = self._device
        return AdapterFacts(
            key,
            str(device),
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
            {
                "avsrobust": __version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
            source_file(self._adapter),
            sees_targets(self._adapter),
        )

    def begin(self, clips: Sequence[ClipRows], choices: ScoringChoices) -> None:
        """Check the adapter on some of the clips, and choose the size of batches."""
        self._arrivals.forms = Forms.of(self._adapter)
        self._arrivals.expect(clips)
        vggish = self._options.get(VGGISH_OPTION)
        audio = AudioInput.of(getattr(self._adapter, "audio", None))
        weights = None if vggish is None else Path(vggish).absolute()
        self._sounds = SoundReader(self._build, self._data_root, audio, weights, self._device)
        self._checksums = load_checksums(self._manifest)
        self._keep_masks = choices.keep_masks
        caller = AdapterCaller(self._adapter, self._name, self._device, returns_classes=choices.returns_classes)
        caller.readouts = choices.readouts
        by_memory = self._requested is None and is_measurable(caller)
        few = 1 if looks_at_frames(self._adapter) else _MOST_WITHOUT_FRAMES
        self.batch_size = caller.batch_size(self._requested or (MOST_CLIPS if by_memory else few))
        if choices.check:
            self._arrivals.wait_for(clips[:MOST_CLIPS])
            check_consistency(caller, clips, self._data_root, self._sounds, self.batch_size)
        if by_memory:
            self.batch_size, self.remarks = choose_batch_size(caller, clips, self._load, keep_masks=self._keep_masks)
        self._caller = caller

    def score(self, clips: Sequence[ClipRows], *, any_scored: bool) -> Outcomes:
        """Yield each clip when it is finished; called after `begin`."""
        self._arrivals.expect(clips)
        # Batches of several clips are of one size, which the pictures tell.
        planned = clips if self.batch_size == 1 else self._arrivals.awaited(clips)
        outcomes = score_clips(
            self._caller,
            each_batch(planned, self._build, self._data_root, self.batch_size),
            self._load,
            keep_masks=self._keep_masks,
            any_scored=any_scored,
            readers=self._readers,
        )
        with closing(outcomes):
            for outcome in outcomes:
                self._arrivals.done((outcome.split, outcome.clip_id))
                yield outcome

    def end(self, model_key: Mapping[str, Any]) -> None:
        """Remember the adapter's state before the evaluation, which may have changed it."""
        self._arrivals.end()
        remember_state(self._adapter, model_key, self._device)

    def _load(self, batch: Batch) -> list[LoadedClip | FailedClip]:
        return self._arrivals.loaded(batch, self._read)

    def _read(self, batch: Batch) -> list[LoadedClip | FailedClip]:
        return load_batch(
            batch,
            self._build,
            self._data_root,
            self._sounds,
            self._checksums,
            self._score_size,
            needs_frames=looks_at_frames(self._adapter),
        )
