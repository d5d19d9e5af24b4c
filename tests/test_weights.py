"""Files of weights that declare more than they hold are refused before memory is taken, by every reader of weights."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from avsrobust.audio.vggish import load_vggish
from avsrobust.errors import AdapterError, AvsRobustError, OptionError
from avsrobust.limits import Limit
from avsrobust.pretransform.beats import _read as read_beats
from avsrobust.weights import check_tensors, check_weights_file, is_safetensors
from model_adapters.m2f.state import read_state

READERS: dict[str, Callable[[Path], object]] = {
    "state": read_state,
    "vggish": load_vggish,
    "beats": read_beats,
}
TENSORS = {"a": torch.arange(6.0), "b": torch.zeros(2, 2)}


def archive(compression: int = zipfile.ZIP_STORED, extra: bytes = b"") -> bytes:
    """Return a PyTorch file packed anew."""
    saved, packed = io.BytesIO(), io.BytesIO()
    torch.save(TENSORS, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", compression) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
        if extra:
            target.writestr("archive/data/9", extra)
    return packed.getvalue()


class Greedy:
    """Unpickling this takes a gigabyte, and no more than torch allows in a file of weights."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 30,)


def greedy(new_format: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({**TENSORS, "c": Greedy()}, buffer, _use_new_zipfile_serialization=new_format)
    return buffer.getvalue()


def overlapping() -> bytes:
    """Return an archive whose directory names one member a thousand times."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr("archive/data/0", bytes(100_000))
        target.filelist *= 1000
    return packed.getvalue()


BAD = {
    "compressed": (archive(zipfile.ZIP_DEFLATED), "unpacks to more than it holds"),
    "a bomb": (archive(zipfile.ZIP_DEFLATED, bytes(50_000_000)), "unpacks to more than it holds"),
    "overlapping": (overlapping(), "unpacks to more than it holds"),
    "bytearray": (greedy(new_format=True), "holds a bytearray, which was not made"),
    "bytearray, older format": (greedy(new_format=False), "holds a bytearray, which was not made"),
    "two directories": (archive() + archive()[:-1] + b"x", "."),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BAD)
def test_pickles_that_take_more_than_they_hold(kind: str, reader: str, tmp_path: Path) -> None:
    content, message = BAD[kind]
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert len(content) < 400_000
    with pytest.raises(AvsRobustError, match=message) as caught:
        READERS[reader](path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "is a pointer of Git LFS.*'git lfs pull'",
        ),
        (b"\n<!DOCTYPE html><html>quota exceeded</html>", "is a web page, not a file of weights; download it again"),
        (b"<HTML><head>", "is a web page"),
    ],
)
def test_what_is_downloaded_instead_of_weights_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for reader in (read_state, load_vggish):
        with pytest.raises(AdapterError, match=rf"{name}: {message}"):
            reader(path)


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(reader: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    (tmp_path / "folder.safetensors").mkdir()
    for path in (tmp_path / "weights.pth", tmp_path / "folder.safetensors", Path("/dev/zero")):
        with pytest.raises(AvsRobustError, match=str(path)):
            READERS[reader](path)


def test_what_torch_writes_passes(tmp_path: Path) -> None:
    for new_format in (True, False):
        path = tmp_path / "weights.pth"
        torch.save(TENSORS, path, _use_new_zipfile_serialization=new_format)
        check_weights_file(path, AdapterError)
        assert not is_safetensors(path)
    path = tmp_path / "weights.bin"
    path.write_bytes(save(TENSORS))
    check_weights_file(path, AdapterError)
    assert is_safetensors(path)


def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    header = b'{"' + b"a" * 9_000_000 + b'":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(
        AdapterError, match=r"weights.safetensors: header: found 9,000,0\d\d bytes; expected at most 8,388,608"
    ):
        read_state(path)


@pytest.mark.parametrize("declared", [2**64 - 1, 2**63, 10**9])
def test_a_header_beyond_the_file_is_damage(declared: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", declared) + b"{}")
    with pytest.raises(AdapterError, match="truncated or no safetensors file"):
        read_state(path)


def test_large_files_are_refused_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avsrobust.weights.WEIGHTS_BYTES", Limit(100, "bytes", "a test"))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(TENSORS))
    with pytest.raises(OptionError, match=r"found \d+ bytes; expected at most 100 \(a test\); .*--raise-limits"):
        check_weights_file(path, OptionError)


def test_views_that_repeat_a_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(
        AdapterError, match=r"declares tensors of 4,000,000,000,000 bytes and holds .*'a' \[1000000, 1000000\]"
    ):
        read_state(path)


def test_weights_that_layers_share_are_not(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    shared = torch.arange(100_000.0)
    torch.save({str(number): shared for number in range(4)}, path)
    assert len(read_state(path).tensors) == 4


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 3).to_sparse(),
        torch.empty(10**6, 10**6, device="meta"),
    ],
)
def test_other_kinds_of_tensors_are_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": tensor}, path)
    with pytest.raises(AdapterError, match=r"'a' is no plain array of numbers|truncated or no PyTorch file|holds '"):
        read_state(path)
    with pytest.raises(AdapterError, match="'a' is no plain array of numbers"):
        check_tensors(path, {"a": tensor}, AdapterError)


def test_pickles_of_code_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Greedy()))
    for reader in READERS.values():
        with pytest.raises(AvsRobustError, match=str(path)):
            reader(path)
