"""Active queries from class files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avsrobust.errors import AdapterError, AvsRobustError
from model_adapters.m2f.queries import ClassFiles, gate_of_indices, read_indices


def store(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        [[7, 21], [7, 21], [7, 21]],
        [torch.tensor([7, 21])] * 3,
        torch.tensor([[7, 21]] * 3),
        [7, 21],
        torch.tensor([7, 21]),
        (torch.tensor(7), torch.tensor(21)),
    ],
)
def test_forms_of_class_files(tmp_path: Path, content: object) -> None:
    assert read_indices(store(tmp_path / "clip.pth", content), 3, 100) == [[7, 21]] * 3


def test_gate_switches_on_what_is_listed() -> None:
    gate = gate_of_indices([[0, 3], [2], [], [1, 1]], 4)
    assert gate.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_reference_gate_takes_one_element_for_query_0_and_clamps() -> None:
    gate = gate_of_indices([[0, 3], [2], [1, 1]], 4, "reference")
    high, low = 1 - 1e-6, 1e-6
    expected = torch.tensor([[high, low, low, high], [high, low, low, low], [low, high, low, low]])
    torch.testing.assert_close(gate, expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[7, 100]] * 3, r"clip\.pth: found query index 100; expected 0 to 99"),
        ([[7, -1]] * 3, r"clip\.pth: found query index -1; expected 0 to 99"),
        ([[7], [8]], r"clip\.pth: found indices of 2 frames; the clip has 3"),
        ([], r"clip\.pth: found list, not lists of query indices"),
        ({"clip": [1]}, r"clip\.pth: found dict, not lists"),
        ([[0.5]], r"clip\.pth: found list, not lists"),
        ([[True]], r"clip\.pth: found list, not lists"),
        (torch.tensor(3), r"clip\.pth: found int, not lists"),
        (
            torch.zeros(1, dtype=torch.int64).expand(10**12),
            r"clip\.pth: found tensors that are no lists of query indices",
        ),
        ([torch.zeros(1, dtype=torch.int64).expand(10**6)] * 3, r"clip\.pth: found tensors that are no lists"),
        ([torch.zeros(3).to_sparse()] * 3, r"clip\.pth: found tensors that are no lists"),
        ([torch.zeros(3, device="meta")] * 3, r"clip\.pth: found tensors that are no lists"),
    ],
)
def test_bad_class_files(tmp_path: Path, content: object, message: str) -> None:
    path = store(tmp_path / "clip.pth", content)
    with pytest.raises(AdapterError, match=message) as caught:
        read_indices(path, 3, 100)
    assert "\n" not in str(caught.value)


def test_truncated_class_file(tmp_path: Path) -> None:
    path = store(tmp_path / "clip.pth", [[1, 2]] * 3)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AdapterError, match=r"clip\.pth: truncated or no PyTorch file"):
        read_indices(path, 3, 100)


def test_where_files_are_looked_for(tmp_path: Path) -> None:
    files = ClassFiles(tmp_path)
    store(tmp_path / "name_5.pth", [1])
    assert files.gate("dog/name_5", "clean", None, 2, 4).tolist() == [[0, 1, 0, 0]] * 2
    store(tmp_path / "clean" / "dog" / "name_5.pth", [2])
    assert files.gate("dog/name_5", "clean", None, 2, 4).tolist() == [[0, 0, 1, 0]] * 2
    store(tmp_path / "noise" / "name_5.pth", [3])
    assert files.gate("dog/name_5", "noise", None, 2, 4).tolist() == [[0, 0, 0, 1]] * 2
    store(tmp_path / "mixture-5dB" / "name_5.pth", [0])
    assert files.gate("dog/name_5", "mixture", -5.0, 1, 4).tolist() == [[1, 0, 0, 0]]


def test_negative_sound_never_takes_the_clips_own_queries(tmp_path: Path) -> None:
    store(tmp_path / "name_5.pth", [1])
    with pytest.raises(
        AdapterError, match=r"found no class file of clip dog/name_5 under noise sound; expected noise/dog"
    ):
        ClassFiles(tmp_path).gate("dog/name_5", "noise", None, 2, 4)


def test_clip_ids_cannot_leave_the_folder(tmp_path: Path) -> None:
    store(tmp_path / "outside.pth", [1])
    (tmp_path / "inside" / "clean").mkdir(parents=True)
    with pytest.raises(AvsRobustError, match="not a path inside"):
        ClassFiles(tmp_path / "inside").gate("../../outside", "clean", None, 2, 4)
