"""VGGish's network: log-mels to embeddings, with weights as others publish them.

Conventions
    A log-mel is float32 [N, 1, 96, 64] (`avsrobust.audio.features.vggish_log_mel`), an embedding float32 [N, 128].
    The layers and their names are those of torchvggish (AVSBench, avs_s4/torchvggish/vggish.py), so that its weights
    load as they are. Embeddings come after the last ReLU. The optional PCA whitening and 8-bit quantisation are those of
    AudioSet's released features; AVSBench trains without them.
    Weights are read as tensors and nothing else: a pickle with anything more in it is refused.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from avsrobust.arrays import read_npz
from avsrobust.audio.front_ends import BANDS, STEPS
from avsrobust.errors import AdapterError
from avsrobust.weights import check_tensors, check_weights_file

EMBEDDING_SIZE = 128

# torchvggish/vggish.py `make_layers`, vggish_params.py.
_CHANNELS: tuple[int | None, ...] = (64, None, 128, None, 256, 256, None, 512, 512, None)
_HIDDEN = (512 * (STEPS // 16) * (BANDS // 16), 4096, 4096, EMBEDDING_SIZE)
_QUANTISE_LIMIT = 2.0
_QUANTISE_STEPS = 255.0

_VECTORS, _MEANS = "pca_eigen_vectors", "pca_means"
_EXPECTED = "expected the weights of torchvggish (tensors named features.0.weight .. embeddings.4.bias)"
_EXPECTED_PCA = f"expected VGGish's PCA parameters ({_VECTORS} [128, 128] and {_MEANS} [128])"
_GET_IT = "download it again from its owner's release page"


class Postprocessor(nn.Module):
    """PCA whitening and quantisation of embeddings: float32 [N, 128] -> whole numbers 0..255, float32 [N, 128].

    torchvggish/vggish.py `Postprocessor`: vectors @ (embedding - means), clipped to [-2, 2], scaled to 0..255, rounded.
    """

    pca_eigen_vectors: Tensor
    pca_means: Tensor

    def __init__(self, vectors: Tensor, means: Tensor) -> None:
        super().__init__()
        self.register_buffer(_VECTORS, vectors)
        self.register_buffer(_MEANS, means)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the quantised embeddings."""
        whitened = (embeddings - self.pca_means) @ self.pca_eigen_vectors.T
        clipped = whitened.clamp(-_QUANTISE_LIMIT, _QUANTISE_LIMIT)
        return torch.round((clipped + _QUANTISE_LIMIT) * (_QUANTISE_STEPS / (2 * _QUANTISE_LIMIT)))


class VGGish(nn.Module):
    """The network: log-mel [N, 1, 96, 64] -> embedding [N, 128], quantised where a `postprocessor` is given."""

    def __init__(self, postprocessor: Postprocessor | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(*_convolutions())
        self.embeddings = nn.Sequential(
            *(layer for size, following in pairwise(_HIDDEN) for layer in (nn.Linear(size, following), nn.ReLU()))
        )
        self.pproc = postprocessor

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the embeddings of examples."""
        maps: Tensor = self.features(log_mel)
        # The published weights come from TensorFlow, where channels are last.
        embeddings: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embeddings if self.pproc is None else self.pproc(embeddings)

    def embedding(self, log_mel: Tensor) -> Tensor:
        """Return the embeddings [B, T, 128] of clips [B, T, 1, 96, 64]."""
        flat: Tensor = self(log_mel.flatten(0, 1))
        return flat.reshape(*log_mel.shape[:2], EMBEDDING_SIZE)


def load_vggish(path: Path | str, pca_path: Path | str | None = None) -> VGGish:
    """Load the network with its weights.

    Args:
        path: Weights: .safetensors, or a PyTorch file as torchvggish publishes it. Parameters named ``pproc.`` are ignored.
        pca_path: PCA parameters for post-processing: the same formats, or AudioSet's vggish_pca_params.npz. torchvggish
            publishes them as a pickle of numpy arrays, which is refused: numpy's unpickling is not safe on hostile files.

    Returns:
        The network in eval mode, on the CPU.

    Raises:
        AdapterError: A file is missing, holds something else, or would run code.
    """
    path, pca_path = Path(path), None if pca_path is None else Path(pca_path)
    state = {name: tensor for name, tensor in _read_tensors(path, _EXPECTED).items() if not name.startswith("pproc.")}
    # No memory and no random numbers for weights that are replaced at once.
    with torch.device("meta"):
        network = VGGish()
    _require_fit(path, state, network)
    # Only now: a tensor of another shape may be a view that repeats one number without end.
    check_tensors(path, state, AdapterError)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    if pca_path is not None:
        network.pproc = _load_postprocessor(pca_path)
    return network.eval()


def _convolutions() -> Iterator[nn.Module]:
    channels = 1
    for following in _CHANNELS:
        if following is None:
            yield nn.MaxPool2d(kernel_size=2, stride=2)
        else:
            yield nn.Conv2d(channels, following, kernel_size=3, padding=1)
            yield nn.ReLU()
            channels = following


def _load_postprocessor(path: Path) -> Postprocessor:
    tensors = _read_tensors(path, _EXPECTED_PCA)
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    if sizes != {_VECTORS: EMBEDDING_SIZE**2, _MEANS: EMBEDDING_SIZE}:
        found = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(tensors.items())[:3]) or "nothing"
        raise AdapterError(f"{path}: found {found}; {_EXPECTED_PCA}; {_GET_IT}")
    check_tensors(path, tensors, AdapterError)
    vectors = tensors[_VECTORS].float().reshape(EMBEDDING_SIZE, EMBEDDING_SIZE)
    return Postprocessor(vectors, tensors[_MEANS].float().flatten())


def _require_fit(path: Path, state: Mapping[str, Tensor], network: nn.Module) -> None:
    expected = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problem = f"no tensor {name}"
        elif name not in expected:
            problem = f"an unknown tensor {name}"
        elif found[name] != expected[name]:
            problem = f"tensor {name} of shape {found[name]} instead of {expected[name]}"
        else:
            continue
        raise AdapterError(f"{path}: found {problem}; {_EXPECTED}; {_GET_IT}")


def _read_tensors(path: Path, expected: str) -> dict[str, Tensor]:
    """Read a file of named tensors without running anything in it."""
    try:
        content = _read(path)
    except AdapterError:
        raise
    except FileNotFoundError as error:
        raise AdapterError(f"{path}: found no file; {expected}; {_GET_IT}") from error
    except pickle.UnpicklingError as error:
        raise AdapterError(
            f"{path}: found a pickle that holds more than tensors, or is damaged; {expected}; "
            "where you trust its source, convert it to .safetensors or .npz"
        ) from error
    # Parsers of damaged files raise anything: struct.error, KeyError, SyntaxError, ...
    except Exception as error:
        reason = f" ({' '.join(str(error).split())[:300]})" if isinstance(error, OSError | ValueError) else ""
        raise AdapterError(
            f"{path}: found a file that cannot be read as weights{reason}; {expected}; {_GET_IT}"
        ) from error
    if not isinstance(content, Mapping):
        raise AdapterError(f"{path}: found a {type(content).__name__}; {expected}; {_GET_IT}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise AdapterError(f"{path}: found a {type(value).__name__} named {name!r}; {expected}; {_GET_IT}")
    return dict(content)


def _read(path: Path) -> object:
    if path.suffix == ".npz":
        try:
            return {name: torch.from_numpy(array) for name, array in read_npz(path, AdapterError).items()}
        except AdapterError as error:
            raise ValueError(error) from error
    check_weights_file(path, AdapterError)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():
        # Warnings about odd pickles: a refused file is one line.
        warnings.simplefilter("ignore")
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    return content
