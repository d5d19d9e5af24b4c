"""Evaluating on a dask cluster: an adapter in each worker, and clips that go to whichever is free.

Conventions
    Clips go out in pieces, and at most `_AHEAD` pieces per worker are under way. Dask runs the pieces of a worker that dies again
    on another one; scores do not depend on who scored a clip, nor on the order in which pieces come back.
    What a worker does with a piece is in `evaluation.cluster_worker`.
    All workers must load the same adapter: each piece comes with the facts about the one that scored it, and another model key,
    type of device or version is refused. The adapter is loaded in the workers only.
    The errors are those of `evaluation.scoring`; the first piece decides whether the adapter fails on everything.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avsrobust.dask_client import distributed_library
from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation.clip_data import ClipRows
from avsrobust.evaluation.cluster_worker import Job, Outcome, check, describe, score
from avsrobust.evaluation.model_key import differences
from avsrobust.evaluation.scored_clips import ScoredClip
from avsrobust.evaluation.scorer import AdapterFacts, Outcomes, ScoringChoices
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
        self._facts = self._one(describe, self._job).facts
        return self._facts

    def begin(self, clips: Sequence[ClipRows], choices: ScoringChoices) -> None:
        """Let a worker check the adapter on some of the clips."""
        self._choices = replace(choices, check=False)
        if choices.check:
            self._take(self._one(check, self._job, list(clips[:_MOST_CLIPS]), choices))

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
                    running[self._submit(score, self._job, piece, self._choices, scored)] = len(piece)
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

    def _one(self, function: Callable[..., Outcome], *arguments: object) -> Outcome:
        self._workers()
        future = self._submit(function, *arguments)
        try:
            while not self._finished([future]):
                pass
            return self._result(future, 0)
        finally:
            with contextlib.suppress(Exception):
                future.cancel()

    def _submit(self, function: Callable[..., Outcome], *arguments: object) -> Any:
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

    def _result(self, future: Any, clips: int) -> Outcome:
        try:
            outcome: Outcome = future.result()
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

    def _take(self, outcome: Outcome) -> None:
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

    def _checked(self, outcome: Outcome) -> Iterator[ScoredClip | FailedClip]:
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
