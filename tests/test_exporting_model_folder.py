"""Models as folders in the layout of Hugging Face, with any adapter that takes part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avsrobust.cli.main import invoke
from avsrobust.errors import AdapterError, OptionError
from avsrobust.exporting.model_cards import split_card
from avsrobust.exporting.model_folder import export_model
from avsrobust.files import sha256_of_file
from avsrobust.reporting.loading import load_results
from avsrobust.results import Run, Scores, write_run, write_scores

ADAPTER = """
from pathlib import Path
import torch

class Net:
    audio = "log_mel"

    @classmethod
    def load(cls, checkpoint, device):
        return cls()

    def encode_frames(self, frames):
        return frames

    def segment(self, encoded, audio):
        return torch.zeros(*encoded.shape[:2], *encoded.shape[-2:])

    def save_pretrained(self, folder):
        {body}
"""
WRITES = '(Path(folder) / "config.json").write_text("{}"); (Path(folder) / "model.safetensors").write_bytes(b"w")'


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[[str], str]:
    def write(body: str = WRITES) -> str:
        (tmp_path / "net.py").write_text(ADAPTER.replace("{body}", body))
        return f"{tmp_path / 'net.py'}:Net"

    return write


def half(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return targets * 0.7


def stored(folder: Path, scores: Scores, sha256: str | None) -> list[Scores]:
    write_scores(folder / "scores.parquet", scores)
    checkpoint = None if sha256 is None else {"path": "net.pt", "sha256": sha256}
    write_run(folder / "run.json", Run(scores.info.model, "s4", {"checkpoint": checkpoint}))
    return load_results([folder])


def test_the_folder_has_a_card_with_the_results(
    adapter: Callable[..., str], make_scores: Callable[..., Scores], tmp_path: Path
) -> None:
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"weights")
    results = stored(tmp_path / "results", make_scores(half, model="net"), sha256_of_file(weights))
    folder = export_model(adapter(), tmp_path / "out", checkpoint=weights, name="Net *v1*", results=results)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    head, body = split_card((folder / "README.md").read_text())
    assert head["model-index"][0]["name"] == "Net *v1*"
    assert len(head["model-index"][0]["results"]) == 1
    assert r"# Net \*v1\*" in body


def test_results_of_other_weights_are_refused(
    adapter: Callable[..., str], make_scores: Callable[..., Scores], tmp_path: Path
) -> None:
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"weights")
    other = stored(tmp_path / "other", make_scores(half, model="net"), "ab" * 32)
    own = stored(tmp_path / "own", make_scores(half, model="net"), None)
    for results, checkpoint, message in (
        (other, weights, "is of a checkpoint with SHA-256 abababababab"),
        (other, None, "expected those of the adapter's own weights"),
        (own, weights, "is of the adapter's own weights"),
    ):
        with pytest.raises(OptionError, match=message):
            export_model(adapter(), tmp_path / "out", checkpoint=checkpoint, results=results)
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_failure(adapter: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="save_pretrained raised ValueError: no"):
        export_model(adapter(f"{WRITES}; raise ValueError('no')"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["net.py"]


def test_nothing_is_replaced(adapter: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OptionError, match="expected a new or an empty folder"):
        export_model(adapter(), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_adapter_that_cannot_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert invoke(["export", "model", str(tmp_path / "out"), "--adapter", "oracle"]) == 2
    assert "--adapter oracle: has no method save_pretrained(folder)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
