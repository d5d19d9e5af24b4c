"""The public functions: the three commands from Python, on a procedural data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import avsrobust as ar
from avsrobust.files import sha256_of_file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    return toy_in(tmp_path_factory.mktemp("api") / "data", s4=24, seed=1)


def test_the_three_commands_from_python(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVSROBUST_DATA", str(data))
    built = ar.build("s4", seed=42, splits=["test"])
    # Twice: importing the modules below the package must not hide the functions.
    assert (
        ar.build("s4", seed=42, splits=["test"]).manifest == built.manifest == Path("robust/s4-seed42/manifest.parquet")
    )
    (evaluated,) = ar.evaluate("oracle")
    assert evaluated.scores == Path("results/oracle/s4-seed42/scores.parquet")
    ar.evaluate("empty", built.manifest)
    results = ar.load_results()
    assert repr(results) == "Results(empty on s4, oracle on s4)"
    table = results.to_pandas(["strict"])
    assert isinstance(table, pd.DataFrame)
    assert table.set_index("model").loc["oracle", "G_mIoU"] == 1.0
    assert "<table" in results._repr_html_()
    manifest, (scores, _) = ar.load_manifest(built.manifest), results
    assert repr(manifest).startswith("Manifest(robust/s4-seed42/manifest.parquet: s4, seed 42, ")
    assert len(manifest.to_pandas()) == len(manifest.rows)
    assert repr(scores).startswith("Scores(empty on s4, seed 42, ")
    assert len(scores.to_pandas()) == len(scores.index)
    assert "<table" in manifest._repr_html_()
    assert "<table" in scores._repr_html_()
    assert ar.report(results, format="csv").content == ar.report("results", format="csv").content
    compared = ar.compare("results/oracle/s4-seed42", "results/empty/s4-seed42", samples=100)
    assert compared.splits[0].common == len(ar.read_dataset("s4", splits=["test"]).clips)


def test_numbers_of_numpy_are_numbers(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = ar.build("s4", seed=42, data_root=data, splits=["test"], output="plain")
    built = ar.build("s4", seed=np.int64(42), data_root=data, splits=[np.str_("test")], workers=np.int8(1))
    assert built.manifest.read_bytes() == plain.manifest.read_bytes()
    clips = ar.read_dataset("s4", data, workers=np.uint16(1)).clips
    assert clips
    results = [
        ar.evaluate("oracle", built.manifest, limit=one, batch_size=one, output=output, save_masks=save)[0].scores
        for one, output, save in ((1, "results", True), (np.int64(1), "numpy", np.True_))
    ]
    assert results[0].read_bytes() == results[1].read_bytes()
    page = ar.report("results", format="html", gallery=np.int32(1), allow_limited=np.True_)
    assert page.content == ar.report("results", format="html", gallery=1, allow_limited=True).content
    ar.evaluate("empty", built.manifest, limit=np.int64(1), output="results")
    a, b = (f"results/{model}/s4-seed42" for model in ("oracle", "empty"))
    compared = [ar.compare(a, b, samples=kind(100), seed=kind(3), allow_limited=True) for kind in (int, np.int64)]
    assert compared[0] == compared[1]
    several = [
        ar.compare_models([a, b], samples=kind(100), changed=kind(1), allow_limited=True) for kind in (int, np.int64)
    ]
    assert several[0] == several[1]
    sized = ar.RobustDataset(built.manifest, image_size=np.int64(32), negatives=np.float32(0.5), seed=np.int64(1))
    assert sized[0]["frames"].shape[-2:] == (32, 32)
    with pytest.raises(ar.AvsRobustError, match=r"--seed: found 1.5; expected an integer"):
        ar.build("s4", seed=np.float64(1.5), data_root=data)


def test_an_adapter_class_and_a_loaded_adapter(data: Path, tmp_path: Path) -> None:
    class Half(ar.Adapter):
        def segment(self, encoded, audio):  # type: ignore[no-untyped-def]
            return encoded.float().mean(2) / 255

    built = ar.build("s4", data_root=str(data), output=tmp_path / "b", splits=["test"])
    (by_class,) = ar.evaluate(Half, str(built.manifest), output=tmp_path / "one")
    (loaded,) = ar.evaluate(Half(), ar.load_manifest(tmp_path / "b"), output=str(tmp_path / "two"))
    # The name differs, and so does the model that the files name; the scores are the same.
    assert pq.read_table(by_class.scores).equals(pq.read_table(loaded.scores))


def test_the_names_are_there_and_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = "import sys, avsrobust as ar; print(sorted(set(sys.modules) & {'torch', 'numpy', 'pyarrow', 'pandas'}), dir(ar))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    for name in ar.__all__:
        assert getattr(ar, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'biuld'"):
        ar.biuld  # noqa: B018


def test_what_was_loaded_in_another_folder_is_still_that(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders have builds and results of the same relative paths; what was loaded in one is used in the other."""
    loaded = {}
    for folder, seed, adapter in (("a", 1, "oracle"), ("b", 2, "empty")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        ar.build("s4", seed=seed, data_root=data, splits=["test"], output="build")
        ar.evaluate(adapter, "build", name="net", output="results")
        manifest, results = ar.load_manifest("build"), ar.load_results("results")
        items = ar.RobustDataset("build", audio="log_mel")
        table = ar.report(results, format="json").content
        assert '"source": "results/net/' in str(table)
        loaded[folder] = manifest, results, items, [float(item["audio"].sum()) for item in items]
    manifest, results, items, sounds = loaded["a"]
    assert [float(item["audio"].sum()) for item in items] == sounds
    (evaluated,) = ar.evaluate("oracle", manifest, name="again", output="results")
    run = json.loads(evaluated.scores.with_name("run.json").read_text())
    assert run["manifest"]["sha256"] == sha256_of_file(tmp_path / "a/build/manifest.parquet")
    assert f'"source": "{tmp_path / "a/results/net"}/' in str(ar.report(results, format="json").content)
    assert set(results.table()["model"]) == {"net"}
    compared = ar.compare(results.scores[0], loaded["b"][1].scores[0], samples=100, allow_different_builds=True)
    assert compared.splits[0].common > 0
