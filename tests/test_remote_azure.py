"""Azure's blobs, by Azurite (npm): runs where its `azurite-blob` is on the PATH and adlfs is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import avsrobust as ar
from avsrobust.errors import OptionError
from avsrobust.files import sha256_of_file
from avsrobust.remote.store import Store
from avsrobust.toy.write import write_toy

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("adlfs")
SERVER = shutil.which("azurite-blob")
pytestmark = pytest.mark.skipif(SERVER is None, reason="needs azurite-blob")

# Azurite's public account.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
URL = "abfs://lab/results"
HOLDER = Path(__file__).parent / "samples" / "remote_holder.py"


@pytest.fixture
def azure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., AbstractContextManager[int]]
) -> Iterator[Any]:
    """fsspec's file system of a server of this test's own, with an empty container "lab"."""
    options = ["--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]

    def command(port: int) -> list[str]:
        return [str(SERVER), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]

    with serve(command, tmp_path) as port:
        account = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY}"
        endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{account};{endpoint}")
        monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
        fsspec.get_filesystem_class("abfs").clear_instance_cache()
        system = fsspec.filesystem("abfs", use_listings_cache=False)
        system.mkdir("lab")
        yield system


def start(folder: Path, machine: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "AVSROBUST_CACHE": str(folder / machine)}
    command = [sys.executable, str(HOLDER), URL, *arguments]
    return subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)


def test_build_and_results_have_the_bytes_of_local_ones(azure: Any, tmp_path: Path) -> None:
    write_toy(tmp_path / "data", "s4", clips=10, seed=5)
    azure.put(f"{tmp_path / 'data'}/", "lab/data/", recursive=True)
    there = ar.build("s4", data_root="abfs://lab/data", output="abfs://lab/robust/s4-seed42")
    here = ar.build("s4", data_root=tmp_path / "data", output=tmp_path / "robust" / "s4-seed42")
    assert sha256_of_file(there.manifest) == sha256_of_file(here.manifest)
    (results,) = ar.evaluate("visual_prior", "abfs://lab/robust/s4-seed42", data_root="abfs://lab/data", output=URL)
    (local,) = ar.evaluate("visual_prior", here.manifest, output=tmp_path / "results")
    scores = azure.cat_file("lab/results/visual_prior/s4-seed42/scores.parquet")
    assert scores == results.scores.read_bytes() == local.scores.read_bytes()
    assert [found.info.model for found in ar.load_results(URL)] == ["visual_prior"]


@pytest.mark.usefixtures("azure")
def test_a_holder_that_wakes_up_changes_nothing_of_the_next_one(tmp_path: Path) -> None:
    store = Store.open(URL)
    first = start(tmp_path, "one", "putting", "1")
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    second = start(tmp_path, "two", "no", "2")
    assert second.communicate(timeout=120)[1] == ""
    first.send_signal(signal.SIGCONT)
    _, told = first.communicate(timeout=120)
    assert told.startswith(f"{URL}: its lock was taken while this command was paused")
    assert (store.read("a"), store.read("b")) == (b"2", b"2")


def test_what_has_changed_is_neither_replaced_nor_deleted(azure: Any) -> None:
    azure.pipe_file("lab/results/a", b"1")
    store = Store.open(URL)
    before = store.look(["a"])["a"].version
    after = store.replace("a", b"22", before)
    assert after == store.look(["a"])["a"].version == store.listing()["a"].version
    assert store.replace("a", b"333", before) is None
    with pytest.raises(OptionError, match="cannot be written"):
        store.remove_versions({"a": before}, fenced=True)
    assert store.read("a") == b"22"
    store.remove_versions({"a": str(after)}, fenced=True)
    assert store.look(["a"]) == {}
