"""The encoders that need no transformers: log_mel, vggish, beats; and what is said to the unknown."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avsrobust.errors import AdapterError, AvsRobustError, OptionError
from avsrobust.pretransform.encoders import load_encoder, names_classes

CPU = torch.device("cpu")


def test_log_mel_is_mean_and_deviation_of_bands() -> None:
    log_mel = torch.randn(3, 1, 96, 64, generator=torch.Generator().manual_seed(0))
    encoder = load_encoder("log_mel", None, CPU, classes=False)
    assert encoder.audio.kind == "log_mel"
    found = encoder.encode(log_mel)
    array = log_mel.numpy()[:, 0]
    np.testing.assert_allclose(found.embeddings, np.concatenate([array.mean(1), array.std(1)], axis=1), atol=1e-5)
    assert found.embeddings.dtype == np.float32
    assert found.scores.shape == (3, 0)


def test_vggish_embeds_the_log_mel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small stand-in: the network itself is tested where it is at home, and weighs 288 MB."""
    path = tmp_path / "vggish.pth"
    path.write_bytes(b"weights")
    network = nn.Sequential(nn.Flatten(), nn.Linear(96 * 64, 128))
    monkeypatch.setattr("avsrobust.audio.vggish.load_vggish", lambda given: network if given == path else None)
    encoder = load_encoder("vggish", path, CPU, classes=False)
    log_mel = torch.randn(2, 1, 96, 64)
    np.testing.assert_array_equal(encoder.encode(log_mel).embeddings, network(log_mel).detach().numpy())
    assert encoder.audio.kind == "log_mel"
    path.write_bytes(b"others")
    assert load_encoder("vggish", path, CPU, classes=False).checksum != encoder.checksum


def test_vggish_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "vggish.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(AdapterError, match="found no tensor embeddings"):
        load_encoder("vggish", path, CPU, classes=False)


class StandIn(nn.Module):
    """speechbrain's BEATs as far as we call it: 8 time steps of width 4; scores where it is fine-tuned."""

    def __init__(self, ckp_path: str, freeze: bool) -> None:
        super().__init__()
        self.tuned = torch.load(ckp_path, weights_only=True)["cfg"]["finetuned_model"]
        assert freeze

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        assert lengths.tolist() == [1.0] * len(wave)
        steps = wave.reshape(len(wave), 8, 4, -1).mean(dim=-1)
        return (steps, torch.sigmoid(steps.mean(dim=1)[:, :3]), None) if self.tuned else (steps,)


@pytest.fixture
def speechbrain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("speechbrain", "speechbrain.lobes", "speechbrain.lobes.models", "speechbrain.lobes.models.beats"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["speechbrain.lobes.models.beats"].BEATs = StandIn  # type: ignore[attr-defined]


def beats_file(folder: Path, *, tuned: bool = True) -> Path:
    path = folder / "beats.pt"
    names = {"label_dict": {2: "/m/c", 0: "/m/a", 1: "/m/b"}} if tuned else {}
    torch.save({"cfg": {"finetuned_model": tuned}, "model": {"weight": torch.zeros(1)}, **names}, path)
    return path


@pytest.mark.usefixtures("speechbrain")
def test_beats_windows_and_names(tmp_path: Path) -> None:
    encoder = load_encoder("beats", beats_file(tmp_path), CPU, classes=True)
    assert encoder.labels == ("/m/a", "/m/b", "/m/c")
    assert encoder.audio.sample_rate == 16000
    wave = torch.randn(2 * 16000, generator=torch.Generator().manual_seed(0))
    found = encoder.encode(wave)
    expected = wave.reshape(2, 8, 4, -1).mean(dim=-1).mean(dim=1)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(found.scores, torch.sigmoid(expected[:, :3]), atol=1e-6)


@pytest.mark.usefixtures("speechbrain")
def test_beats_that_was_not_fine_tuned(tmp_path: Path) -> None:
    path = beats_file(tmp_path, tuned=False)
    assert load_encoder("beats", path, CPU, classes=False).encode(torch.zeros(16000)).scores.shape == (1, 0)
    with pytest.raises(OptionError, match=r"beats\.pt: names no classes; expected a fine-tuned BEATs"):
        load_encoder("beats", path, CPU, classes=True)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('ran', 'w')",))


@pytest.mark.usefixtures("speechbrain")
def test_beats_files_are_read_as_tensors_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "beats.pt"
    path.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(OptionError, match="or holds code, which was not run"):
        load_encoder("beats", path, CPU, classes=False)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(beats_file(tmp_path).read_bytes()[:-100])
    with pytest.raises(OptionError, match="truncated or no PyTorch file"):
        load_encoder("beats", path, CPU, classes=False)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(OptionError, match="found no 'cfg' and 'model' in it"):
        load_encoder("beats", path, CPU, classes=False)


def test_beats_without_speechbrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "speechbrain", None)
    with pytest.raises(OptionError, match="--encoder beats: speechbrain is not installed; run: pip inst") as caught:
        load_encoder("beats", beats_file(tmp_path), CPU, classes=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "raise ImportError('cannot import name Fbank')",
            r"speechbrain is installed, but cannot be imported \(cannot import",
        ),
        ("import no_such_package", "speechbrain needs no_such_package, which is not installed"),
    ],
)
def test_a_speechbrain_that_fails_is_not_said_to_be_missing(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "speechbrain").mkdir()
    (tmp_path / "speechbrain/__init__.py").write_text(content, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "speechbrain", raising=False)
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=f"--encoder beats: {message}") as caught:
        load_encoder("beats", beats_file(tmp_path), CPU, classes=False)
    assert len(str(caught.value).splitlines()) == 1


def test_a_torchaudio_that_fails_is_named_by_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in (("speechbrain", "import torchaudio"), ("torchaudio", "raise OSError('undefined symbol: x')")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(content, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=r"torchaudio is installed, but cannot be imported \(undefined symbol: x\)"):
        load_encoder("beats", beats_file(tmp_path), CPU, classes=False)


def test_stock_encoders_without_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(OptionError, match=r"--encoder hubert: transformers is not installed; run: pip install"):
        load_encoder("hubert", tmp_path, CPU, classes=False)


@pytest.mark.parametrize(
    ("name", "checkpoint", "classes", "message"),
    [
        ("hubret", None, False, r"--encoder hubret: unknown; expected one of ast, .*; did you mean 'hubert'\?"),
        ("hubert", None, True, r"--classes: hubert names no classes; take --encoder ast, beats, clap"),
        ("log_mel", Path("x"), False, r"--checkpoint x: log_mel has no weights; leave it out"),
        ("vggish", None, False, r"--checkpoint: found none; expected the weights' file of VGGish"),
        ("beats", Path("none.pt"), False, r"--checkpoint none\.pt: found no file; expected the weights' file of BEATs"),
    ],
)
def test_refused(name: str, checkpoint: Path | None, classes: bool, message: str) -> None:
    with pytest.raises(AvsRobustError, match=message):
        load_encoder(name, checkpoint, CPU, classes=classes)


def test_classes_are_the_default_where_a_network_was_made_for_them() -> None:
    names = ("ast", "beats", "clap", "hubert", "vggish", "log_mel")
    assert [name for name in names if names_classes(name, None)] == ["ast", "beats"]
    assert names_classes("clap", True)
    assert not names_classes("ast", False)
