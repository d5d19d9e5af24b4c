"""One evaluation, all choices made: what is there is kept, the rest is scored, and both are put together and published.

Conventions
    The results folder is ours and locked by whoever runs this. First a kill of an earlier process is cleaned up after; then the
    rows that are there, published or in parts, are compared with those requested (`evaluation.planning`); the scorer
    (`evaluation.scorer`) yields the missing clips one by one, which are kept in parts (`evaluation.parts`); at the end all files
    are written anew and take the places of the old ones (`evaluation.publishing`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from avsrobust.caveats import caveats, train_sources
from avsrobust.errors import AdapterError, OptionError
from avsrobust.evaluation.existing_results import ExistingResults, read_existing, require_covered, require_same_model
from avsrobust.evaluation.model_key import differences, evaluation_sha256, with_states
from avsrobust.evaluation.parts import PartStore, remove_parts, unfinished_key
from avsrobust.evaluation.planning import EvaluationPlan, failures, limited_splits, plan_evaluation
from avsrobust.evaluation.provenance import Effort, run_details
from avsrobust.evaluation.publishing import finish_publishing, next_folder, write_next_files
from avsrobust.evaluation.request import Request
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scorer import AdapterFacts, Scorer, ScoringChoices
from avsrobust.evaluation.scoring import ScoredClip
from avsrobust.evaluation.stored_scores import StoredScores, frames_of
from avsrobust.files import remove_temporaries
from avsrobust.heap import release_unused
from avsrobust.locks import require_held
from avsrobust.results import MASKS_NAME, RUN_NAME, SCORES_NAME, SHARDS_NAME, FailedClip, Run, ScoreInfo, write_run
from avsrobust.row_keys import ClipKey, clip_of
from avsrobust.row_sets import RowSet
from avsrobust.score_frames import FrameTable

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


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, all choices made (`evaluation.runner.evaluate` says what they are)."""

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
        # The table of clips is not asked for any more.
        plan = dataclasses.replace(plan, clips=())
        release_unused()
        frames = store.frames()
        if stored.scores is not None:
            frames = frames_of([stored.scores.frames, frames], store.info, use_up=True)
        rows = StoredScores(store.info, frames).rows
        if failed and self.request.shard is None and not plan.wanted & rows:
            (split, clip_id), error = next(iter(failed.items()))
            raise AdapterError(
                f"{self.name}: none of {len(self.request.clips)} clips could be scored; the first one, {split}/{clip_id}: {error}"
            )
        if plan.kept:
            notes.append(f"{len(plan.kept)} rows were there and are kept, {len(rows - plan.kept)} were added")
        effort = self._effort(facts, num_clips - len(failed), time.perf_counter() - started)
        self._publish(model_key, facts, stored, store, frames, rows, plan, failed, effort)
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
                        _require_there(self.data_root, self.request.manifest.folder)
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
        rows: RowSet,
        plan: EvaluationPlan,
        failed: Mapping[ClipKey, str],
        effort: Effort,
    ) -> None:
        """Write all files anew under ``parts/next/``, and move them to the folder; `rows` are those of the frames."""
        require_held(self.output)
        asked = self.request
        failed_rows = failures(stored, rows, plan, failed)
        of_clips = tuple(FailedClip(*clip, error) for clip, (error, _) in sorted(failed_rows.items()))
        splits = limited_splits(asked.own_rows(), asked.limited, stored, rows, failed_rows, asked.pairs())
        info = dataclasses.replace(self._info(of_clips, evaluation_sha256(model_key)), limited=splits)
        scores = StoredScores(info, frames)
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


def _require_there(*folders: Path) -> None:
    """Check that the folders of data and build are there, when a clip has failed: without them all others would.

    Raises:
        OptionError: One is gone, or an empty mount point.
    """
    for folder in folders:
        try:
            is_there = next(folder.iterdir(), None) is not None
        except OSError:
            is_there = False
        if not is_there:
            raise OptionError(
                f"{folder}: is gone, or empty, since the evaluation began (a share that went away?); bring it back, and run the "
                "same command again: finished clips are kept"
            )
