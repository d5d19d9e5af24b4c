"""Evaluating: a manifest and an adapter in, ``scores.parquet`` and ``run.json`` out (``extras.parquet`` where it has any).

Conventions
    A clip that cannot be read, or that the adapter fails on, is listed with its error and the rest goes on. Where the adapter
    itself fails (anything but `ClipError`) before any clip has succeeded, its error is raised at once: it would fail on all.
    A results folder belongs to one model on one build (`evaluation.model_key`). The same model adds what is missing:
    splits, conditions, masks, clips that failed; nothing is run twice and nothing that is there goes. ``scores.parquet`` holds
    the same bytes in whatever pieces, order and batches it came about and however often that was interrupted. Another model is
    refused, or, where `replace` is set, takes the other's place at the end and whole.
    One process at a time holds the folder; only files that avsrobust writes are ever replaced or deleted in it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from avsrobust.adapters.base import Adapter
from avsrobust.caveats import caveats, train_sources
from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation.clip_data import check_data
from avsrobust.evaluation.cluster import ClusterAdapter, ClusterScorer, Job
from avsrobust.evaluation.existing_results import ExistingResults, read_existing, require_covered, require_same_model
from avsrobust.evaluation.model_key import differences, evaluation_sha256, with_states
from avsrobust.evaluation.parts import PartStore, remove_parts, unfinished_key
from avsrobust.evaluation.planning import EvaluationPlan, failures, limited_splits, plan_evaluation
from avsrobust.evaluation.provenance import Effort, run_details
from avsrobust.evaluation.publishing import finish_publishing, next_folder, write_next_files
from avsrobust.evaluation.request import Request
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scorer import AdapterFacts, LocalScorer, Scorer, ScoringChoices
from avsrobust.evaluation.scoring import ScoredClip
from avsrobust.evaluation.shards import Shard
from avsrobust.evaluation.stored_scores import StoredScores, frames_of
from avsrobust.files import remove_temporaries
from avsrobust.folders import ensure_output_dir, hold_output_dir
from avsrobust.heap import release_unused
from avsrobust.manifest import Manifest
from avsrobust.results import (
    MASKS_NAME,
    RESULTS_KIND,
    RUN_NAME,
    SCORES_FORMAT,
    SCORES_NAME,
    SHARDS_NAME,
    FailedClip,
    Run,
    ScoreInfo,
    write_run,
)
from avsrobust.row_keys import ClipKey, RowKey, clip_of
from avsrobust.score_frames import FrameTable

COMMAND = "avsrobust evaluate"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EvaluationReport:
    """Outcome of an evaluation.

    Attributes:
        scores: File of statistics.
        clips: Number of requested clips that it holds.
        reused: Number of these that it held before, whole.
        failed: Requested clips that it does not hold.
        notes: Remarks for people.
        masks: File of stored masks, or None.
        rows_added: Number of rows (clip, condition, level) that are new.
        rows_kept: Number of rows that were there before.
    """

    scores: Path
    clips: int
    reused: int
    failed: tuple[FailedClip, ...]
    notes: tuple[str, ...]
    masks: Path | None
    rows_added: int = 0
    rows_kept: int = 0


def evaluate(
    manifest: Manifest,
    adapter: Adapter | ClusterAdapter,
    *,
    name: str,
    output: Path | str,
    splits: Sequence[str] = ("test",),
    conditions: Sequence[str] | None = None,
    data_root: Path | str | None = None,
    device: torch.device | None = None,
    batch_size: int | None = None,
    readers: int | None = None,
    save_masks: bool = False,
    spec: str | None = None,
    checkpoint: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    check: bool = True,
    replace: bool = False,
    wait: bool = False,
    score_size: str | int | ScoreSize | None = None,
    limit: int | None = None,
    shard: str | Shard | None = None,
    progress: Progress | None = None,
    on_saved: Callable[[], None] | None = None,
) -> EvaluationReport:
    """Run an adapter over the rows of a manifest and add the results to a folder.

    Args:
        manifest: The build.
        adapter: The adapter, loaded, or one that the workers of a cluster load (`evaluation.cluster`).
        name: Name of the model in tables.
        output: The results folder.
        splits: Splits to run.
        conditions: Conditions to run; None: all.
        data_root: Folder of the data set; None: the one that the build remembers.
        device: Device that the adapter is on; None: the CPU. A `ClusterAdapter` names its own.
        batch_size: Most clips in a batch; no score depends on it. None: on a GPU as many as fit its memory
            (`evaluation.batch_size`), else one, or eight where no frame is looked at.
        readers: Threads that read clips; None: by the number of cores.
        save_masks: Keep the masks of these rows too; a folder that has masks goes on keeping them.
        spec: Text that named the adapter, for ``run.json``.
        checkpoint: File of weights, part of the model key.
        options: The adapter's options, part of the model key; the option ``vggish`` is used here.
        check: First run a few clips twice and require the same masks (`avsrobust.evaluation.consistency`).
        replace: Replace results of another model.
        wait: Wait until another process gives the folder up.
        score_size: Size of the scored masks (`evaluation.score_size`), part of the model key; None: that of the mask files.
        limit: Run the first so many clips alone, and mark the results; None: all.
        shard: Run one of n parts of the clips alone, "i/n", into ``output/shards/i-of-n``; `evaluation.merging` puts the parts
            together.
        progress: Called with (clips done, clips in all).
        on_saved: Called when finished clips have been written, while nothing is.

    Raises:
        OptionError: The selection has no rows, or the folder is in use, another model's or not ours.
        ManifestError: The data is not the manifest's.
        AdapterError: The adapter fails on the first clip, or every clip fails.
        ResultsError: Results that are there are damaged and would not all be made again; then they stay as they are.
    """
    part = Shard.parse(shard) if isinstance(shard, str) else shard
    request = Request.of(manifest, splits, conditions, limit=limit, shard=part)
    folder = Path(output) if part is None else part.folder(Path(output))
    weights = None if checkpoint is None else Path(checkpoint)
    data = manifest.data_root(None if data_root is None else Path(data_root))
    size = None if score_size is None else ScoreSize.of(score_size)
    scorer: Scorer
    if isinstance(adapter, ClusterAdapter):
        job = Job(
            manifest=manifest.path.absolute(),
            data_root=data.absolute(),
            output=folder.absolute(),
            spec=adapter.spec,
            name=name,
            device=adapter.device,
            batch_size=batch_size,
            readers=readers,
            checkpoint=weights,
            options=dict(options or {}),
            score_size=size,
        )
        scorer = ClusterScorer(adapter, job)
    else:
        scorer = LocalScorer(
            manifest,
            adapter,
            name=name,
            data_root=data,
            device=device or torch.device("cpu"),
            batch_size=batch_size,
            readers=readers,
            checkpoint=weights,
            options=options,
            score_size=size,
        )
    evaluation = _Evaluation(
        request=request,
        scorer=scorer,
        name=name,
        spec=spec or name,
        data_root=data,
        output=folder,
        save_masks=save_masks,
        checkpoint=weights,
        check=check,
        replace=replace,
        score_size=size,
        progress=progress or (lambda _done, _total: None),
        on_saved=on_saved,
    )
    check_data(manifest, data, splits)
    if part is not None:
        # Shards lie in a folder of ours, which whoever merges them fills.
        ensure_output_dir(Path(output), RESULTS_KIND, SCORES_FORMAT, replace=replace)
    with hold_output_dir(evaluation.output, RESULTS_KIND, SCORES_FORMAT, COMMAND, wait=wait, replace=replace):
        return evaluation.run()


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation, all choices made."""

    request: Request
    scorer: Scorer
    name: str
    spec: str
    data_root: Path
    output: Path
    save_masks: bool
    checkpoint: Path | None
    check: bool
    replace: bool
    score_size: ScoreSize | None
    progress: Progress
    on_saved: Callable[[], None] | None

    def run(self) -> EvaluationReport:
        """Keep existing rows, score the rest, put both together. The folder is ours and locked."""
        started = time.perf_counter()
        # Shards may be under way in other processes.
        remove_temporaries(self.output, but=self.output / SHARDS_NAME)
        if finish_publishing(self.output):
            remove_parts(self.output)
        facts = self.scorer.facts(self.output)
        stored, model_key, discarded = self._stored(dict(facts.model_key))
        info = self._info((), evaluation_sha256(model_key))
        store = PartStore(self.output, model_key, info, keep_masks=self.save_masks, on_saved=self.on_saved)
        store.keep_masks |= stored.masks is not None or bool(store.mask_files())
        clips = self.request.clips
        if not self.replace:
            splits, conditions = clips.distinct("split"), clips.distinct("condition")
            require_covered(self.output, stored, splits, conditions, keep_masks=store.keep_masks)
        plan = plan_evaluation(self.request.manifest, clips, stored, store, save_masks=self.save_masks)
        notes = [*(f"{line}; made again as far as requested" for line in stored.damaged), *discarded]
        if not (plan.clips or plan.unfinished) and self.request.is_recorded(stored):
            remove_parts(self.output)
            return self._report(plan, {}, (*notes, "already evaluated; nothing was run again"))
        num_clips = len(plan.clips)
        try:
            failed = dict[ClipKey, str]()
            if plan.clips:
                failed = self._run_all(plan, stored, store)
                notes += self.scorer.remarks
        finally:
            self.scorer.end(model_key)
        report = self._report(plan, failed, ())
        if not failed:
            # Keys of rows take as much memory as all frames.
            plan = dataclasses.replace(plan, clips=(), due=frozenset(), wanted=frozenset())
        release_unused()
        frames = store.frames()
        if stored.scores is not None:
            frames = frames_of([stored.scores.frames, frames], store.info, use_up=True)
        if failed and self.request.shard is None and not any(key in plan.wanted for key in frames.rows()):
            (split, clip_id), error = next(iter(failed.items()))
            raise AdapterError(
                f"{self.name}: none of {len(self.request.clips)} clips could be scored; the first one, {split}/{clip_id}: {error}"
            )
        if plan.kept:
            added = sum(key not in plan.kept for key in frames.rows())
            notes.append(f"{len(plan.kept)} rows were there and are kept, {added} were added")
        effort = self._effort(facts, num_clips - len(failed), time.perf_counter() - started)
        self._publish(model_key, facts, stored, store, frames, plan, failed, effort)
        remove_parts(self.output)
        return dataclasses.replace(report, notes=tuple(notes), masks=self._masks())

    def _stored(self, model_key: dict[str, Any]) -> tuple[ExistingResults, dict[str, Any], tuple[str, ...]]:
        """Return the folder's results that are kept, the model key as far as it is known, and notes on parts that were discarded.

        Raises `OptionError` where they are of another model, which this one is not to replace.
        """
        stored = read_existing(self.output, replace=self.replace)
        try:
            require_same_model(self.output, stored, model_key)
        except OptionError:
            if not self.replace:
                raise
            stored = ExistingResults()
        if stored.run is not None:
            model_key = with_states(stored.model_key(), model_key)
        under_way = unfinished_key(self.output)
        if under_way is None:
            return stored, model_key, ()
        if differences(under_way, model_key):
            # Of a model that was to replace this one, or that this one replaces.
            remove_parts(self.output)
            return stored, model_key, ("parts of another evaluation in this folder were discarded",)
        return stored, with_states(under_way, model_key), ()

    def _info(self, failed: tuple[FailedClip, ...], evaluation: str) -> ScoreInfo:
        info = self.request.manifest.info
        return ScoreInfo(
            model=self.name,
            dataset=info.dataset,
            seed=info.seed,
            failed=failed,
            recipe=str(info.recipe.get("name", "")),
            release=info.release,
            muted=info.muted,
            notes=caveats(info),
            evaluation=evaluation,
            train_sources=train_sources(self.request.manifest),
            conditions=info.conditions,
            score_size="" if self.score_size is None else str(self.score_size),
            shard=self.request.shard_name,
        )

    def _run_all(self, plan: EvaluationPlan, stored: ExistingResults, store: PartStore) -> dict[ClipKey, str]:
        """Score the clips of the plan; return the errors of those that failed, sorted."""
        choices = ScoringChoices(
            keep_masks=store.keep_masks,
            returns_classes=plan.classes,
            # A shard without clips tells nothing of the adapter.
            readouts=tuple(stored.readout_names) if stored.scores is not None and len(stored.scores.frames) else None,
            check=self.check,
        )
        self.scorer.begin(plan.clips, choices)
        store.begin()
        succeeded, failed = len(self.request.clips) - len(plan.clips_due), dict[ClipKey, str]()
        self.progress(succeeded, len(self.request.clips))
        outcomes = self.scorer.score(plan.clips, any_scored=succeeded > 0)
        try:
            with closing(outcomes), store.writing() as keep:
                for outcome in outcomes:
                    if isinstance(outcome, ScoredClip):
                        keep(outcome)
                        succeeded += 1
                    else:
                        failed[outcome.split, outcome.clip_id] = outcome.error
                    self.progress(succeeded + len(failed), len(self.request.clips))
        finally:
            # Also when the user interrupts: finished clips need not be scored again.
            store.flush()
            self._leave_nothing(store)
        return dict(sorted(failed.items()))

    def _publish(
        self,
        model_key: Mapping[str, Any],
        facts: AdapterFacts,
        stored: ExistingResults,
        store: PartStore,
        frames: FrameTable,
        plan: EvaluationPlan,
        failed: Mapping[ClipKey, str],
        effort: Effort,
    ) -> None:
        """Write all files anew under ``parts/next/``, and move them to the folder."""
        # Most evaluations do without: it takes as much memory as all frames.
        before = () if stored.scores is None else stored.scores.info.limited
        asked = self.request
        asks = failed or stored.failed_rows() or asked.limited or before
        rows = set(frames.rows()) if asks else set[RowKey]()
        failed_rows = failures(stored, rows, plan, failed)
        of_clips = tuple(FailedClip(*clip, error) for clip, (error, _) in sorted(failed_rows.items()))
        splits = limited_splits(asked.own_rows(), asked.limited, stored, rows, failed_rows, asked.pairs())
        info = dataclasses.replace(self._info(of_clips, evaluation_sha256(model_key)), limited=splits)
        scores = StoredScores(info, frames)
        del rows
        ready = write_next_files(
            self.output,
            scores,
            stored,
            masks=store.mask_files(),
            extras=store.extras_files(),
            readouts=self._readouts(stored, store, info),
        )
        earlier = None if stored.run is None else stored.run.details.get("runs")
        details = run_details(
            model_key,
            ready.content,
            info,
            spec=self.spec,
            manifest=self.request.manifest,
            data_root=self.data_root,
            adapter=facts,
            checkpoint=self.checkpoint,
            failed_rows=failed_rows,
            files=ready.files,
            extras=ready.extras,
            effort=effort,
            earlier=earlier if isinstance(earlier, list) else [],
        )
        write_run(next_folder(self.output) / RUN_NAME, Run(self.name, self.request.manifest.info.dataset, details))
        finish_publishing(self.output)

    def _effort(self, facts: AdapterFacts, clips: int, wall_time_s: float) -> Effort:
        asked = self.request
        batch_size = self.scorer.batch_size
        return Effort(asked.splits, asked.conditions, facts, batch_size, clips, wall_time_s, asked.shard_name)

    def _readouts(self, stored: ExistingResults, store: PartStore, info: ScoreInfo) -> Iterator[StoredScores]:
        """Yield the scores of each further readout, put together of earlier ones and those of new parts."""
        for name in sorted({*stored.readouts, *store.readout_names()}):
            earlier = [stored.readouts[name].frames] if name in stored.readouts else []
            of_readout = info.of_readout(name)
            yield StoredScores(of_readout, frames_of(chain(earlier, store.each_readout(name)), of_readout))

    def _report(self, plan: EvaluationPlan, failed: Mapping[ClipKey, str], notes: tuple[str, ...]) -> EvaluationReport:
        return EvaluationReport(
            scores=self.output / SCORES_NAME,
            clips=len(self.request.clips) - len(failed),
            reused=len(self.request.clips) - len(plan.clips_due),
            failed=tuple(FailedClip(*clip, error) for clip, error in failed.items()),
            notes=notes,
            masks=self._masks(),
            rows_added=sum(clip_of(key) not in failed for key in plan.due - plan.kept),
            rows_kept=len(plan.kept),
        )

    def _masks(self) -> Path | None:
        masks = self.output / MASKS_NAME
        return masks if masks.exists() else None

    def _leave_nothing(self, store: PartStore) -> None:
        """Take the parts' folder away where no clip is finished."""
        if not store.has_parts():
            remove_parts(self.output)
