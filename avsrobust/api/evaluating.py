"""Running models over builds (`avsrobust.api`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsrobust import defaults
from avsrobust.callbacks import ProgressCallback
from avsrobust.evaluation_targets import (
    check_selection,
    evaluate_into,
    find_device,
    local_data_root,
    results_folders,
    select_builds,
)
from avsrobust.remote import naming_addresses

if TYPE_CHECKING:
    import torch

    from avsrobust.adapters.base import Adapter
    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.manifest import Manifest

AnyPath = Path | str


@naming_addresses()
def evaluate(
    adapter: str | type[Any] | Adapter,
    manifests: AnyPath | Manifest | Sequence[AnyPath | Manifest] | None = None,
    *,
    dataset: str | None = None,
    name: str | None = None,
    checkpoint: AnyPath | None = None,
    options: Mapping[str, str] | None = None,
    device: str | torch.device = "auto",
    splits: Sequence[str] = ("test",),
    conditions: Sequence[str] | None = None,
    batch_size: int | None = None,
    save_masks: bool = False,
    data_root: AnyPath | None = None,
    output: AnyPath = defaults.RESULTS_ROOT,
    check: bool = True,
    replace: bool = False,
    wait: bool = False,
    score_size: str | int | None = None,
    progress: ProgressCallback | None = None,
    readers: int | None = None,
    limit: int | None = None,
    shard: str | None = None,
    engine: str = "local",
    scheduler: str | None = None,
) -> list[EvaluationReport]:
    """Run a model over builds, and add the statistics per frame to its results.

    Args:
        adapter: A name, ``package.module:Class`` or ``file.py:Class``; an adapter class; or a loaded adapter.
        manifests: Manifests, their paths or their folders (default: every build under ``robust``).
        dataset: Only builds of this data set.
        name: Name of the model in tables (default: the adapter's, or its class's).
        checkpoint: Weights of the model.
        options: The adapter's options.
        device: "auto", "cpu", "cuda", "cuda:N" or a torch device.
        splits: Splits to evaluate.
        conditions: Conditions to evaluate (default: all).
        batch_size: Clips at a time; scores do not depend on it (default: on a GPU what its memory holds, else 1, or 8 for
            adapters that look at no frame).
        save_masks: Keep the masks too.
        data_root: Folder that the data set lies in now, where it has moved.
        output: Root of the results: they lie in ``output/<model>/<build>``.
        check: First run a few clips twice, to find models that keep state.
        replace: Let results of another model in the same folder give way to these.
        wait: Wait until another process gives the folder up, instead of refusing.
        score_size: Size at which masks are scored: 224, "384:bilinear" (how the annotated masks get there; default: nearest),
            or "frame" (default: the mask files' own size). Results at different sizes do not mix.
        progress: Called with (clips done, clips in total) of each build.
        readers: Threads that read clips (default: by the number of cores); scores do not depend on it.
        limit: A smoke run: the first so many clips of each build; tables refuse such results.
        engine: "local" runs the model in this process; "dask" in the workers of a cluster, each with a model of its own:
            `adapter` is then a text, or a class that workers can import.
        scheduler: Address of a running dask scheduler, for the engine "dask".
        shard: "2/4": the second of four parts of the clips; `evaluation.merging.merge_shards` puts the parts together.

    Returns:
        One report for each build.

    Raises:
        AdapterError: The adapter cannot be found, loaded or run.
        ManifestError: There is no build, or its data is not the manifest's.
        OptionError: A selection has no rows, or a folder belongs to another model or is in use.
    """
    from avsrobust.adapters.lookup import find_adapter, load_adapter
    from avsrobust.dask_client import check_engine, connect
    from avsrobust.errors import OptionError
    from avsrobust.evaluation.cluster import ClusterAdapter
    from avsrobust.evaluation.runner import evaluate as run_evaluation
    from avsrobust.evaluation.score_size import ScoreSize
    from avsrobust.evaluation.shards import Shard
    from avsrobust.plugins import spec_of
    from avsrobust.remote.inputs import local_place

    check_engine(engine, scheduler, own_cluster=False)
    if scheduler is not None and not isinstance(adapter, str | type):
        raise OptionError(
            f"adapter: is a loaded {type(adapter).__name__}, which cannot be sent to the workers of a cluster; expected a name, "
            "package.module:Class, file.py:Class or a class"
        )
    if score_size is not None:
        ScoreSize.of(score_size)
    part = None if shard is None else Shard.parse(shard)
    on = find_device(device) if scheduler is None else None
    if scheduler is None and isinstance(adapter, str):
        find_adapter(adapter)
    chosen = select_builds(manifests, dataset)
    check_selection(chosen, splits, conditions or ())
    root = local_data_root(data_root, chosen, splits, on_demand=True)
    spec = adapter if isinstance(adapter, str) else _class_of(adapter).__name__
    model = defaults.model_name(spec) if name is None else name
    folders = results_folders(output, {spec: model}, chosen)[spec]
    weights = local_place(checkpoint)
    with nullcontext() if scheduler is None else connect(scheduler) as client:
        loaded: Any = adapter
        if isinstance(adapter, str | type):
            loaded = (
                ClusterAdapter(client, adapter if isinstance(adapter, str) else spec_of(adapter), str(device))
                if on is None
                else load_adapter(adapter, checkpoint=weights, device=on, options=dict(options or {}))
            )
        run = partial(
            run_evaluation,
            adapter=loaded,
            name=model,
            spec=spec,
            splits=tuple(splits),
            conditions=conditions or None,
            data_root=root,
            device=on,
            batch_size=batch_size,
            readers=readers,
            save_masks=save_masks,
            checkpoint=weights,
            options=options,
            check=check,
            replace=replace,
            wait=wait,
            score_size=score_size,
            limit=limit,
            shard=part,
            progress=progress,
        )
        return [
            evaluate_into(folder, partial(run, manifest), part, wait=wait)
            for manifest, folder in zip(chosen, folders, strict=True)
        ]


def _class_of(adapter: type[Any] | Adapter) -> type[Any]:
    return adapter if isinstance(adapter, type) else type(adapter)
