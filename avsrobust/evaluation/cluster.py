"""Evaluating on a dask cluster: an adapter in each worker, and clips that go to whichever is free.

Conventions
    Clips go out in pieces, and at most `_AHEAD` pieces per worker are under way. Dask runs the pieces of a worker that dies again
    on another one; scores do not depend on who scored a clip, nor on the order in which pieces come back.
    Each worker loads the adapter once per evaluation, on a GPU of its own (`evaluation.gpus`), in the working folder of whoever
    started the evaluation, so that relative paths mean the same. Its tasks are done one at a time, whatever its threads.
    All workers must see the same data: each compares names and sizes with the build's before it scores a clip of a split.
    All workers must load the same adapter: each piece comes with the facts about the one that scored it, and another model key,
    type of device or version is refused. The adapter is loaded in the workers only.
    The errors are those of `evaluation.scoring`; the first piece decides whether the adapter fails on everything.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from avsrobust.dask_client import distributed_library
from avsrobust.errors import AdapterError, ManifestError, OptionError
from avsrobust.evaluation.clip_data import ClipRows, check_data
from avsrobust.evaluation.model_key import differences
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scored_clips import ScoredClip
from avsrobust.evaluation.scorer import AdapterFacts, LocalScorer, Outcomes, ScoringChoices
from avsrobust.manifest import Manifest
from avsrobust.remote import address_of, is_remote
from avsrobust.results import FailedClip
from avsrobust.vocabulary import counted

# Pieces under way per worker: one is scored, and the next one is there when it is done.
_AHEAD = 2
_MOST_CLIPS = 64
_PIECES_PER_WORKER = 4
_POLL_SECONDS = 1.0
# Without any worker for so long, an evaluation ends; what is finished is kept.
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class ClusterAdapter:
    """An adapter that the workers of a cluster load.

    Attributes:
        client: A client of the cluster (`avsrobust.dask_client.connect`).
        spec: Name, ``package.module:Class`` or ``file.py:Class`` of the adapter.
        device: "auto", "cpu", "cuda" or "cuda:N", of each worker.
    """

    client: Any
    spec: str
    device: str = "auto"


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
class _Outcome:
    """The result of a piece, and the worker that it is from."""

    worker: str
    facts: AdapterFacts
    clips: tuple[ScoredClip | FailedClip, ...] = ()
    batch_size: int = 1
    remarks: tuple[str, ...] = ()


class ClusterScorer:
    """A `evaluation.scorer.Scorer` whose adapters are in the workers of a cluster.

    Attributes:
        batch_size: Most clips in a batch, of any worker.
        remarks: Remarks for people.

    Args:
        adapter: The adapter.
        job: The arguments of the workers' scorers.
    """

    def __init__(self, adapter: ClusterAdapter, job: Job) -> None:
        self.batch_size = job.batch_size or 1
        self.remarks: list[str] = []
        self._client = adapter.client
        self._job = replace(
            job,
            manifest=_place(job.manifest),
            data_root=_place(job.data_root),
            checkpoint=None if job.checkpoint is None else _place(job.checkpoint),
        )
        self._library = distributed_library()
        self._facts: AdapterFacts | None = None
        self._choices = ScoringChoices()
        self._forms: dict[str, tuple[object, str]] = {}
        self._most_workers = 0
        # Of each worker: clips that failed, and all.
        self._failures: dict[str, tuple[int, int]] = {}

    def facts(self, output: Path) -> AdapterFacts:
        """Load the adapter in some worker, and return the facts about it."""
        self._job = replace(self._job, output=output.absolute())
        self._facts = self._one(_describe, self._job).facts
        return self._facts

    def begin(self, clips: Sequence[ClipRows], choices: ScoringChoices) -> None:
        """Let a worker check the adapter on some of the clips."""
        self._choices = replace(choices, check=False)
        if choices.check:
            self._take(self._one(_check, self._job, list(clips[:_MOST_CLIPS]), choices))

    def score(self, clips: Sequence[ClipRows], *, any_scored: bool) -> Outcomes:
        """Yield each clip when its piece is finished."""
        # The first piece decides whether the adapter fails on everything, as the first clips do elsewhere.
        waiting = deque(
            (piece, any_scored or number > 0)
            for number, piece in enumerate(_pieces(clips, self._piece_size(len(clips))))
        )
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * max(1, self._workers()):
                    piece, scored = waiting.popleft()
                    running[self._submit(_score, self._job, piece, self._choices, scored)] = len(piece)
                for future in self._finished(list(running)):
                    clips_of_piece = running.pop(future)
                    outcome = self._result(future, clips_of_piece)
                    self._take(outcome)
                    yield from self._checked(outcome)
            if len(self._failures) > 1 and any(failed for failed, _ in self._failures.values()):
                named = ", ".join(
                    f"{failed} of {count} on {name}" for name, (failed, count) in sorted(self._failures.items())
                )
                self.remarks.append(f"clips that failed, by worker: {named}")
        finally:
            for future in running:
                with contextlib.suppress(Exception):
                    future.cancel()

    def end(self, model_key: Mapping[str, Any]) -> None:
        """Let go of the adapters in the workers, as they become free."""

    def _one(self, function: Callable[..., _Outcome], *arguments: object) -> _Outcome:
        self._workers()
        future = self._submit(function, *arguments)
        try:
            while not self._finished([future]):
                pass
            return self._result(future, 0)
        finally:
            with contextlib.suppress(Exception):
                future.cancel()

    def _submit(self, function: Callable[..., _Outcome], *arguments: object) -> Any:
        # pure=False: never to be answered from the cluster's memory of an earlier evaluation.
        return self._client.submit(function, *arguments, pure=False)

    def _finished(self, futures: Sequence[Any]) -> list[Any]:
        """Wait until some futures are done, or a while; return those that are.

        Raises:
            OptionError: There has been no worker for long.
        """
        began = time.monotonic()
        while time.monotonic() - began < _PATIENCE_SECONDS:
            try:
                done = self._library.wait(futures, timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED").done
                return [future for future in futures if future in done]
            except TimeoutError:
                if self._workers():
                    began = time.monotonic()
            # Some future was given up by the cluster: asking for its result raises the reason.
            except CancelledError:
                return [future for future in futures if future.done() or future.cancelled()]
        raise OptionError(
            f"--scheduler: the cluster has had no worker for {_PATIENCE_SECONDS:.0f} s{self._before()}; start 'dask worker' "
            "processes with its address; run the same 'evaluate' again: finished clips are kept"
        )

    def _result(self, future: Any, clips: int) -> _Outcome:
        try:
            outcome: _Outcome = future.result()
        except self._library.KilledWorker as error:
            what = f"a piece of {counted(clips, 'clip')}" if clips else "loading it"
            raise AdapterError(
                f"{self._job.name}: {what} ended every worker that tried it "
                f"({' '.join(str(error).split())[:300]}); expected workers that outlive it: look at their logs and memory; "
                "finished clips are kept"
            ) from error
        except (CancelledError, OSError) as error:
            raise OptionError(
                f"--scheduler: the cluster gave the work up ({' '.join(str(error).split())[:300] or type(error).__name__}); "
                "start it again, and run the same 'evaluate' again: finished clips are kept"
            ) from error
        return outcome

    def _before(self) -> str:
        """Return what to look for where there were workers before."""
        if not self._most_workers:
            return ""
        return (
            f" ({self._most_workers} before: see their logs; one without this version of avsrobust ends as soon as it is given "
            "work)"
        )

    def _workers(self) -> int:
        try:
            count = len(self._client.nthreads())
        except (OSError, TimeoutError):
            return 0
        self._most_workers = max(self._most_workers, count)
        return count

    def _piece_size(self, clips: int) -> int:
        """Return the number of clips in a piece: all workers get several, and batches stay whole."""
        even = -(-clips // (_PIECES_PER_WORKER * max(1, self._workers())))
        size = max(1, min(_MOST_CLIPS, even))
        batch = self._job.batch_size or 1
        return -(-size // batch) * batch

    def _take(self, outcome: _Outcome) -> None:
        """Check that a worker has the adapter that the others have, and keep its remarks."""
        self.batch_size = max(self.batch_size, outcome.batch_size)
        self.remarks += [remark for remark in outcome.remarks if remark not in self.remarks]
        first, other = self._facts, outcome.facts
        if first is None:
            return
        found = differences(first.model_key, other.model_key)
        kinds = [facts.device.partition(":")[0] for facts in (first, other)]
        if kinds[0] != kinds[1]:
            found.append(f"type of device ({kinds[0]} there, {kinds[1]} here; name one with --device)")
        found += [
            f"version of {name} ({first.versions.get(name)} there, {version} here)"
            for name, version in other.versions.items()
            if name != "python" and first.versions.get(name) != version
        ]
        if found:
            raise AdapterError(
                f"worker {outcome.worker}: has another adapter, build or surroundings than the first worker; different are: "
                f"{'; '.join(found)}; expected the same files and versions on all machines; restart workers after a change"
            )

    def _checked(self, outcome: _Outcome) -> Iterator[ScoredClip | FailedClip]:
        """Yield the clips of a piece, of which those scored have the form of all others."""
        failed, count = self._failures.get(outcome.worker, (0, 0))
        failed += sum(isinstance(clip, FailedClip) for clip in outcome.clips)
        self._failures[outcome.worker] = failed, count + len(outcome.clips)
        for clip in outcome.clips:
            if isinstance(clip, ScoredClip):
                extras = {str(entry["name"]) for entry in clip.extras}
                for noun, form in (
                    ("classes", clip.classes is not None),
                    ("readouts", tuple(sorted(clip.readouts))),
                    ("further values", tuple(sorted(extras))),
                ):
                    known, worker = self._forms.setdefault(noun, (form, outcome.worker))
                    if known != form:
                        raise AdapterError(
                            f"{self._job.name}: worker {outcome.worker} returned other {noun} for {clip.split}/{clip.clip_id} "
                            f"than worker {worker} did before; expected the same for every clip"
                        )
            yield clip


def _place(path: Path | str) -> Path | str:
    """Return a path, or the URL that it is in the copy of: the copies of this machine need not be those of a worker."""
    address = address_of(path)
    return address if is_remote(address) else path


def _pieces(clips: Sequence[ClipRows], size: int) -> Iterator[list[ClipRows]]:
    for start in range(0, len(clips), size):
        yield list(clips[start : start + size])


# In a worker: one task at a time, and the scorer of the job that it works on.
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


def _describe(job: Job) -> _Outcome:
    with _at_work(job) as loaded:
        return _outcome(loaded)


def _check(job: Job, clips: Sequence[ClipRows], choices: ScoringChoices) -> _Outcome:
    with _at_work(job) as loaded:
        loaded.require_data(clips)
        loaded.scorer.begin(clips, choices)
        loaded.choices = None
        return _outcome(loaded)


def _score(job: Job, clips: Sequence[ClipRows], choices: ScoringChoices, any_scored: bool) -> _Outcome:
    with _at_work(job) as loaded:
        loaded.require_data(clips)
        if loaded.choices != choices:
            loaded.scorer.begin(clips, choices)
            loaded.choices = choices
        with contextlib.closing(loaded.scorer.score(clips, any_scored=any_scored)) as outcomes:
            return _outcome(loaded, tuple(outcomes))


def _outcome(loaded: _Loaded, clips: tuple[ScoredClip | FailedClip, ...] = ()) -> _Outcome:
    return _Outcome(_address(), loaded.facts, clips, loaded.scorer.batch_size, tuple(loaded.scorer.remarks))


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
