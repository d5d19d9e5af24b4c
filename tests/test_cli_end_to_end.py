"""The three commands of the mission and what surrounds them, through the installed command, on the toy.

Every command is a process of its own once; `call` runs further ones here.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from commands import call as call_here

from avsrobust import load_manifest
from avsrobust.manifest import Manifest

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
CLIPS = 26


def run(folder: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [AVSROBUST, *arguments], cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def call(folder: Path, *arguments: str, status: int = 0) -> str:
    done = call_here(folder, *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    return toy_in(tmp_path_factory.mktemp("toy") / "data", s4=CLIPS, seed=5)


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    out = call(folder, "build", "--dataset", "s4", "--seed", "42", "--data-root", str(data))
    assert out == "robust/s4-seed42/manifest.parquet\n"
    return folder


@pytest.fixture(scope="module")
def evaluated(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    call(folder, "evaluate", "--adapter", "oracle", "--manifest", str(built / "robust/s4-seed42"))
    return folder / "results"


def test_the_three_commands_chain_without_options(data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(data)
    run(tmp_path, "build", "--dataset", "s4", "--seed", "42")
    out = run(tmp_path, "evaluate", "--adapter", "visual_prior", "--adapter", "oracle")
    assert out.splitlines() == [f"results/{name}/s4-seed42/scores.parquet" for name in ("visual_prior", "oracle")]
    table = pd.read_csv(io.StringIO(run(tmp_path, "report", "--format", "csv", "--protocol", "strict")))
    assert list(table["model"]) == ["oracle", "visual_prior"]
    assert table.loc[0, ["G_mIoU", "G_F", "G_FPR"]].tolist() == [1.0, 1.0, 0.0]
    assert table.loc[1, ["mIoU", "G_mIoU", "G_F"]].tolist() == [1.0, 0.0, 0.0]
    header = (
        "model,dataset,split,protocol,clips,mIoU,F,silence_mIoU,silence_F,silence_FPR,noise_mIoU,noise_F,noise_FPR,"
        "offscreen_mIoU,offscreen_F,offscreen_FPR,G_mIoU,G_F,G_FPR,seed,recipe,release,signature"
    )
    assert ",".join(table.columns) == header


@pytest.mark.parametrize("format_name", ["csv", "md", "latex", "json", "parquet", "html"])
def test_every_format_is_written(format_name: str, evaluated: Path, tmp_path: Path) -> None:
    arguments = (
        "report",
        str(evaluated),
        "--format",
        format_name,
        "--protocol",
        "avsbench",
        "--protocol",
        "strict",
        "--by",
        "category",
    )
    assert call(tmp_path, *arguments, "--output", "table.out") == "table.out\n"
    assert b"oracle" in (tmp_path / "table.out").read_bytes()


def test_extra_scores_and_other_negatives_are_options_of_report(built: Path, tmp_path: Path) -> None:
    manifest = str(built / "robust/s4-seed42")
    call(tmp_path, "evaluate", "--adapter", "oracle", "--manifest", manifest, "--split", "val", "--split", "test")
    arguments = ("--scores", "activation,threshold", "--scores", "overlap", "--negatives", "noise,silence")
    text = call(tmp_path, "report", "--format", "csv", "--protocol", "avsbench@batch=2", *arguments)
    table = pd.read_csv(io.StringIO(text)).set_index("split")
    assert table.loc["test", ["silence_AOC", "silence_S", "universal_G_mIoU", "overlap_clean_noise"]].tolist() == [
        1,
        0,
        1,
        0,
    ]
    assert set(table["protocol"]) == {"avsbench@batch=2"}
    assert all(";batch:2;negatives:silence+noise;" in signature for signature in table["signature"])
    assert call(tmp_path, "report", "--scores", "activaton", status=2) == ""
    assert call(tmp_path, "report", "--negatives", "clean", status=2) == ""
    assert call(tmp_path, "report", "--by", "avs_v3", status=2) == ""


def test_compare_and_audit(built: Path, tmp_path: Path) -> None:
    manifest = str(built / "robust/s4-seed42/manifest.parquet")
    call(tmp_path, "evaluate", "--adapter", "visual_prior", "--adapter", "oracle", "--manifest", manifest)
    text = run(tmp_path, "compare", "results/oracle/s4-seed42", "results/visual_prior/s4-seed42", "--samples", "200")
    assert "G-mIoU" in text
    call(tmp_path, "evaluate", "--adapter", "empty", "--manifest", manifest)
    text = call(
        tmp_path,
        "compare",
        "results",
        "--reference",
        "oracle",
        "--samples",
        "500",
        "--changed",
        "1",
        "--format",
        "json",
    )
    found = json.loads(text)
    assert [(entry["a"], entry["b"]) for entry in found["comparisons"]] == [
        ("empty", "oracle"),
        ("visual_prior", "oracle"),
    ]
    assert all(len(entry["splits"][0]["changed"]) == 1 for entry in found["comparisons"])
    assert not any("borrowed sounds" in note for entry in found["comparisons"] for note in entry["notes"])
    call(tmp_path, "compare", "results/oracle", "results/oracle", status=2)
    shutil.copytree(tmp_path / "results/oracle", tmp_path / "again")
    same = call(tmp_path, "compare", "results/oracle", "again", "--samples", "100", "--format", "json")
    assert all(
        entry["difference"] == 0 and entry["p_holm"] == 1 for entry in json.loads(same)["splits"][0]["differences"]
    )
    assert "offscreen" in run(tmp_path, "audit", manifest)


def test_verify_finds_a_changed_sound(built: Path, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "build"
    shutil.copytree(built / "robust/s4-seed42", copy, symlinks=True)
    assert "all in order" in call(tmp_path, "verify", "build/manifest.parquet")
    noise = next((copy / "audio/noise").rglob("*.wav"))
    content = bytearray(noise.read_bytes())
    content[-1] ^= 1
    noise.write_bytes(content)
    assert noise.name in run(tmp_path, "verify", "build/manifest.parquet", status=1)


def test_bytes_do_not_depend_on_the_number_of_workers(built: Path, data: Path, tmp_path: Path) -> None:
    call(tmp_path, "build", "--dataset", "s4", "--data-root", str(data), "--workers", "2")
    assert checksums(tmp_path / "robust") == checksums(built / "robust")


SHUFFLED = """
import os, random
_listdir, _scandir = os.listdir, os.scandir
def listdir(path="."):
    names = _listdir(path); random.shuffle(names); return names
class scandir:
    def __init__(self, path="."):
        self._inner = _scandir(path)
        self._entries = list(self._inner); random.shuffle(self._entries); self._it = iter(self._entries)
    def __iter__(self): return self._it
    def __next__(self): return next(self._it)
    def __enter__(self): return self
    def __exit__(self, *rest): self._inner.close()
    def close(self): self._inner.close()
os.listdir, os.scandir = listdir, scandir
"""


def test_bytes_do_not_depend_on_directory_listings_or_place(built: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHUFFLED)
    copy = tmp_path / "elsewhere"
    files = [path for path in sorted(data.rglob("*")) if path.is_file()]
    random.Random(0).shuffle(files)
    for path in files:
        target = copy / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run(tmp_path, "build", "--dataset", "s4", "--data-root", str(copy), PYTHONPATH=str(tmp_path / "site"))
    assert checksums(tmp_path / "robust") == checksums(built / "robust")


def test_a_killed_build_is_completed(built: Path, data: Path, tmp_path: Path) -> None:
    whole = checksums(built / "robust")
    command = [AVSROBUST, "build", "--dataset", "s4", "--data-root", str(data)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    robust = tmp_path / "robust"
    while process.poll() is None and len(list(robust.rglob("*.wav"))) < CLIPS // 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (robust / "s4-seed42/manifest.parquet").exists()
    started = {path: path.stat().st_mtime_ns for path in robust.rglob("*.wav")}
    assert 0 < len(started) < CLIPS
    call(tmp_path, "evaluate", "--adapter", "oracle", status=2)
    call(tmp_path, "build", "--dataset", "s4", "--data-root", str(data))
    assert checksums(robust) == whole
    assert {path: path.stat().st_mtime_ns for path in started} == started


def _sounds(manifest: Manifest) -> dict[tuple[str, str], tuple[str, str | None]]:
    return {(row.clip_id, row.condition): (row.audio_sha256, row.source_clip_id) for row in manifest.rows}


def test_without_one_clip_the_others_stay_as_they_were(built: Path, data: Path, tmp_path: Path) -> None:
    table = data / "Single-source/s4_meta_data.csv"
    lines = table.read_text().splitlines(keepends=True)
    root = tmp_path / "data"
    (root / "Single-source").mkdir(parents=True)
    (root / "Single-source/s4_data").symlink_to(data / "Single-source/s4_data")
    before = _sounds(load_manifest(built / "robust/s4-seed42"))
    source_clips = [source_clip for _, source_clip in before.values() if source_clip is not None]
    gone = max(set(source_clips), key=lambda source_clip: (source_clips.count(source_clip), source_clip))
    (root / "Single-source/s4_meta_data.csv").write_text(
        "".join(line for line in lines if line.split(",")[0] != gone.split("/")[1])
    )
    call(tmp_path, "build", "--dataset", "s4", "--data-root", str(root))
    after = _sounds(load_manifest(tmp_path / "robust/s4-seed42"))
    assert set(before) - set(after) == {(gone, name) for name in ("clean", "silence", "noise", "offscreen")}
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {key for key, (_, source_clip) in before.items() if source_clip == gone and key in after}
    assert all(condition == "offscreen" for _, condition in changed)


@pytest.mark.parametrize("dataset", ["ms3", "avss"])
def test_the_other_data_sets_too(dataset: str, tmp_path: Path) -> None:
    run(tmp_path, "toy", "data", "--dataset", dataset, "--clips", "16", "--seed", "3")
    listing = call(tmp_path, "build", "--dataset", dataset, "--dry-run", "--data-root", "data")
    assert "would make: " in listing
    assert not (tmp_path / "robust").exists()
    call(tmp_path, "build", "--dataset", dataset, "--data-root", "data", "--split", "test")
    rows = load_manifest(tmp_path / f"robust/{dataset}-seed42").rows
    assert len(rows) == 4 * len({row.clip_id for row in rows})
    call(tmp_path, "evaluate", "--adapter", "oracle")
    table = pd.read_csv(io.StringIO(call(tmp_path, "report", "--format", "csv", "--protocol", "strict")))
    assert table.loc[0, "dataset"] == dataset
    assert table.loc[0, "G_mIoU"] == 1.0


def test_adapters_are_listed() -> None:
    listing = run(Path(), "adapters")
    for name in ("oracle", "visual_prior", "empty", "predictions", "worker"):
        assert name in listing


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from avsrobust.cli.main import invoke; assert invoke(['--help']) == 0; "
        "heavy = {'torch', 'pandas', 'numpy', 'pyarrow', 'librosa', 'yaml', 'filelock', 'avsrobust.remote'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "evaluate" in done.stdout
