"""Runs for MLflow: parameters, metrics and, on request, artifacts, in a store of the user's.

Conventions
    A folder as output means the database ``OUTPUT/mlflow.db`` and artifacts below ``OUTPUT/artifacts``; ``mlflow ui
    --backend-store-uri sqlite:///OUTPUT/mlflow.db`` shows them. ``file:FOLDER`` is MLflow's older store of files,
    ``sqlite:///FILE`` any database, and ``http(s)://`` a server: nothing else is taken, and a server only where it is named.
    MLflow's own telemetry is switched off. The tag `avsrobust.key` tells whether a run is there already.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avsrobust.errors import OptionError
from avsrobust.exporting.runs import ResultRun
from avsrobust.exporting.trackers import Target, Written
from avsrobust.files import make_folder
from avsrobust.plugins import one_line

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_KEY = "avsrobust.key"
_SCHEMES = ("file", "sqlite", "http", "https")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
}


def write_runs(runs: Sequence[ResultRun], target: Target) -> list[Written]:
    """Write runs; return where each is, as ``<store>#<run id>``.

    Raises:
        OptionError: The store cannot be used.
    """
    address, artifacts = _store(target.output)
    with _environment(address), one_line(f"--output {target.output}: MLflow", OptionError):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=address)
        experiment = _experiment(client, target.project, artifacts)
        return [_write(client, experiment, run, target) for run in runs]


def _store(output: str) -> tuple[str, str | None]:
    """Return the store's address, and where artifacts of a new experiment go; None: where MLflow puts them."""
    if found := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", output):
        if found[1] not in _SCHEMES:
            raise OptionError(
                f"--output {output}: expected a folder, or an address that begins with {', '.join(_SCHEMES)}; name a folder"
            )
        return output, None
    folder = Path(output).absolute()
    make_folder(folder)
    return f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()


@contextmanager
def _environment(address: str) -> Iterator[None]:
    """Switch off what MLflow sends and says, for the block."""
    values = dict(_ENVIRONMENT)
    if address.startswith("file:"):
        # Newer releases refuse their own store of files otherwise.
        values["MLFLOW_ALLOW_FILE_STORE"] = "true"
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=artifacts))


def _write(client: MlflowClient, experiment: str, run: ResultRun, target: Target) -> Written:
    from mlflow.entities import Metric, Param, RunTag

    there = client.search_runs([experiment], f"tags.`{_KEY}` = '{run.key}' and attributes.status = 'FINISHED'")
    if there:
        return Written(f"{target.output}#{there[0].info.run_id}", is_new=False)
    created = client.create_run(experiment, run_name=run.name)
    run_id = created.info.run_id
    try:
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in run.scores.items()],
            params=[Param(name, value) for name, value in run.parameters.items()],
            tags=[RunTag(_KEY, run.key)],
        )
        if target.artifacts:
            client.log_text(run_id, run.table, "table.md")
            for path in run.files:
                client.log_artifact(run_id, str(path))
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return Written(f"{target.output}#{run_id}")
