"""Evaluating: a manifest and an adapter in, ``scores.parquet`` and ``run.json`` out (``extras.parquet`` where it has any).

Conventions
    A clip that cannot be read, or that the adapter fails on, is listed with its error and the rest goes on. Where the adapter
    itself fails (anything but `ClipError`) before any clip has succeeded, its error is raised at once: it would fail on all.
    ``scores.parquet`` holds the same bytes whatever the batch size and however often the evaluation was interrupted.
    Results of the same evaluation (`avsrobust.evaluation.identity`) are reused clip by clip; failed clips are tried again.
    Results of another one in the same folder are replaced, at the end and whole. Stored masks are kept where the same
    evaluation is asked for without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.caveats import caveats
from avsrobust.errors import AdapterError, AvsRobustError, ClipError, OptionError, did_you_mean
from avsrobust.evaluation.batches import LoadedClip, load_batch, of_one_shape, plan_batches, read_ahead
from avsrobust.evaluation.consistency import check_consistency
from avsrobust.evaluation.extras import EXTRAS_NAME, merge_extras
from avsrobust.evaluation.identity import evaluation_identity
from avsrobust.evaluation.parts import PartStore, clips_in, has_classes, merge_scores, parts_identity
from avsrobust.evaluation.provenance import FinishedRun, find_finished, run_details
from avsrobust.evaluation.samples import ClipRows, check_data, clips_of
from avsrobust.evaluation.scoring import ScoredClip, Scorer, one_line
from avsrobust.evaluation.sound import VGGISH_OPTION, SoundReader
from avsrobust.evaluation.stored_masks import MASKS_NAME, ClipKey, merge_masks
from avsrobust.files import require_writable
from avsrobust.manifest import Manifest
from avsrobust.results import RUN_NAME, SCORES_NAME, FailedClip, Run, ScoreInfo, Scores, write_run, write_scores

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EvaluationReport:
    """What came of an evaluation.

    `scores`: the file of statistics. `clips`: how many clips it holds, of which `reused` were there before. `failed`: those it
    does not hold. `notes`: remarks for people. `masks`: the file of stored masks, where they were wanted.
    """

    scores: Path
    clips: int
    reused: int
    failed: tuple[FailedClip, ...]
    notes: tuple[str, ...]
    masks: Path | None


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
    batch_size: int = 1,
    save_masks: bool = False,
    spec: str | None = None,
    checkpoint: Path | str | None = None,
    options: Mapping[str, str] | None = None,
    check: bool = True,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Run `adapter` over the rows of `splits` and `conditions` (None: all) and write results to the folder `output`.

    `name` is what tables call the model; `spec`, `checkpoint` and `options` say how it was loaded (for ``run.json``, and to
    tell evaluations apart; the option ``vggish`` is used here). `check`: first run a few clips twice and require the same masks
    (`avsrobust.evaluation.consistency`). `progress` is called with (clips done, clips in all).
    Raises `OptionError` for a selection without rows, `ManifestError` for data that is not the manifest's, `AdapterError` where
    the adapter fails on the first clip or every clip fails; then nothing is left under the final names.
    """
    evaluation = _Evaluation(
        manifest=manifest,
        adapter=adapter,
        name=name,
        spec=spec or name,
        clips=tuple(_select(manifest, splits, conditions)),
        data_root=manifest.data_root(None if data_root is None else Path(data_root)),
        output=Path(output),
        device=device or torch.device("cpu"),
        batch_size=batch_size,
        save_masks=save_masks,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        options=dict(options or {}),
        check=check,
        progress=progress or (lambda _done, _total: None),
    )
    check_data(manifest, evaluation.data_root, splits)
    return evaluation.run()


def _select(manifest: Manifest, splits: Sequence[str], conditions: Sequence[str] | None) -> list[ClipRows]:
    for what, asked, there in (
        ("split", splits, sorted({row.split for row in manifest.rows})),
        ("condition", conditions or (), sorted({row.condition for row in manifest.rows})),
    ):
        for value in asked:
            if value not in there:
                raise OptionError(
                    f"{manifest.path}: has no rows of {what} '{value}'; it has {', '.join(there)}{did_you_mean(value, there)}"
                )
    clips = clips_of(manifest.select(splits, conditions).rows)
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
    clips: tuple[ClipRows, ...]
    data_root: Path
    output: Path
    device: torch.device
    batch_size: int
    save_masks: bool
    checkpoint: Path | None
    options: dict[str, str]
    check: bool
    progress: Progress

    def run(self) -> EvaluationReport:
        """Reuse what is finished, score the rest, write the results."""
        started = time.perf_counter()
        identity = self._identity()
        if not self.save_masks and self._masks_are_there(identity):
            return replace(self, save_masks=True).run()
        finished = find_finished(self.output, identity, save_masks=self.save_masks)
        if finished is not None and clips_in(finished.scores) == set(self._keys()):
            return self._report(reused=len(self.clips), failed=(), notes=("already evaluated; nothing was run again",))
        sounds = self._sounds()
        require_writable(self.output)
        store = PartStore(self.output, identity, self._info(()), keep_masks=self.save_masks)
        earlier = self._scores(store, finished)
        reused = {key for scores in earlier for key in clips_in(scores)}
        try:
            failed = self._score_all(store, sounds, reused, has_classes(earlier))
        except AdapterError:
            if not reused:
                self._leave_nothing(store)
            raise
        parts = self._scores(store, finished)
        if not parts:
            self._leave_nothing(store)
            raise AdapterError(
                f"{self.name}: none of {len(self.clips)} clips could be scored; "
                f"the first one, {failed[0].split}/{failed[0].clip_id}: {failed[0].error}"
            )
        scores = merge_scores(parts, self._info(tuple(failed)))
        if self.save_masks:
            earlier_masks = [finished.masks] if finished and finished.masks else []
            merge_masks(self.output / MASKS_NAME, [*earlier_masks, *store.mask_files()], sorted(clips_in(scores)))
        else:
            # Those of an earlier evaluation would be taken for this one's.
            (self.output / MASKS_NAME).unlink(missing_ok=True)
        earlier_extras = [finished.extras] if finished and finished.extras else []
        extras = merge_extras(self.output / EXTRAS_NAME, [*earlier_extras, *store.extras_files()], clips_in(scores))
        self._write(identity, scores, extras, time.perf_counter() - started, len(reused))
        store.remove()
        notes = ("parts of another evaluation in this folder were discarded",) if store.discarded else ()
        return self._report(reused=len(reused), failed=tuple(failed), notes=notes)

    def _identity(self) -> dict[str, Any]:
        return evaluation_identity(
            self.manifest,
            (row for clip in self.clips for row in clip),
            self.adapter,
            spec=self.spec,
            checkpoint=self.checkpoint,
            options=self.options,
            device=self.device,
            save_masks=self.save_masks,
            output=self.output,
        )

    def _masks_are_there(self, identity: Mapping[str, Any]) -> bool:
        """Tell whether the same evaluation, finished or not, keeps masks: it has all that is asked for, and more."""
        more = {**identity, "save_masks": True}
        return parts_identity(self.output) == more or find_finished(self.output, more, save_masks=True) is not None

    def _keys(self) -> list[ClipKey]:
        return [(clip[0].split, clip[0].clip_id) for clip in self.clips]

    def _info(self, failed: tuple[FailedClip, ...]) -> ScoreInfo:
        info = self.manifest.info
        recipe = str(info.recipe.get("name", ""))
        return ScoreInfo(self.name, info.dataset, info.seed, failed, recipe, info.release, info.muted, caveats(info))

    def _sounds(self) -> SoundReader:
        vggish = self.options.get(VGGISH_OPTION)
        audio = AudioInput.of(getattr(self.adapter, "audio", None))
        # Read in threads, while the adapter may be in a folder of its own.
        manifest = replace(self.manifest, path=self.manifest.path.absolute())
        weights = None if vggish is None else Path(vggish).absolute()
        return SoundReader(manifest, self.data_root, audio, weights, self.device)

    def _scores(self, store: PartStore, finished: FinishedRun | None) -> list[Scores]:
        return [*([finished.scores] if finished else []), *store.read()]

    def _score_all(
        self, store: PartStore, sounds: SoundReader, done: set[ClipKey], classes: bool | None
    ) -> list[FailedClip]:
        """Score the clips that are not `done`; return those that failed, sorted.

        `classes`: whether the adapter returned classes for those that are (None: unknown).
        """
        waiting = [clip for clip, key in zip(self.clips, self._keys(), strict=True) if key not in done]
        batches = plan_batches(waiting, self.data_root, self.batch_size)
        scorer = Scorer(self.adapter, self.name, self.device, keep_masks=self.save_masks, classes=classes)
        if self.check:
            check_consistency(self.adapter, scorer, self.name, waiting, self.data_root, sounds, self.batch_size)
        succeeded, failed = len(done), list[FailedClip]()
        self.progress(succeeded, len(self.clips))
        try:
            for loaded in read_ahead(batches, lambda batch: load_batch(batch, self.data_root, sounds)):
                failed += [clip for clip in loaded if isinstance(clip, FailedClip)]
                for together in of_one_shape([clip for clip in loaded if isinstance(clip, LoadedClip)]):
                    for outcome in _score(scorer, together, first=succeeded == 0):
                        if isinstance(outcome, ScoredClip):
                            store.add([outcome])
                            succeeded += 1
                        else:
                            failed.append(outcome)
                self.progress(succeeded + len(failed), len(self.clips))
        finally:
            # Also when the user interrupts: what is done need not be done again.
            store.flush()
        return sorted(failed, key=lambda clip: (clip.split, clip.clip_id))

    def _write(
        self, identity: Mapping[str, Any], scores: Scores, extras: Sequence[str], wall_time_s: float, reused: int
    ) -> None:
        write_scores(self.output / SCORES_NAME, scores)
        details = run_details(
            identity,
            manifest=self.manifest,
            data_root=self.data_root,
            adapter=self.adapter,
            checkpoint=self.checkpoint,
            device=self.device,
            scores=scores,
            scores_path=self.output / SCORES_NAME,
            extras=extras,
            batch_size=self.batch_size,
            wall_time_s=wall_time_s,
            reused=reused,
        )
        write_run(self.output / RUN_NAME, Run(self.name, self.manifest.info.dataset, details))

    def _report(self, *, reused: int, failed: tuple[FailedClip, ...], notes: tuple[str, ...]) -> EvaluationReport:
        return EvaluationReport(
            scores=self.output / SCORES_NAME,
            clips=len(self.clips) - len(failed),
            reused=reused,
            failed=failed,
            notes=notes,
            masks=self.output / MASKS_NAME if self.save_masks else None,
        )

    def _leave_nothing(self, store: PartStore) -> None:
        store.remove()
        if not any(self.output.iterdir()):
            self.output.rmdir()


def _score(scorer: Scorer, clips: list[LoadedClip], *, first: bool) -> list[ScoredClip | FailedClip]:
    """Score clips together, or one by one where that fails, so that a bad one takes no other with it.

    `first`: no clip has succeeded yet, so that the adapter's own failure is raised.
    """
    try:
        return list(scorer.score(clips))
    except AvsRobustError as error:
        if len(clips) == 1:
            if first and not isinstance(error, ClipError):
                raise
            row = clips[0].sample.rows[0]
            return [FailedClip(row.split, row.clip_id, one_line(error))]
    outcomes: list[ScoredClip | FailedClip] = []
    for clip in clips:
        nothing_yet = first and not any(isinstance(outcome, ScoredClip) for outcome in outcomes)
        outcomes += _score(scorer, [clip], first=nothing_yet)
    return outcomes
