"""A worker of a dask cluster: the adapter that it has loaded, and what it does with a piece of an evaluation.

Conventions
    Each worker loads the adapter once per evaluation, on a GPU of its own (`evaluation.gpus`), in the working folder of whoever
    started the evaluation, so that relative paths mean the same. Its tasks are done one at a time, whatever its threads.
    All workers must see the same data: each compares names and sizes with the build's before it scores a clip of a split.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from avsrobust.errors import AdapterError, ManifestError, OptionError
from avsrobust.evaluation.clip_data import ClipRows, check_data
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scored_clips import ScoredClip
from avsrobust.evaluation.scorer import AdapterFacts, LocalScorer, ScoringChoices
from avsrobust.manifest import Manifest
from avsrobust.results import FailedClip


@dataclass(frozen=True)
class Job:
    """The arguments from which a worker makes its scorer.

    Attributes:
        manifest: File of the build, or its URL.
        data_root: Folder of the data set, or its URL: each worker copies what it reads.
        output: The results folder.
        spec: Text that names the adapter.
        name: Name of the model in tables.
        device: Name of the device, or "auto".
        batch_size: Most clips in a batch; None: as many as a GPU's memory holds, else one, or eight where no frame is looked at.
        readers: Threads that read clips; None: by the worker's cores.
        checkpoint: File of weights, or its URL, or None.
        options: The adapter's options.
        score_size: Size of the scored masks.
        folder: Working folder.
        number: Differs from job to job.
    """

    manifest: Path | str
    data_root: Path | str
    output: Path
    spec: str
    name: str
    device: str
    batch_size: int | None
    readers: int | None
    checkpoint: Path | str | None
    options: Mapping[str, str]
    score_size: ScoreSize | None
    folder: Path = field(default_factory=Path.cwd)
    number: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class Outcome:
    """The result of a piece, and the worker that it is from."""

    worker: str
    facts: AdapterFacts
    clips: tuple[ScoredClip | FailedClip, ...] = ()
    batch_size: int = 1
    remarks: tuple[str, ...] = ()


# One task at a time, and the scorer of the job that it works on.
_LOCK = threading.Lock()
_LOADED: dict[str, _Loaded] = {}
# Checksum of each adapter's source when it was first imported, by the folder of the job and the adapter's spec.
_SOURCES: dict[tuple[Path, str], object] = {}


@dataclass
class _Loaded:
    """The scorer of a job in this worker; `choices` are those that it has begun with, `splits` those whose data are here."""

    scorer: LocalScorer
    facts: AdapterFacts
    manifest: Manifest
    data_root: Path
    choices: ScoringChoices | None = None
    splits: set[str] = field(default_factory=set)

    def require_data(self, clips: Sequence[ClipRows]) -> None:
        """Check that the data of the splits of some clips are here. Raises `ManifestError`."""
        for split in sorted({clip[0].split for clip in clips} - self.splits):
            try:
                check_data(self.manifest, self.data_root, [split])
            except ManifestError as error:
                raise ManifestError(
                    f"sees other data than the command ({error}); expected data, builds and checkpoints "
                    "under the same paths on all machines; mount them there, or stop that worker; run the same 'evaluate' "
                    "again: finished clips are kept"
                ) from error
            self.splits.add(split)


def describe(job: Job) -> Outcome:
    """Load the adapter of a job; return the facts about it."""
    with _at_work(job) as loaded:
        return _outcome(loaded)


def check(job: Job, clips: Sequence[ClipRows], choices: ScoringChoices) -> Outcome:
    """Check the adapter of a job on some clips, and choose the size of batches."""
    with _at_work(job) as loaded:
        loaded.require_data(clips)
        loaded.scorer.begin(clips, choices)
        loaded.choices = None
        return _outcome(loaded)


def score(job: Job, clips: Sequence[ClipRows], choices: ScoringChoices, any_scored: bool) -> Outcome:
    """Score the clips of a piece; `any_scored` as in `evaluation.scoring.score_clips`."""
    with _at_work(job) as loaded:
        loaded.require_data(clips)
        if loaded.choices != choices:
            loaded.scorer.begin(clips, choices)
            loaded.choices = choices
        with contextlib.closing(loaded.scorer.score(clips, any_scored=any_scored)) as outcomes:
            return _outcome(loaded, tuple(outcomes))


def _outcome(loaded: _Loaded, clips: tuple[ScoredClip | FailedClip, ...] = ()) -> Outcome:
    return Outcome(_address(), loaded.facts, clips, loaded.scorer.batch_size, tuple(loaded.scorer.remarks))


def _address() -> str:
    """Return the address of this worker."""
    from distributed import get_worker

    return str(get_worker().address)


@contextlib.contextmanager
def _at_work(job: Job) -> Iterator[_Loaded]:
    """Yield the scorer of a job, in the job's working folder; another task waits."""
    with _LOCK, _named():
        if not job.folder.is_dir():
            raise OptionError(
                f"{job.folder}: is not there; expected the folder of 'evaluate', data, "
                "builds and checkpoints under the same paths on all machines"
            )
        with contextlib.chdir(job.folder):
            if job.number not in _LOADED:
                # Another job's adapter gives its memory back.
                _LOADED.clear()
                _LOADED[job.number] = _load(job)
            yield _LOADED[job.number]


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Let errors that are of this worker's machine, not of the adapter, name it."""
    try:
        yield
    except (OptionError, ManifestError) as error:
        raise type(error)(f"worker {_address()}: {error}") from error


def _load(job: Job) -> _Loaded:
    import torch

    from avsrobust.adapters.lookup import load_adapter
    from avsrobust.evaluation.gpus import own_gpu
    from avsrobust.evaluation_targets import find_device
    from avsrobust.manifest import load_manifest
    from avsrobust.remote.inputs import local_build, local_data_root, local_place

    manifest = load_manifest(local_build(job.manifest, on_demand=True))
    # Which splits are evaluated shows when clips come.
    data_root = local_data_root(job.data_root, [manifest], on_demand=True, lenient=True)
    checkpoint = local_place(job.checkpoint)
    device = find_device(job.device)
    if device.type == "cuda":
        device = device if device.index is not None else torch.device("cuda", own_gpu())
        torch.cuda.set_device(device)
    adapter = load_adapter(job.spec, checkpoint=checkpoint, device=device, options=job.options)
    scorer = LocalScorer(
        manifest,
        adapter,
        name=job.name,
        data_root=manifest.data_root(data_root),
        device=device,
        batch_size=job.batch_size,
        readers=job.readers,
        checkpoint=checkpoint,
        options=job.options,
        score_size=job.score_size,
    )
    facts = scorer.facts(job.output)
    source = facts.model_key["source_sha256"]
    if _SOURCES.setdefault((job.folder, job.spec), source) != source:
        raise AdapterError(
            f"--adapter {job.spec}: its source has changed since a worker of the cluster imported it; restart the workers"
        )
    return _Loaded(scorer, facts, manifest, manifest.data_root(data_root))
