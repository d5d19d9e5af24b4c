"""Stored results in experiment trackers, read back with their own readers. MLflow and W&B are tried where they are installed."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avsrobust.cli import export as cli_export
from avsrobust.errors import OptionError
from avsrobust.exporting.runs import result_runs
from avsrobust.exporting.trackers import TRACKERS, export_results
from avsrobust.results import Run, Scores, write_run, write_scores

HOSTILE = "../<b>\x1b[31m\u202e"


def half(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    found = targets * 0.7
    found[:, ::2] = 0.0
    return found


@pytest.fixture
def results(make_scores: Callable[..., Scores], tmp_path: Path) -> list[Scores]:
    """Results of two models, in files."""
    from avsrobust.reporting.loading import load_results

    for model, predict in (("net", half), ("other", "oracle")):
        folder = tmp_path / "results" / model
        write_scores(folder / "scores.parquet", make_scores(predict, model=model, levels=(-3.0,)))
        write_run(folder / "run.json", Run(model, "s4", {"adapter": {"spec": model, "class": model}}))
    return load_results([tmp_path / "results"])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Addresses that this process tries to reach beyond itself; each attempt fails."""
    tried: list[Any] = []
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            tried.append(address)
            raise OSError("no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


def switches() -> dict[str, str]:
    """What the environment tells trackers."""
    return {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW", "WANDB", "DO_NOT", "GIT"))}


# TensorBoard


def events(folder: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(folder)
    reader.Reload()
    return reader


def test_tensorboard_reads_the_scores(results: Sequence[Scores], tmp_path: Path) -> None:
    exported = export_results(results, "tensorboard", str(tmp_path / "runs"), protocols=["avsbench", "strict"])
    assert exported.warnings == ()
    assert exported.places == tuple(str(tmp_path / "runs" / name / "s4-seed42") for name in ("net", "other"))
    runs, _ = result_runs(results, ["avsbench", "strict"])
    for run, place in zip(runs, exported.places, strict=True):
        reader = events(place)
        found = {
            name: reader.Tensors(name)[0].tensor_proto for name in reader.Tags()["tensors"] if "/text_" not in name
        }
        scalars = {name: reader.Scalars(name)[0].value for name in reader.Tags()["scalars"]}
        values = {**{name: next(iter(proto.double_val or proto.float_val)) for name, proto in found.items()}, **scalars}
        assert {name: values[name] for name in run.scores} == pytest.approx(dict(run.scores), abs=1e-7)
        assert "s4/test/strict/mixture:-3/mIoU" in values


def test_tensorboard_has_parameters_and_table(results: Sequence[Scores], tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    place = export_results(results, "tensorboard", str(tmp_path / "runs")).places[0]
    summary = events(place).SummaryMetadata(metadata.SESSION_START_INFO_TAG)
    hparams = metadata.parse_session_start_info_plugin_data(summary.plugin_data.content).hparams
    assert hparams["adapter"].string_value == "net"
    assert hparams["seed"].string_value == "42"
    assert "G-mIoU" in events(place).Tensors("table/text_summary")[0].tensor_proto.string_val[0].decode()


def test_tensorboard_is_never_written_over(results: Sequence[Scores], tmp_path: Path) -> None:
    output = str(tmp_path / "runs")
    places = export_results(results, "tensorboard", output).places
    before = {path: path.read_bytes() for path in Path(output).rglob("*") if path.is_file()}
    again = export_results(results, "tensorboard", output)
    assert again.places == places
    assert [warning.endswith("nothing was written") for warning in again.warnings] == [True, True]
    with pytest.raises(OptionError, match="is there already and is not this run"):
        export_results(results, "tensorboard", output, protocols=["strict"])
    assert {path: path.read_bytes() for path in Path(output).rglob("*") if path.is_file()} == before


def test_what_is_in_the_way_stays(results: Sequence[Scores], tmp_path: Path) -> None:
    mine = tmp_path / "runs" / "other" / "s4-seed42" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OptionError, match="is there already and is not this run"):
        export_results(results, "tensorboard", str(tmp_path / "runs"))
    assert mine.read_text() == "mine"
    # Nothing of the other result either.
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["other"]


def test_hostile_names_stay_below_the_folder(make_scores: Callable[..., Scores], tmp_path: Path) -> None:
    scores = make_scores(half, model=HOSTILE, split="../up")
    (place,) = export_results([scores], "tensorboard", str(tmp_path / "runs")).places
    assert Path(place).resolve().is_relative_to(tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


# MLflow


def test_mlflow_reads_runs_back(results: Sequence[Scores], tmp_path: Path, no_network: list[Any]) -> None:
    pytest.importorskip("mlflow")
    output = tmp_path / "store"
    environment = switches()
    exported = export_results(results, "mlflow", str(output), artifacts=True)
    assert switches() == environment
    again = export_results(results, "mlflow", str(output), artifacts=True)
    assert again.places == exported.places
    assert len(again.warnings) == 2
    export_results(results, "mlflow", str(output), protocols=["strict"], project="another")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{output}/mlflow.db")
    experiment = client.get_experiment_by_name("avsrobust")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"net/s4-seed42", "other/s4-seed42"}
    for one in result_runs(results)[0]:
        run = found[one.name]
        assert run.data.metrics == dict(one.scores)
        assert run.data.params == dict(one.parameters)
        assert run.info.status == "FINISHED"
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert names == {"scores.parquet", "run.json", "table.md"}
    assert len(client.search_runs([client.get_experiment_by_name("another").experiment_id])) == 2
    assert no_network == []


def test_mlflow_takes_a_store_by_its_address(results: Sequence[Scores], tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    address = f"sqlite:///{tmp_path}/mine.db"
    (first, _) = export_results(results, "mlflow", address).places
    assert first.startswith(f"{address}#")
    assert (tmp_path / "mine.db").is_file()


def test_mlflow_refuses_other_addresses(
    results: Sequence[Scores], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    for address in ("databricks://me", "s3://bucket/x"):
        with pytest.raises(OptionError, match="expected a folder, or an address that begins with file, sqlite"):
            export_results(results, "mlflow", address)
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OptionError, match="taken"):
        export_results(results, "mlflow", "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_mlflow_takes_hostile_names(make_scores: Callable[..., Scores], tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    scores = make_scores(half, model=HOSTILE, split="../up")
    export_results([scores], "mlflow", str(tmp_path / "store"), artifacts=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# W&B


def test_wandb_writes_offline_runs(results: Sequence[Scores], tmp_path: Path, no_network: list[Any]) -> None:
    pytest.importorskip("wandb")
    environment = switches()
    exported = export_results(results, "wandb", str(tmp_path / "runs"), project="mine", artifacts=True)
    assert switches() == environment
    assert no_network == []
    again = export_results(results, "wandb", str(tmp_path / "runs"), project="mine", artifacts=True)
    assert again.places == exported.places
    assert len(again.warnings) == 2
    for run, place in zip(result_runs(results)[0], exported.places, strict=True):
        (path,) = Path(place).glob("*.wandb")
        found: dict[str, Any] = {}
        config, summary = {}, {}
        for record in wandb_records(path.read_bytes()):
            config |= {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
            summary |= {
                entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in record.summary.update
            }
            if record.run.project:
                found = {"project": record.run.project, "name": record.run.display_name, "host": record.run.host}
        assert found == {"project": "mine", "name": run.name, "host": ""}
        assert {name: config[name] for name in run.parameters} == dict(run.parameters)
        assert {name: summary[name] for name in run.scores} == dict(run.scores)


def wandb_records(content: bytes) -> Iterator[Any]:
    """Records of a ``.wandb`` file: LevelDB's log format (blocks of 32 KiB; checksum, length, type, data) behind 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    position, pieces = 7, b""
    while position < len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        pieces += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""


def test_an_interrupted_wandb_run_is_named(results: Sequence[Scores], tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = result_runs(results)[0][0]
    (tmp_path / "wandb" / f"offline-run-20260101_000000-{run.key[:32]}").mkdir(parents=True)
    with pytest.raises(OptionError, match="was interrupted"):
        export_results(results, "wandb", str(tmp_path))


# All


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_with_its_extra(
    name: str, results: Sequence[Scores], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda wanted, *rest: None if wanted == name else found(wanted, *rest)
    )
    with pytest.raises(OptionError, match=rf"--to {name}: needs the package {name}.*avsrobust\[{name}\]"):
        export_results(results, name, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_refused(results: Sequence[Scores], tmp_path: Path) -> None:
    for message, to, options in (
        ("did you mean 'mlflow'", "mlflw", {}),
        ("--project x: tensorboard has none", "tensorboard", {"project": "x"}),
        ("--artifacts: tensorboard holds no files", "tensorboard", {"artifacts": True}),
        ("--project 'a\\\\nb': expected a name", "wandb", {"project": "a\nb"}),
    ):
        with pytest.raises(OptionError, match=message):
            export_results(results, to, str(tmp_path / "out"), **options)
    with pytest.raises(OptionError, match="--output"):
        export_results(results, "tensorboard", " ")
    assert not (tmp_path / "out").exists()


def test_the_command_knows_all_trackers() -> None:
    assert tuple(TRACKERS) == cli_export.TRACKERS
