"""Running models over builds (`avsrobust.api`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsrobust import defaults
from avsrobust.callbacks import ProgressCallback
from avsrobust.evaluation_setup import EvaluationOptions, set_up
from avsrobust.plain_arguments import with_plain_arguments
from avsrobust.remote import naming_addresses

if TYPE_CHECKING:
    import torch

    from avsrobust.adapters.base import Adapter
    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.manifest import Manifest

AnyPath = Path | str


@naming_addresses()
@with_plain_arguments
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
        shard: "2/4": the second of four parts of the clips; `evaluation.merging.merge_shards` puts the parts together.
        engine: "local" runs the model in this process; "dask" in the workers of a cluster, each with a model of its own:
            `adapter` is then a text, or a class that workers can import.
        scheduler: Address of a running dask scheduler, for the engine "dask".

    Returns:
        One report for each build.

    Raises:
        AdapterError: The adapter cannot be found, loaded or run.
        ManifestError: There is no build, or its data is not the manifest's.
        OptionError: A selection has no rows, or a folder belongs to another model or is in use.
    """
    from avsrobust.errors import OptionError

    if scheduler is not None and not isinstance(adapter, str | type):
        raise OptionError(
            f"adapter: is a loaded {type(adapter).__name__}, which cannot be sent to the workers of a cluster; expected a name, "
            "package.module:Class, file.py:Class or a class"
        )
    chosen = EvaluationOptions(
        manifests=manifests,
        dataset=dataset,
        data_root=data_root,
        output=output,
        checkpoint=checkpoint,
        options=dict(options or {}),
        device=device,
        splits=splits,
        conditions=conditions or (),
        batch_size=batch_size,
        readers=readers,
        save_masks=save_masks,
        score_size=score_size,
        limit=limit,
        shard=shard,
        engine=engine,
        scheduler=scheduler,
        check=check,
        replace=replace,
        wait=wait,
    )
    known = None if isinstance(adapter, str) else adapter if isinstance(adapter, type) else type(adapter)
    spec = str(adapter) if known is None else known.__name__
    setup = set_up(chosen, {spec: known}, name)
    with setup.connect() as client:
        loaded: Any = setup.load(adapter, client) if isinstance(adapter, str | type) else adapter
        return [
            setup.evaluate(loaded, spec, manifest, folder, progress)
            for manifest, folder in zip(setup.builds, setup.folders[spec], strict=True)
        ]
