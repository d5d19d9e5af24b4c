"""The files of examples/, run through the installed command on the toy; and that three ways in are one model."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from commands import call as call_here

from avsrobust import load_manifest
from avsrobust.adapters.lookup import load_adapter
from avsrobust.adapters.predictions import Predictions
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.results import EVALUATION_KEY, read_scores
from avsrobust.testing import check_adapter

AVSROBUST = str(Path(sys.executable).with_name("avsrobust"))
EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = f"{EXAMPLES / 'small_torch_model.py'}:SmallModel"
WORKER = f"'{sys.executable}' '{EXAMPLES / 'worker_model.py'}'"
CLIPS = 24


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(folder: Path, *arguments: str) -> str:
    done = call_here(folder, *arguments, COLUMNS="100")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, toy_in: Callable[..., Path]) -> Path:
    """A folder with a toy data set and its build, as a user would have it."""
    root = tmp_path_factory.mktemp("user")
    toy_in(root / "data", s4=CLIPS, seed=1)
    call(root, "build", "--dataset", "s4", "--split", "test")
    return root


@pytest.fixture(scope="module")
def build(folder: Path) -> Manifest:
    return load_manifest(folder / "robust/s4-seed42")


def table(folder: Path, scores: str) -> pd.Series:
    return pd.read_csv(io.StringIO(call(folder, "report", str(Path(scores).parent), "--format", "csv"))).iloc[0]


def test_a_small_torch_model(folder: Path, build: Manifest) -> None:
    out = run(folder, AVSROBUST, "evaluate", "--adapter", SMALL)
    assert out == "results/SmallModel/s4-seed42/scores.parquet\n"
    line = table(folder, out)
    assert line["model"] == "SmallModel"
    assert line["clips"] == len({row.clip_id for row in build.rows if row.split == "test"})
    # It does hear, untrained as it is.
    assert line["silence_FPR"] != line["noise_FPR"]


def test_a_worker(folder: Path) -> None:
    out = call(folder, "evaluate", "--adapter", "worker", "--option", f"command={WORKER}", "--name", "there")
    found, expected = (
        read_scores(folder / path) for path in (out.strip(), call(folder, "evaluate", "--adapter", SMALL).strip())
    )
    pd.testing.assert_frame_equal(found.index, expected.index)
    assert np.array_equal(found.statistics.inside, expected.statistics.inside)


def test_a_model_that_writes_pictures(folder: Path, build: Manifest) -> None:
    script = str(EXAMPLES / "png_model" / "predict.py")
    run(folder, sys.executable, script, str(build.path), "data", "masks")
    out = call(folder, "evaluate", "--adapter", "predictions", "--option", "masks=masks", "--name", "pictures")
    line = table(folder, out)
    assert line["silence_FPR"] == 0
    assert line["noise_FPR"] > 0
    assert 0 < line["mIoU"] < 1


def test_the_small_model_keeps_the_contract() -> None:
    check_adapter(SMALL).raise_if_failed()


def test_weights_reach_adapter_and_worker(build: Manifest, tmp_path: Path) -> None:
    small = load_adapter(SMALL, checkpoint=None, device=torch.device("cpu"), options={})
    weights = {name: value * 2 for name, value in small.network.state_dict().items()}  # type: ignore[attr-defined]
    torch.save(weights, tmp_path / "weights.pt")
    digests = set()
    for spec, options in ((SMALL, {}), ("worker", {"command": WORKER})):
        for checkpoint in (None, tmp_path / "weights.pt"):
            adapter = load_adapter(spec, checkpoint=checkpoint, device=torch.device("cpu"), options=options)
            output = tmp_path / f"{len(digests)}-{spec[-6:]}-{checkpoint is None}"
            report = evaluate(build, adapter, name="model", output=output)
            digests.add(digest_of_scores(report.scores))
    assert len(digests) == 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_adapter_worker_and_predictions_give_the_same_bytes(build: Manifest, tmp_path: Path, workers: str) -> None:
    cpu = torch.device("cpu")
    small = load_adapter(SMALL, checkpoint=None, device=cpu, options={})
    worker = load_adapter("worker", checkpoint=None, device=cpu, options={"command": WORKER, "workers": workers})
    write_predictions(build, small, tmp_path / "masks")
    stored = Predictions.load(None, cpu, masks=str(tmp_path / "masks"))
    digests = {
        digest_of_scores(evaluate(build, adapter, name="model", output=tmp_path / key, batch_size=batch_size).scores)
        for key, adapter, batch_size in (
            ("adapter", small, 1),
            ("adapter-batch", small, 3),
            ("worker", worker, 1),
            ("worker-batch", worker, 3),
            ("predictions", stored, 1),
        )
    }
    assert len(digests) == 1


def digest_of_scores(path: Path) -> str:
    """Return a checksum of all columns and metadata, but for the entry that names the model, and the file's own checksum."""
    table = pq.read_table(path)
    of_the_model = {EVALUATION_KEY.encode(), b"avsrobust.content_sha256"}
    metadata = {key: value for key, value in table.schema.metadata.items() if key not in of_the_model}
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), stream)
    return hashlib.sha256(stream.getvalue()).hexdigest()


def write_predictions(build: Manifest, adapter: object, masks: Path) -> None:
    """Write what the adapter answers as NPZ files of float32."""

    class Writes:
        audio = "log_mel"
        needs_rows = True

        def encode_frames(self, frames: torch.Tensor) -> object:
            return adapter.encode_frames(frames)  # type: ignore[attr-defined]

        def segment_rows(self, encoded: object, audio: torch.Tensor, rows: list[object]) -> torch.Tensor:
            answer: torch.Tensor = adapter.segment(encoded, audio)  # type: ignore[attr-defined]
            for row, probability in zip(rows, answer, strict=True):
                path = masks / row.condition / f"{row.clip_id}.npz"  # type: ignore[attr-defined]
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, masks=probability.numpy())
            return answer

    evaluate(build, Writes(), name="writes", output=masks.with_name("writing"))  # type: ignore[arg-type]


def test_the_worker_file_is_printed_for_a_container(tmp_path: Path) -> None:
    (tmp_path / "avsrobust_worker.py").write_text(run(tmp_path, AVSROBUST, "adapters", "--worker-file"))
    assert run(tmp_path, sys.executable, "-S", "-c", "import ast; ast.parse(open('avsrobust_worker.py').read())") == ""
    installed = Path(__file__).parents[1] / "avsrobust/adapters/remote/avsrobust_worker.py"
    assert (tmp_path / "avsrobust_worker.py").read_bytes() == installed.read_bytes()


def test_the_list_says_what_each_needs(tmp_path: Path) -> None:
    out = run(tmp_path, AVSROBUST, "adapters")
    for name in ("oracle", "predictions", "worker", "avsegformer", "avsegformer_robust", "tpavi"):
        assert f"\n{name} " in f"\n{out}"
    assert "needs: --option repo=PATH, --checkpoint FILE" in out
