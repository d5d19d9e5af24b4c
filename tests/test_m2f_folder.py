"""m2f in the layout of Hugging Face: written, read as a checkpoint, and refused where its files contradict each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_m2f import TINY

from avsrobust.adapters.lookup import load_adapter
from avsrobust.cli.main import invoke
from avsrobust.errors import AdapterError
from avsrobust.evaluation.model_key import state_of
from model_adapters.m2f.adapter import M2F, WEIGHTS, M2FDebias
from model_adapters.m2f.checkpoint import load_bundle, load_checkpoint, save_pretrained
from model_adapters.m2f.folder import CONFIG_NAME, WEIGHTS_NAME
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.training import M2FTraining

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tmp_path / "net", M2FNetwork.seeded(TINY, seed=3), {"debias": "none"}, card="# net\n")
    return tmp_path / "net"


def same(one: M2FNetwork, other: M2FNetwork) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_is_read_as_its_bundle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = load_checkpoint(folder)
    bundle = load_bundle(folder / WEIGHTS_NAME)
    assert same(loaded.network, bundle.network)
    assert loaded.network.config == TINY
    assert loaded.info == bundle.info == {"debias": "none"}
    assert loaded.report.missing == loaded.report.unexpected == ()


def test_config_json_is_of_our_kind(folder: Path) -> None:
    content = json.loads((folder / CONFIG_NAME).read_text())
    assert content["model_type"] == "avsrobust_m2f"
    assert (content["hidden_dim"], content["depths"]) == (32, [1, 1, 1, 1])


@pytest.mark.parametrize("adapter", [M2F, M2FDebias])
def test_bundled_weights_go_round(adapter: type[M2F], tmp_path: Path) -> None:
    first = adapter.load(None, CPU)
    first.save_pretrained(tmp_path / "net")
    again = adapter.from_pretrained(tmp_path / "net")
    assert same(first.network, again.network)
    # Debiasing too, which stands in the metadata.
    assert state_of(first) == state_of(again)
    assert (tmp_path / "net" / "README.md").read_bytes() == (WEIGHTS / f"{adapter.bundled}.md").read_bytes()
    again.save_pretrained(tmp_path / "twice")
    for name in ("README.md", CONFIG_NAME, WEIGHTS_NAME):
        assert (tmp_path / "net" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    with pytest.raises(AdapterError, match="is there already"):
        first.save_pretrained(tmp_path / "net")


def test_weights_that_another_tool_saved_take_their_configuration_from_the_folder(folder: Path) -> None:
    before = load_checkpoint(folder).network
    save_file(load_file(folder / WEIGHTS_NAME), folder / WEIGHTS_NAME, {"format": "pt"})
    change_config(folder, transformers_version="5.23", torch_dtype="float16")
    loaded = load_checkpoint(folder)
    assert same(loaded.network, before)


def test_files_that_contradict_each_other_are_refused(folder: Path) -> None:
    change_config(folder, num_queries=7)
    with pytest.raises(AdapterError, match="describes another network than the metadata"):
        load_checkpoint(folder)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS_NAME), folder / WEIGHTS_NAME)
    change_config(folder, num_queries=7)
    with pytest.raises(AdapterError, match=r"\b(does not fit|queries)\b"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mask2former"}, "found model_type 'mask2former'; expected avsrobust_m2f"),
        ({"hidden_dim": 10**9}, "hidden_dim"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_another_configuration_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    change_config(folder, **change)
    with pytest.raises(AdapterError, match=message):
        load_checkpoint(folder)


def test_missing_and_broken_files_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterError, match=r"found no model\.safetensors in it"):
        load_checkpoint(tmp_path / "empty")
    (folder / CONFIG_NAME).write_text("{")
    with pytest.raises(AdapterError, match="cannot be read as JSON"):
        load_checkpoint(folder)
    (folder / CONFIG_NAME).write_text("[]")
    with pytest.raises(AdapterError, match="found model_type"):
        load_checkpoint(folder)
    (folder / CONFIG_NAME).unlink()
    with pytest.raises(AdapterError, match=r"found no config\.json"):
        load_checkpoint(folder)


def test_training_starts_from_a_folder(folder: Path) -> None:
    model = M2FTraining.open({"config": json.loads(TINY.to_json())}, folder, 0, "x.yaml")
    wanted = load_checkpoint(folder).network.state_dict()
    # Training wraps the network, and adds parts of its own.
    found = {name.removeprefix("network."): tensor for name, tensor in model.network.state_dict().items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert model.notes == (f"starts from {folder}: {len(wanted)} tensors",)


def test_the_command_writes_what_checkpoint_reads(
    toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy_builds / "robust/s4-seed42", "robust/s4-seed42", symlinks=True)
    monkeypatch.setenv("AVSROBUST_DATA", str(toy_builds))
    evaluate = [
        "evaluate",
        "--split",
        "test",
        "--condition",
        "clean",
        "--condition",
        "silence",
        "--adapter",
        "m2f_robust",
    ]
    assert invoke(evaluate) == 0
    capsys.readouterr()
    assert invoke(["export", "model", "net", "--adapter", "m2f_robust", "--results", "results/m2f_robust"]) == 0
    assert capsys.readouterr().out == "net\n"
    card = Path("net/README.md").read_text()
    assert "silence_fpr" in card
    assert "license: apache-2.0" in card
    assert "avsrobust-toy-s4" not in card
    assert invoke([*evaluate, "--checkpoint", "net", "--name", "folder"]) == 0
    capsys.readouterr()
    assert invoke(["report", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = {line.partition(",")[0]: line.partition(",")[2] for line in lines[1:]}
    assert scores["m2f_robust"] == scores["folder"]
    assert load_adapter("m2f_robust", checkpoint=Path("net"), device=CPU, options={})
