"""VGGish's network against AVSBench's, and how its weights are read.

The golden embeddings are those of AVSBench's class with the weights that `reference_tensor` makes, for the reference's log-mels.
"""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avsrobust.audio.vggish import VGGish, load_vggish
from avsrobust.errors import AdapterError

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "audio_front_ends.npz", allow_pickle=False))


def reference_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    normal = np.random.Generator(np.random.PCG64([0, zlib.crc32(name.encode())])).standard_normal(shape)
    if name == "pproc.pca_eigen_vectors":
        scale = 0.6 / np.sqrt(128)
    elif name == "pproc.pca_means":
        scale = 0.5
    else:
        scale = 0.05 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:]))
    return (normal * scale).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in VGGish().state_dict().items()}
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file({name: torch.from_numpy(reference_tensor(name, shape)) for name, shape in shapes.items()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def pca() -> dict[str, np.ndarray]:
    shapes = {"pca_eigen_vectors": (128, 128), "pca_means": (128, 1)}
    return {name: reference_tensor(f"pproc.{name}", shape) for name, shape in shapes.items()}


def test_embeddings_agree_with_avsbench(weights: Path) -> None:
    network = load_vggish(weights)
    assert not network.training
    assert sum(tensor.numel() for tensor in network.parameters()) == 72_141_184
    with torch.inference_mode():
        noise = network(torch.from_numpy(GOLDEN["noise_s0_vggish"]))
        real = network.embedding(torch.from_numpy(GOLDEN["s1_mono44k_vggish_example0"])[None, None])
    assert noise.dtype == torch.float32
    assert real.shape == (1, 1, 128)
    np.testing.assert_allclose(noise, GOLDEN["noise_s0_embedding"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(real[0, 0], GOLDEN["s1_mono44k_embedding0"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".npz", ".pth", ".safetensors"])
def test_quantised_embeddings_agree_with_avsbench(
    suffix: str, weights: Path, pca: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / f"pca{suffix}"
    tensors = {name: torch.from_numpy(array) for name, array in pca.items()}
    if suffix == ".npz":
        np.savez(path, pca_eigen_vectors=pca["pca_eigen_vectors"], pca_means=pca["pca_means"][:, 0])
    else:
        (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    network = load_vggish(weights, path)
    clips = torch.from_numpy(GOLDEN["noise_s0_vggish"])[None, :2]
    with torch.inference_mode():
        quantised = network.embedding(clips)
        one = network(torch.from_numpy(GOLDEN["s1_mono44k_vggish_example0"])[None])
    assert quantised.shape == (1, 2, 128)
    assert one.shape == (1, 128)
    # Values at a rounding edge may fall to either side.
    np.testing.assert_allclose(quantised[0], GOLDEN["noise_s0_quantised"][:2], atol=1.0)
    assert (quantised[0].numpy() == GOLDEN["noise_s0_quantised"][:2]).mean() > 0.99
    np.testing.assert_array_equal(one[0], GOLDEN["s1_mono44k_quantised0"])


def test_embedding_keeps_clips_and_frames_apart() -> None:
    class Mean(VGGish):
        def forward(self, log_mel: Tensor) -> Tensor:
            return log_mel.mean(dim=(1, 2, 3))[:, None].expand(-1, 128)

    with torch.device("meta"):
        network = Mean()
    clips = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 96, 64)
    assert network.embedding(clips)[:, :, 5].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weights_load_from_a_torch_file_of_another_precision(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "vggish.pth"
    state = {name: tensor.bfloat16() for name, tensor in load_file(weights).items()}
    torch.save(state | {"pproc.pca_means": torch.zeros(128, 1)}, path)
    network = load_vggish(path)
    assert network.embeddings[0].weight.dtype == torch.float32
    torch.testing.assert_close(network.features[0].weight, state["features.0.weight"].float())


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    as_torch, plain = tmp_path / "vggish.pth", tmp_path / "vggish.pkl"
    torch.save({"features.0.weight": Bomb(mark)}, as_torch)
    plain.write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    for path in (as_torch, plain):
        with pytest.raises(
            AdapterError, match=rf"{path.name}: found a pickle that holds more than tensors, or is damaged"
        ):
            load_vggish(path)
    assert not mark.exists()


def test_numpy_pickles_are_refused(weights: Path, pca: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "pca.pth"
    torch.save(pca, path)
    with pytest.raises(AdapterError, match=r"pca\.pth: found a pickle .* convert it to \.safetensors or \.npz"):
        load_vggish(weights, path)
    objects = tmp_path / "pca.npz"
    np.savez(objects, pca_means=np.array([Bomb(tmp_path / "ran")], dtype=object))
    with pytest.raises(AdapterError, match=r"pca\.npz: found a file that cannot be read as weights"):
        load_vggish(weights, objects)
    assert not (tmp_path / "ran").exists()


def broken(kind: str, path: Path) -> Path:
    tensors = {"features.0.weight": torch.zeros(64, 1, 3, 3), "features.0.bias": torch.zeros(64)}
    match kind:
        case "missing":
            return path
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("weights")
        case "list":
            torch.save([torch.zeros(2)], path)
        case "nested":
            torch.save({"model": tensors}, path)
        case "truncated":
            torch.save(tensors, path)
            path.write_bytes(path.read_bytes()[:1500])
        case "incomplete":
            torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "found no file"),
        ("empty", "cannot be read as weights"),
        ("text", "holds more than tensors, or is damaged"),
        ("list", "found a list"),
        ("nested", "found a dict named 'model'"),
        ("truncated", "cannot be read as weights"),
        ("incomplete", r"found no tensor embeddings\.0\.bias"),
    ],
)
def test_other_files_are_refused_in_one_line(kind: str, message: str, tmp_path: Path) -> None:
    path = broken(kind, tmp_path / "vggish.pth")
    with pytest.raises(
        AdapterError, match=rf"^[^\n]*vggish\.pth: [^\n]*{message}[^\n]*; expected the weights of torchvggish[^\n]*$"
    ):
        load_vggish(path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("embeddings.4.bias", (64,), r"tensor embeddings\.4\.bias of shape \[64\] instead of \[128\]"),
        ("classifier.bias", (2,), r"an unknown tensor classifier\.bias"),
    ],
)
def test_other_networks_are_refused(name: str, shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        names = {key: tensor.shape for key, tensor in VGGish().state_dict().items()}
    # One stored value, expanded: the file stays small.
    state = {key: torch.zeros(1).expand(size) for key, size in names.items()} | {name: torch.zeros(shape)}
    torch.save(state, tmp_path / "vggish.pth")
    with pytest.raises(AdapterError, match=rf"vggish\.pth: found {message}"):
        load_vggish(tmp_path / "vggish.pth")


@pytest.mark.parametrize("damage", ["shape", "name", "text"])
def test_other_pca_parameters_are_refused(
    damage: str, weights: Path, pca: dict[str, np.ndarray], tmp_path: Path
) -> None:
    arrays = dict(pca)
    if damage == "shape":
        arrays["pca_means"] = arrays["pca_means"][:64]
    elif damage == "name":
        arrays["means"] = arrays.pop("pca_means")
    else:
        arrays["pca_means"] = np.array(["a"])
    np.savez(tmp_path / "pca.npz", **arrays)
    with pytest.raises(AdapterError, match=r"pca\.npz: found .*; expected VGGish's PCA parameters"):
        load_vggish(weights, tmp_path / "pca.npz")
