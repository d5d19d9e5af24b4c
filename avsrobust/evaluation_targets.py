"""The targets of an evaluation: its builds, the folders of its results, its device.

Conventions
    Checked before any model is loaded. Messages name the command's options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avsrobust import defaults
from avsrobust.errors import ManifestError, OptionError, did_you_mean
from avsrobust.remote import is_remote, join, output_folder, published, put_so_far, remote_marker, require_own
from avsrobust.remote.inputs import local_build, local_data_root

if TYPE_CHECKING:
    import torch

    from avsrobust.evaluation.runner import EvaluationReport
    from avsrobust.evaluation.shards import Shard
    from avsrobust.manifest import Manifest

__all__ = [
    "check_selection",
    "evaluate_into",
    "find_device",
    "local_data_root",
    "results_folders",
    "select_builds",
]


def select_builds(
    manifests: Path | str | Manifest | Sequence[Path | str | Manifest] | None = None, dataset: str | None = None
) -> list[Manifest]:
    """Return the manifests that are named (default: every build under ``robust``), only those of `dataset`.

    Of a build on another machine the small files are copied; all else is fetched when an evaluation reads it.

    Raises:
        ManifestError: There is no build, or one cannot be read.
        OptionError: No build is of this data set.
    """
    from avsrobust.manifest import MANIFEST_NAME, Manifest, load_manifest

    root = defaults.BUILDS_ROOT
    named = [manifests] if isinstance(manifests, Manifest | Path | str) else list(manifests or ())
    found = named or sorted(root.glob(f"*/{MANIFEST_NAME}"))
    unknown: OptionError | None = None
    wanted = dataset
    if dataset is not None:
        from avsrobust.datasets.registry import find_dataset

        try:
            wanted = find_dataset(dataset).name
        except OptionError as error:
            # A build's data set may be one of a plug-in that is not installed here.
            unknown = error
    if unknown is not None and not found:
        raise unknown
    if not found:
        raise ManifestError(
            f"{root}/: found no build; expected {root}/<dataset>-seed<seed>/{MANIFEST_NAME}; "
            "run 'avsrobust build --dataset s4 --seed 42' first, or name one with --manifest"
        )
    builds = [
        entry.from_here() if isinstance(entry, Manifest) else load_manifest(local_build(entry, on_demand=True))
        for entry in found
    ]
    if unknown is not None and dataset not in {manifest.info.dataset for manifest in builds}:
        raise unknown
    chosen = [manifest for manifest in builds if wanted in (None, manifest.info.dataset)]
    if not chosen:
        names = ", ".join(sorted({manifest.info.dataset for manifest in builds}))
        raise OptionError(
            f"--dataset {dataset}: found builds of {names} only; run 'avsrobust build --dataset {dataset}'"
        )
    return chosen


def check_selection(builds: Sequence[Manifest], splits: Sequence[str], conditions: Sequence[str]) -> None:
    """Raise `OptionError` where a build has no row of a split or condition."""
    for manifest in builds:
        for option, requested, there in (
            ("--split", splits, manifest.distinct("split")),
            ("--condition", conditions, manifest.distinct("condition")),
        ):
            for value in requested:
                if value not in there:
                    raise OptionError(
                        f"{option} {value}: {manifest.path} has only {', '.join(there)}{did_you_mean(value, there)}"
                    )


def results_folders(
    root: Path | str, models: Mapping[str, str], builds: Sequence[Manifest]
) -> dict[str, list[Path | str]]:
    """Return the results folder ``ROOT/<model>/<build>`` of each adapter's spec on each build: URLs where the root is one.

    Raises:
        OptionError: Two of them are one folder, one holds files that are not ours, or the root holds a build or the like.
    """
    from avsrobust.folders import ensure_own, folder_name, read_marker, require_root, same_folder
    from avsrobust.results import RESULTS_KIND

    require_root(f"--output {root}", remote_marker(root) if is_remote(root) else read_marker(Path(root)), RESULTS_KIND)
    taken: dict[str, str] = {}
    folders: dict[str, list[Path | str]] = {}
    for spec, model in models.items():
        if not model.strip() or not model.isprintable():
            raise OptionError(f"--name {model!r}: expected a name of printable characters")
        folders[spec] = []
        for manifest in builds:
            info = manifest.info
            build_folder = defaults.build_name(
                info.dataset, info.seed, str(info.recipe.get("name", defaults.RECIPE)), info.release
            )
            folder = join(root, folder_name(model), folder_name(build_folder))
            found = f"--adapter {spec} on {manifest.path}"
            if (other := taken.setdefault(same_folder(folder), found)) != found:
                raise OptionError(
                    f"{found}: its results would lie in {folder}, as those of {other} do; expected a folder for each; evaluate "
                    "them one at a time, with a --name (models) or an --output (builds) of its own"
                )
            if is_remote(folder):
                require_own(folder, RESULTS_KIND)
            else:
                ensure_own(Path(folder), RESULTS_KIND)
            folders[spec].append(folder)
    return folders


def evaluate_into(
    folder: Path | str, run: Callable[..., EvaluationReport], shard: Shard | None = None, *, wait: bool = False
) -> EvaluationReport:
    """Return the report of an evaluation that writes to a results folder, here or at a URL.

    Args:
        folder: The results folder.
        run: Evaluates into the folder of this machine that it is called with, as ``output``; calls ``on_saved`` where finished
            clips have been written: they are put to the URL now and then.
        shard: The part of the clips that is evaluated.
        wait: Wait until another process gives the folder up.

    Raises:
        OptionError: The folder cannot be used.
    """
    from avsrobust.results import RESULTS_KIND, SHARDS_NAME

    part = "" if shard is None else f"{SHARDS_NAME}/{shard.folder_name}"
    with output_folder(folder, "avsrobust evaluate", RESULTS_KIND, part=part, without=SHARDS_NAME, wait=wait) as local:
        report = run(output=local, on_saved=partial(put_so_far, local, often=True))
    masks = None if report.masks is None else published(report.masks)
    return dataclasses.replace(report, scores=published(report.scores), masks=masks)


def check_device_name(name: str) -> None:
    """Raise `OptionError` where no device has this name anywhere; torch is not loaded for it."""
    import re

    if name != "auto" and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise OptionError(
            f"--device {name}: expected auto, cpu, cuda or cuda:N{did_you_mean(name, ['auto', 'cpu', 'cuda'])}"
        )


def find_device(name: str | torch.device) -> torch.device:
    """Return a torch device; "auto" is a GPU where there is one.

    Raises:
        OptionError: The name is unknown, or there is no such GPU.
    """
    if isinstance(name, str):
        check_device_name(name)
    import torch

    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise OptionError(f"--device {name}: torch {torch.__version__} sees no GPU here; use --device cpu or auto")
    return torch.device(name)
