"""Reading tensors from files of every kind, and refusing what is not tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avsrobust.errors import AdapterError
from model_adapters.m2f import state as state_module
from model_adapters.m2f.state import read_state

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, (str(self.path), "w"))  # type: ignore[return-value]


def refused(path: Path, message: str) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("new_format", [True, False])
def test_pytorch_files(tmp_path: Path, wrapper: str | None, new_format: bool) -> None:
    path = tmp_path / "best.ckpt"
    content = TENSORS if wrapper is None else {wrapper: TENSORS, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    found = read_state(path)
    assert found.metadata == {}
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[key], TENSORS[key]) for key in TENSORS)


def test_safetensors_whatever_their_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    save_file(TENSORS, path, metadata={"about": "a test"})
    found = read_state(path)
    assert found.metadata == {"about": "a test"}
    assert torch.equal(found.tensors["a.weight"], TENSORS["a.weight"])


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, new_format: bool) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({**TENSORS, "c": Trap(trace)}, path, _use_new_zipfile_serialization=new_format)
    refused(path, "which is code, was not run; expected tensors only")
    assert not trace.exists()


def test_code_in_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Trap(trace)))
    refused(path, "was not run|truncated or no PyTorch file")
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 1, 9, 200, -1, -30])
def test_truncated_pytorch_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "best.pth"
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "truncated or no PyTorch file|is damaged")


@pytest.mark.parametrize("keep", [0, 5, 9, 60, -1])
def test_truncated_safetensors(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "best.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "truncated or no safetensors file")


def test_noise_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "noise.pth"
    path.write_bytes(
        torch.randint(0, 256, (5000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    )
    refused(path, "truncated or no PyTorch file|is damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "found a list; expected a state dict"),
        ({}, "found an empty dict; expected a state dict"),
        ({"a": 1}, "found a int under 'a'; expected a state dict"),
        ({1: torch.zeros(1)}, "found a Tensor under 1; expected a state dict"),
    ],
)
def test_other_contents(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "best.pth"
    torch.save(content, path)
    refused(path, message)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.pth", "cannot be read")
    refused(tmp_path, "cannot be read")


def test_old_torch_reads_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.pth"
    torch.save(TENSORS, path)
    monkeypatch.setattr(state_module.torch, "__version__", "2.5.1+cpu")
    refused(path, r"torch 2\.5\.1\+cpu cannot read pickles safely; expected torch 2\.6 or later")
