"""What the options of `evaluate` come to, before a model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avsrobust.errors import AdapterError, ManifestError, OptionError
from avsrobust.evaluation.cluster import ClusterAdapter
from avsrobust.evaluation.shards import Shard
from avsrobust.evaluation_setup import EvaluationOptions, set_up


@pytest.fixture
def options(toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationOptions:
    monkeypatch.chdir(toy_builds)
    return EvaluationOptions(output=tmp_path / "results")


def test_models_builds_and_folders_are_found_by_the_options(options: EvaluationOptions, tmp_path: Path) -> None:
    setup = set_up(replace(options, shard="2/3"), {"oracle": None, "my/model.py:Net": object}, None)
    assert setup.models == {"oracle": "oracle", "my/model.py:Net": "Net"}
    assert [build.info.dataset for build in setup.builds] == ["ms3", "s4"]
    results = tmp_path / "results"
    assert setup.folders["my/model.py:Net"] == [results / "Net/ms3-seed42", results / "Net/s4-seed42"]
    assert setup.shard == Shard.parse("2/3")
    assert setup.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert not results.exists()


def test_a_name_takes_the_place_of_the_adapters(options: EvaluationOptions) -> None:
    setup = set_up(replace(options, dataset="s4"), {"empty": None}, "mine")
    assert setup.models == {"empty": "mine"}
    assert [Path(folder).parent.name for folder in setup.folders["empty"]] == ["mine"]


def test_without_a_cluster_an_adapter_is_loaded_here(options: EvaluationOptions) -> None:
    setup = set_up(options, {"empty": None}, None)
    with setup.connect() as client:
        assert client is None
        assert type(setup.load("empty", client)).__name__ == "Empty"


def test_workers_of_a_cluster_load_the_adapter_by_its_spec(options: EvaluationOptions) -> None:
    cluster = replace(options, engine="dask", scheduler="tcp://nowhere:1", device="cuda:7")
    # Neither the adapter nor the GPU need be here.
    setup = set_up(cluster, {"of_their_own": None}, None)
    assert setup.device is None
    assert setup.load("of_their_own", "client") == ClusterAdapter("client", "of_their_own", "cuda:7")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"score_size": "big"}, OptionError, "--score-size big"),
        ({"shard": "4/3"}, OptionError, "--shard 4/3"),
        ({"engine": "dask"}, OptionError, "--engine dask: needs --scheduler ADDRESS"),
        ({"device": "tpu"}, OptionError, "--device tpu: expected auto, cpu, cuda"),
        ({"manifests": "nothing"}, ManifestError, "nothing"),
        ({"splits": ("tset",)}, OptionError, "--split tset: .* did you mean 'test'"),
        ({"conditions": ("nosie",)}, OptionError, "--condition nosie: .* did you mean 'noise'"),
    ],
)
def test_options_that_cannot_be_used(
    options: EvaluationOptions, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        set_up(replace(options, **changes), {"oracle": None}, None)


def test_an_unknown_adapter(options: EvaluationOptions) -> None:
    with pytest.raises(AdapterError, match=r"--adapter orcale: unknown; .* did you mean 'oracle'"):
        set_up(options, {"orcale": None}, None)
