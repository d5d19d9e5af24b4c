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

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from avsrobust.adapters.base import Adapter
from avsrobust.evaluation.clip_data import check_data
from avsrobust.evaluation.cluster import ClusterAdapter, ClusterScorer
from avsrobust.evaluation.cluster_worker import Job
from avsrobust.evaluation.execution import Evaluation, EvaluationReport, Progress
from avsrobust.evaluation.request import Request
from avsrobust.evaluation.score_size import ScoreSize
from avsrobust.evaluation.scorer import LocalScorer, Scorer
from avsrobust.evaluation.shards import Shard
from avsrobust.folders import ensure_output_dir, hold_output_dir
from avsrobust.manifest import Manifest
from avsrobust.results import RESULTS_KIND, SCORES_FORMAT

__all__ = ["COMMAND", "EvaluationReport", "Progress", "evaluate"]

COMMAND = "avsrobust evaluate"


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
    evaluation = Evaluation(
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
