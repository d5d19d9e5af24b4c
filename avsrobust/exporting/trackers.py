"""Stored results as runs of an experiment tracker: TensorBoard, MLflow, Weights & Biases.

Conventions
    Each tracker is a module of this package that imports the tracker's own package when it is used. Runs are written to local
    files; MLflow's alone go to a server, where the user names one. A run of the same values that is there already is kept and
    not written again, so that an interrupted export is completed by the same call; one of other values is never replaced.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.exporting.runs import ResultRun, result_runs
from avsrobust.metrics import DEFAULT_PROTOCOL
from avsrobust.results import Scores

PROJECT = "avsrobust"


@dataclass(frozen=True)
class Target:
    """Destination of runs.

    Attributes:
        output: A folder, or, for MLflow, the address of a store as well.
        project: Name of the project or experiment, for trackers that have such.
        artifacts: Whether the results' files are attached to their runs.
    """

    output: str
    project: str = PROJECT
    artifacts: bool = False


@dataclass(frozen=True)
class Written:
    """A run: its path or address, and whether it was written now; False: it was there already."""

    place: str
    is_new: bool = True


Writer = Callable[[Sequence[ResultRun], Target], list[Written]]


@dataclass(frozen=True)
class Tracker:
    """One experiment tracker: its packages, the extra that installs them, the module that writes, and what it can do."""

    packages: tuple[str, ...]
    extra: str
    module: str
    has_projects: bool = True
    has_artifacts: bool = True


TRACKERS: Mapping[str, Tracker] = MappingProxyType(
    {
        "tensorboard": Tracker(
            ("tensorboard",), "tensorboard", "tensorboard_runs", has_projects=False, has_artifacts=False
        ),
        "mlflow": Tracker(("mlflow",), "mlflow", "mlflow_runs"),
        "wandb": Tracker(("wandb",), "wandb", "wandb_runs"),
    }
)


@dataclass(frozen=True)
class ExportedRuns:
    """Outcome of an export: the runs, and warnings."""

    places: tuple[str, ...]
    warnings: tuple[str, ...]


def export_results(
    results: Sequence[Scores],
    to: str,
    output: str,
    *,
    protocols: Sequence[str] = (DEFAULT_PROTOCOL,),
    task: str | None = None,
    project: str | None = None,
    artifacts: bool = False,
) -> ExportedRuns:
    """Write stored results as runs of an experiment tracker, one run per result.

    Args:
        results: Stored results (`avsrobust.reporting.loading.load_results`).
        to: "tensorboard", "mlflow" or "wandb".
        output: Folder to write to; for MLflow also the address of a store, such as ``sqlite:///runs.db``.
        protocols: Protocols of the scores.
        task: "semantic", "binary" or None, as in a report.
        project: Name of the project (W&B) or experiment (MLflow); None: "avsrobust".
        artifacts: Attach the files of each result, and its table, to its run.

    Raises:
        OptionError: The tracker is unknown or not installed, cannot do what is asked for, or something else is in the place of a
            run.
        ResultsError: The results cannot be shown, or two of them are one run.
    """
    name = check_target(to, output, project=project, artifacts=artifacts)
    runs, warnings = result_runs(results, protocols, task)
    write: Writer = importlib.import_module(f"{__package__}.{TRACKERS[to].module}").write_runs
    written = write(runs, Target(output, name, artifacts))
    warnings += [f"{one.place}: has these scores already; nothing was written" for one in written if not one.is_new]
    return ExportedRuns(tuple(one.place for one in written), tuple(warnings))


def check_target(to: str, output: str, *, project: str | None = None, artifacts: bool = False) -> str:
    """Return the project's name.

    Raises:
        OptionError: The tracker is unknown or not installed, or cannot do what is asked for.
    """
    if to not in TRACKERS:
        raise OptionError(f"--to {to}: expected {', '.join(TRACKERS)}{did_you_mean(to, TRACKERS)}")
    tracker = TRACKERS[to]
    if project is not None and not tracker.has_projects:
        raise OptionError(f"--project {project}: {to} has none; leave it out, and name another folder with --output")
    if artifacts and not tracker.has_artifacts:
        raise OptionError(f"--artifacts: {to} holds no files; leave it out, or export to mlflow or wandb")
    if not output.strip() or not output.isprintable():
        raise OptionError(f"--output {output!r}: expected a folder of printable characters")
    name = PROJECT if project is None else project
    if not name.strip() or not name.isprintable():
        raise OptionError(f"--project {name!r}: expected a name of printable characters")
    require_packages(to, tracker)
    return name


def require_packages(name: str, tracker: Tracker) -> None:
    """Raise `OptionError` where a package of a tracker is not installed."""
    missing = [package for package in tracker.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise OptionError(
            f"--to {name}: needs the package {missing[0]}, which is not installed; run 'pip install "
            f'"avsrobust[{tracker.extra}]"\''
        )
