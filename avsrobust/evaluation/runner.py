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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avsrobust.adapters.base import VGGISH_OPTION, Adapter, AudioInput
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.caveats import caveats, train_sources
from avsrobust.checksums import load_checksums
from avsrobust.errors import AdapterError, OptionError, did_you_mean
from avsrobust.evaluation.batch_size import choose_batch_size, is_measurable
from avsrobust.evaluation.batches import Batch, LoadedClip, default_readers, each_batch, load_batch
from avsrobust.evaluation.clip_data import check_data
from avsrobust.evaluation.clip_table import ClipTable
from avsrobust.evaluation.consistency import MOST_CLIPS, check_consistency
from avsrobust.evaluation.existing_results import ExistingResults, read_existing, require_covered, require_same_model
from avsrobust.evaluation.model_key import differences, evaluation_sha256, make_model_key, remember_state, with_states
from avsrobust.evaluation.parts import PartStore, remove_parts, unfinished_key
from avsrobust.evaluation.planning import EvaluationPlan, failures, limited_splits, plan_evaluation
from avsrobust.evaluation.provenance import Effort, run_details
from avsrobust.evaluation.publishing import finish_publishing, merge_scores, next_folder, write_next_files
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scoring import ScoredClip, score_clips
from avsrobust.evaluation.sound import SoundReader
from avsrobust.files import remove_temporaries
from avsrobust.folders import hold_output_dir
from avsrobust.manifest import Manifest
from avsrobust.results import (
    EXTRAS_NAME,
    MASKS_NAME,
    RESULTS_KIND,
    RUN_NAME,
    SCORES_FORMAT,
    SCORES_NAME,
    FailedClip,
    Run,
    ScoreInfo,
    Scores,
    readout_file,
    write_run,
)
from avsrobust.row_keys import (
    ClipKey,
    RowKey,
    clip_of,
    rows_in,
)

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
    adapter: Adapter,
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
    progress: Progress | None = None,
) -> EvaluationReport:
    """Run an adapter over the rows of a manifest and add the results to a folder.

    Args:
        manifest: The build.
        adapter: The adapter, loaded.
        name: Name of the model in tables.
        output: The results folder.
        splits: Splits to run.
        conditions: Conditions to run; None: all.
        data_root: Folder of the data set; None: the one that the build remembers.
        device: Device that the adapter is on; None: the CPU.
        batch_size: Most clips in a batch; no score depends on it. None: on a GPU as many as fit its memory
            (`evaluation.batch_size`), else one.
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
        progress: Called with (clips done, clips in all).

    Raises:
        OptionError: The selection has no rows, or the folder is in use, another model's or not ours.
        ManifestError: The data is not the manifest's.
        AdapterError: The adapter fails on the first clip, or every clip fails.
        ResultsError: Results that are there are damaged and would not all be made again; then they stay as they are.
    """
    evaluation = _Evaluation(
        manifest=manifest,
        adapter=adapter,
        name=name,
        spec=spec or name,
        clips=_select(manifest, splits, conditions)[:limit],
        data_root=manifest.data_root(None if data_root is None else Path(data_root)),
        output=Path(output),
        device=device or torch.device("cpu"),
        batch_size=batch_size,
        readers=default_readers() if readers is None else readers,
        save_masks=save_masks,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        options=dict(options or {}),
        check=check,
        replace=replace,
        score_size=None if score_size is None else ScoreSize.of(score_size),
        limited=() if limit is None else tuple(splits),
        progress=progress or (lambda _done, _total: None),
    )
    check_data(manifest, evaluation.data_root, splits)
    with hold_output_dir(evaluation.output, RESULTS_KIND, SCORES_FORMAT, COMMAND, wait=wait, replace=replace):
        return evaluation.run()


def _select(manifest: Manifest, splits: Sequence[str], conditions: Sequence[str] | None) -> ClipTable:
    for noun, requested, there in (
        ("split", splits, manifest.distinct("split")),
        ("condition", conditions or (), manifest.distinct("condition")),
    ):
        for value in requested:
            if value not in there:
                raise OptionError(
                    f"{manifest.path}: has no rows of {noun} '{value}'; it has {', '.join(there)}{did_you_mean(value, there)}"
                )
    clips = ClipTable(manifest.select(splits, conditions).rows)
    if not clips:
        raise OptionError(f"{manifest.path}: has no row of the chosen splits and conditions; choose others")
    return clips


@dataclass(frozen=True)
class _Evaluation:
    """One evaluation, all choices made."""

    manifest: Manifest
    adapter: Adapter
    name: str
    spec: str
    clips: ClipTable
    data_root: Path
    output: Path
    device: torch.device
    batch_size: int | None
    readers: int
    save_masks: bool
    checkpoint: Path | None
    options: dict[str, str]
    check: bool
    replace: bool
    score_size: ScoreSize | None
    limited: tuple[str, ...]
    progress: Progress

    def run(self) -> EvaluationReport:
        """Keep existing rows, score the rest, put both together. The folder is ours and locked."""
        started = time.perf_counter()
        remove_temporaries(self.output)
        if finish_publishing(self.output):
            remove_parts(self.output)
        stored, model_key, discarded = self._stored(self._model_key())
        store = PartStore(
            self.output, model_key, self._info((), evaluation_sha256(model_key)), keep_masks=self.save_masks
        )
        store.keep_masks |= stored.masks is not None or bool(store.mask_files())
        self._require_covered(stored, keep_masks=store.keep_masks)
        plan = plan_evaluation(self.manifest, self.clips, stored, store, save_masks=self.save_masks)
        batch_size = self.batch_size or 1
        notes = [*(f"{line}; made again as far as requested" for line in stored.damaged), *discarded]
        if not (plan.clips or plan.unfinished) and (stored.run is not None or stored.scores is None):
            remove_parts(self.output)
            return self._report(plan, {}, (*notes, "already evaluated; nothing was run again"))
        try:
            failed = dict[ClipKey, str]()
            if plan.clips:
                failed, batch_size, remark = self._run_all(plan, stored, store)
                notes += remark
        finally:
            remember_state(self.adapter, model_key, self.device)
        sources = [*([stored.scores] if stored.scores else []), *store.read()]
        scored: set[RowKey] = set().union(*map(rows_in, sources))
        if not scored & plan.wanted:
            (split, clip_id), error = next(iter(failed.items()))
            raise AdapterError(
                f"{self.name}: none of {len(self.clips)} clips could be scored; the first one, {split}/{clip_id}: {error}"
            )
        effort = self._effort(batch_size, len(plan.clips) - len(failed), time.perf_counter() - started)
        self._publish(model_key, stored, store, sources, plan, failed, effort)
        remove_parts(self.output)
        if plan.kept:
            notes.append(f"{len(plan.kept)} rows were there and are kept, {len(scored - plan.kept)} were added")
        return self._report(plan, failed, tuple(notes))

    def _model_key(self) -> dict[str, Any]:
        return make_model_key(
            self.manifest,
            self.adapter,
            name=self.name,
            checkpoint=self.checkpoint,
            options=self.options,
            device=self.device,
            output=self.output,
            score_size="" if self.score_size is None else str(self.score_size),
        )

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

    def _require_covered(self, stored: ExistingResults, *, keep_masks: bool) -> None:
        """Check that a damaged file that will be written again will hold no less than it did."""
        splits, conditions = self.clips.distinct("split"), self.clips.distinct("condition")
        for name, lost in (
            (SCORES_NAME, stored.run is not None and stored.scores is None),
            (MASKS_NAME, keep_masks and stored.named(MASKS_NAME) and stored.masks is None),
            (EXTRAS_NAME, stored.named(EXTRAS_NAME) and stored.extras is None),
        ):
            if lost and not self.replace:
                require_covered(self.output, name, stored, splits, conditions)
        for readout in stored.readout_names:
            if readout not in stored.readouts and not self.replace:
                require_covered(self.output, readout_file(readout), stored, splits, conditions)

    def _info(self, failed: tuple[FailedClip, ...], evaluation: str) -> ScoreInfo:
        info = self.manifest.info
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
            train_sources=train_sources(self.manifest),
            conditions=info.conditions,
            score_size="" if self.score_size is None else str(self.score_size),
        )

    def _sounds(self) -> SoundReader:
        vggish = self.options.get(VGGISH_OPTION)
        audio = AudioInput.of(getattr(self.adapter, "audio", None))
        # Read in threads, while the adapter may be in a folder of its own.
        manifest = dataclasses.replace(self.manifest, path=self.manifest.path.absolute())
        weights = None if vggish is None else Path(vggish).absolute()
        return SoundReader(manifest, self.data_root, audio, weights, self.device)

    def _run_all(
        self, plan: EvaluationPlan, stored: ExistingResults, store: PartStore
    ) -> tuple[dict[ClipKey, str], int, list[str]]:
        """Score the clips of the plan; return the errors of those that failed, sorted, the batch size, and remarks on it."""
        sounds = self._sounds()
        caller = AdapterCaller(self.adapter, self.name, self.device, returns_classes=plan.classes)
        if stored.scores is not None:
            caller.readouts = tuple(stored.readout_names)
        checksums = load_checksums(self.manifest)

        def load(batch: Batch) -> list[LoadedClip | FailedClip]:
            return load_batch(batch, sounds.build, self.data_root, sounds, checksums, self.score_size)

        by_memory = self.batch_size is None and is_measurable(caller)
        batch_size, remarks = caller.batch_size(self.batch_size or (MOST_CLIPS if by_memory else 1)), list[str]()
        if self.check:
            check_consistency(caller, plan.clips, self.data_root, sounds, batch_size)
        if by_memory:
            batch_size, remarks = choose_batch_size(caller, plan.clips, load, keep_masks=store.keep_masks)
        batches = each_batch(plan.clips, sounds.build, self.data_root, batch_size)
        store.begin()
        succeeded, failed = len(self.clips) - len(plan.clips_due), dict[ClipKey, str]()
        self.progress(succeeded, len(self.clips))
        outcomes = score_clips(
            caller, batches, load, keep_masks=store.keep_masks, any_scored=succeeded > 0, readers=self.readers
        )
        try:
            with closing(outcomes), store.writing() as keep:
                for outcome in outcomes:
                    if isinstance(outcome, ScoredClip):
                        keep(outcome)
                        succeeded += 1
                    else:
                        failed[outcome.split, outcome.clip_id] = outcome.error
                    self.progress(succeeded + len(failed), len(self.clips))
        finally:
            # Also when the user interrupts: finished clips need not be scored again.
            store.flush()
            self._leave_nothing(store)
        return dict(sorted(failed.items())), batch_size, remarks

    def _publish(
        self,
        model_key: Mapping[str, Any],
        stored: ExistingResults,
        store: PartStore,
        sources: Sequence[Scores],
        plan: EvaluationPlan,
        failed: Mapping[ClipKey, str],
        effort: Effort,
    ) -> None:
        """Write all files anew under ``parts/next/``, and move them to the folder."""
        rows: set[RowKey] = set().union(*map(rows_in, sources))
        failed_rows = failures(stored, rows, plan, failed)
        of_clips = tuple(FailedClip(*clip, error) for clip, (error, _) in sorted(failed_rows.items()))
        splits = limited_splits(self.manifest, self.limited, stored, rows, failed_rows)
        info = dataclasses.replace(self._info(of_clips, evaluation_sha256(model_key)), limited=splits)
        scores = merge_scores(sources, info)
        readouts = [
            merge_scores(found, info.of_readout(name)) for name, found in self._readout_sources(stored, store).items()
        ]
        ready = write_next_files(self.output, scores, rows, stored, store, readouts)
        earlier = None if stored.run is None else stored.run.details.get("runs")
        details = run_details(
            model_key,
            scores,
            spec=self.spec,
            manifest=self.manifest,
            data_root=self.data_root,
            adapter=self.adapter,
            checkpoint=self.checkpoint,
            failed_rows=failed_rows,
            files=ready.files,
            extras=ready.extras,
            effort=effort,
            earlier=earlier if isinstance(earlier, list) else [],
        )
        write_run(next_folder(self.output) / RUN_NAME, Run(self.name, self.manifest.info.dataset, details))
        finish_publishing(self.output)

    def _effort(self, batch_size: int, clips: int, wall_time_s: float) -> Effort:
        splits, conditions = self.clips.distinct("split"), self.clips.distinct("condition")
        return Effort(sorted(splits), sorted(conditions), self.device, batch_size, clips, wall_time_s)

    def _readout_sources(self, stored: ExistingResults, store: PartStore) -> dict[str, list[Scores]]:
        """Return all scores of each further readout: earlier ones, and those of new parts."""
        found = {name: [scores] for name, scores in stored.readouts.items()}
        for name, parts in store.read_readouts().items():
            found.setdefault(name, []).extend(parts)
        return dict(sorted(found.items()))

    def _report(self, plan: EvaluationPlan, failed: Mapping[ClipKey, str], notes: tuple[str, ...]) -> EvaluationReport:
        masks = self.output / MASKS_NAME
        return EvaluationReport(
            scores=self.output / SCORES_NAME,
            clips=len(self.clips) - len(failed),
            reused=len(self.clips) - len(plan.clips_due),
            failed=tuple(FailedClip(*clip, error) for clip, error in failed.items()),
            notes=notes,
            masks=masks if masks.exists() else None,
            rows_added=len({key for key in plan.due - plan.kept if clip_of(key) not in failed}),
            rows_kept=len(plan.kept),
        )

    def _leave_nothing(self, store: PartStore) -> None:
        """Take the parts' folder away where no clip is finished."""
        if not store.has_parts():
            remove_parts(self.output)
