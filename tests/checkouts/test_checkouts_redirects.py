from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import torch

from avsrobust.errors import AdapterError
from model_adapters.checkouts.redirects import cuda_means, no_downloads

# No machine has it, so that nothing can reach it by chance; operations on it cost nothing.
META = torch.device("meta")
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 3)])
def test_whatever_names_a_gpu_means_the_device(name: str | torch.device) -> None:
    layer = torch.nn.Linear(2, 2)
    with cuda_means(META):
        tensors = [
            torch.zeros(2).to(name),
            torch.zeros(2).to(device=name),
            torch.zeros(2).to(name, torch.float64, non_blocking=True),
            torch.zeros(2, device=name),
            torch.tensor([1.0], device=name),
            torch.arange(3, device=name),
            torch.ones_like(torch.zeros(2), device=name),
            torch.zeros(2).cuda(),
        ]
        layer.to(name)
        assert torch.zeros(2).to("cpu").device == CPU
        assert torch.zeros(2, device="cpu").device == torch.zeros(2).to(torch.float64).device == CPU
    assert {tensor.device for tensor in (*tensors, layer.weight)} == {META}
    assert tensors[2].dtype == torch.float64


@pytest.mark.parametrize("place", ["cuda", torch.device("cuda:0"), None])
def test_weights_of_a_gpu_load(tmp_path: Path, place: object) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "w.pt")
    before = torch.load
    with cuda_means(CPU):
        assert torch.load(tmp_path / "w.pt", map_location=place)["w"].tolist() == [0, 1, 2]
        assert torch.load(tmp_path / "w.pt", place)["w"].device == CPU
    assert torch.load is before


def test_a_checkpoint_that_was_saved_on_a_gpu_loads_without_a_word_of_where(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "cpu.pt")
    content = (tmp_path / "cpu.pt").read_bytes()
    # The archive names the location of each storage in a pickled string; the checksum is not read.
    import zipfile

    with zipfile.ZipFile(tmp_path / "cpu.pt") as source, zipfile.ZipFile(tmp_path / "gpu.pt", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            target.writestr(name, data)
    assert content
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "gpu.pt")
    with cuda_means(CPU):
        assert torch.load(tmp_path / "gpu.pt")["w"].tolist() == [0, 1, 2]


def test_downloads_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "https://download.pytorch.org/models/resnet50-19c8e357.pth"
    place = tmp_path / "hub/checkpoints/resnet50-19c8e357.pth"
    with (
        no_downloads("repo"),
        pytest.raises(AdapterError, match=r"repo: its code would download https.*put that file at") as caught,
    ):
        torch.hub.load_state_dict_from_url(url)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
    torch.save({"w": torch.zeros(1)}, place)
    with no_downloads("repo"):
        assert "w" in torch.hub.load_state_dict_from_url(url)
        with pytest.raises(AdapterError, match=r"would load harritaylor/torchvggish from torch\.hub"):
            torch.hub.load("harritaylor/torchvggish", "vggish")


def test_connections_are_refused_and_named() -> None:
    original = socket.getaddrinfo

    def hf_hub_download(repo_id: str, filename: str, cache_dir: str) -> None:
        socket.getaddrinfo("huggingface.co", 443)

    with no_downloads("repo"):
        with pytest.raises(AdapterError, match=r"repo: its code would connect to example\.org"):
            socket.create_connection(("example.org", 443))
        with pytest.raises(AdapterError, match=r"would download config.json of a/b .* into /c/models--a--b/snapshots"):
            hf_hub_download("a/b", "config.json", "/c")
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(socket.getaddrinfo("127.0.0.1", 80)))
        thread.start()
        thread.join()
    assert found
    assert socket.getaddrinfo is original
