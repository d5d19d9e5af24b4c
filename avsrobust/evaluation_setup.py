"""An evaluation of models on builds, set up from the options of `evaluate`.

Conventions
    All that the options can get wrong is checked before any model is loaded. Messages name the command's options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
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

if TYPE_CHECKING:
    import torch

    from avsrobust.adapters.base import Adapter
    from avsrobust.evaluation.cluster import ClusterAdapter
    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.evaluation.shards import Shard
    from avsrobust.manifest import Manifest

__all__ = ["EvaluationOptions", "EvaluationSetup", "set_up"]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of `evaluate` that hold for all its models and builds; `avsrobust.api.evaluate` documents each.

    Attributes:
        manifests: Manifests, their paths or their folders; None: every build under ``robust``.
        dataset: Only builds of this data set; None: of all.
        data_root: Folder of the data set; None: the one that each build remembers.
        output: Root of the results.
        checkpoint: Weights of the model.
        options: The adapter's options.
        device: "auto", "cpu", "cuda", "cuda:N" or a torch device.
        splits: Splits.
        conditions: Conditions; empty: all.
        batch_size: Clips at a time; None: by memory.
        readers: Threads that read clips; None: by the number of cores.
        save_masks: Whether masks are kept.
        score_size: Size of the scored masks; None: that of the mask files.
        limit: Number of clips of each build; None: all.
        shard: Part of the clips, "i/n"; None: all.
        engine: "local" or "dask".
        scheduler: Address of a dask scheduler, or None.
        check: Whether a few clips are run twice first.
        replace: Whether results of another model give way.
        wait: Whether to wait for a folder that another process holds.
    """

    manifests: Path | str | Manifest | Sequence[Path | str | Manifest] | None = None
    dataset: str | None = None
    data_root: Path | str | None = None
    output: Path | str = defaults.RESULTS_ROOT
    checkpoint: Path | str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    device: str | torch.device = "auto"
    splits: Sequence[str] = ("test",)
    conditions: Sequence[str] = ()
    batch_size: int | None = None
    readers: int | None = None
    save_masks: bool = False
    score_size: str | int | None = None
    limit: int | None = None
    shard: str | None = None
    engine: str = "local"
    scheduler: str | None = None
    check: bool = True
    replace: bool = False
    wait: bool = False


@dataclass(frozen=True)
class EvaluationSetup:
    """Models, builds and folders of an evaluation.

    Attributes:
        options: The options.
        models: Name in tables of each model, by the adapter's spec.
        builds: The builds.
        folders: The results folder of each build, in their order, by the adapter's spec.
        data_root: Folder of the data set on this machine; None: the one that each build remembers.
        checkpoint: Weights on this machine, or None.
        device: Device of the models; None: the workers of a cluster have devices of their own.
        shard: The part of the clips; None: all.
    """

    options: EvaluationOptions
    models: Mapping[str, str]
    builds: Sequence[Manifest]
    folders: Mapping[str, Sequence[Path | str]]
    data_root: Path | None
    checkpoint: Path | None
    device: torch.device | None
    shard: Shard | None

    def connect(self) -> AbstractContextManager[Any]:
        """Return the context of a client of the dask scheduler; of None where models run in this process."""
        from avsrobust.dask_client import connect

        return nullcontext() if self.options.scheduler is None else connect(self.options.scheduler)

    def load(self, adapter: str | type[Any], client: Any) -> Adapter | ClusterAdapter:
        """Load an adapter here, or name it to the workers of a cluster, which load it.

        Args:
            adapter: The adapter's spec or class.
            client: What `connect` yields.

        Raises:
            AdapterError: It cannot be found or loaded.
        """
        from avsrobust.adapters.lookup import load_adapter
        from avsrobust.evaluation.cluster import ClusterAdapter
        from avsrobust.plugins import spec_of

        if self.device is None:
            spec = adapter if isinstance(adapter, str) else spec_of(adapter)
            return ClusterAdapter(client, spec, str(self.options.device))
        return load_adapter(adapter, checkpoint=self.checkpoint, device=self.device, options=dict(self.options.options))

    def evaluate(
        self,
        adapter: Adapter | ClusterAdapter,
        spec: str,
        manifest: Manifest,
        folder: Path | str,
        progress: ProgressCallback | None = None,
    ) -> EvaluationReport:
        """Evaluate a model on a build (`evaluation.runner.evaluate`).

        Args:
            adapter: The loaded adapter.
            spec: The adapter's spec, one of `models`.
            manifest: The build.
            folder: Its results folder.
            progress: Called with (clips done, clips in total).
        """
        from avsrobust.evaluation.runner import evaluate

        options = self.options
        run = partial(
            evaluate,
            manifest,
            adapter,
            name=self.models[spec],
            spec=spec,
            splits=tuple(options.splits),
            conditions=options.conditions or None,
            data_root=self.data_root,
            device=self.device,
            batch_size=options.batch_size,
            readers=options.readers,
            save_masks=options.save_masks,
            checkpoint=self.checkpoint,
            options=options.options,
            check=options.check,
            replace=options.replace,
            wait=options.wait,
            score_size=options.score_size,
            limit=options.limit,
            shard=self.shard,
            progress=progress,
        )
        return evaluate_into(folder, run, self.shard, wait=options.wait)


def set_up(options: EvaluationOptions, adapters: Mapping[str, type[Any] | None], name: str | None) -> EvaluationSetup:
    """Check the options of an evaluation and find its builds and folders.

    Args:
        options: The options.
        adapters: The adapter's class, where it is at hand, by its spec.
        name: Name of the only model in tables; None: names follow from the specs.

    Raises:
        AdapterError: An adapter cannot be found.
        ManifestError: There is no build, or one cannot be read.
        OptionError: Another option cannot be used.
    """
    from avsrobust.adapters.lookup import find_adapter
    from avsrobust.dask_client import check_engine
    from avsrobust.evaluation.score_size import ScoreSize
    from avsrobust.evaluation.shards import Shard
    from avsrobust.remote.inputs import local_place

    if options.score_size is not None:
        ScoreSize.of(options.score_size)
    shard = None if options.shard is None else Shard.parse(options.shard)
    check_engine(options.engine, options.scheduler, own_cluster=False)
    device = None
    # The workers of a cluster have devices and plug-ins of their own.
    if options.scheduler is None:
        for spec, adapter in adapters.items():
            if adapter is None:
                find_adapter(spec)
        device = find_device(options.device)
    builds = select_builds(options.manifests, options.dataset)
    check_selection(builds, options.splits, options.conditions)
    models = {spec: defaults.model_name(spec) if name is None else name for spec in adapters}
    return EvaluationSetup(
        options=options,
        models=models,
        builds=builds,
        data_root=local_data_root(options.data_root, builds, options.splits, on_demand=True),
        checkpoint=local_place(options.checkpoint),
        folders=results_folders(options.output, models, builds),
        device=device,
        shard=shard,
    )
