"""AST, HuBERT and CLAP through transformers, from a checkpoint folder on this machine.

Conventions
    Embeddings of one-second windows: AST's pooled output (Gong, Chung and Glass 2021); the mean over time of HuBERT's 7th
    layer, which bshall/hubert clusters (its ``units``; bias_in_AVS names that pipeline); CLAP's projected audio, of unit
    length. Scores: AST's sigmoids (AudioSet's classes are not exclusive); CLAP's softmax over the prompts
    "This is a sound of dog barking." of the data set's categories (zero-shot, as transformers' pipeline puts it).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avsrobust.adapters.base import AudioInput
from avsrobust.checkpoint_folder import WEIGHTS, check_folder, require_parameters
from avsrobust.errors import OptionError
from avsrobust.optional_packages import import_obstacle
from avsrobust.pretransform.base import Encoder, Encoding, encoding_of, files_checksum, windows
from avsrobust.pretransform.choices import require_folder

HUBERT_LAYER = 7
PROMPT = "This is a sound of {}."
_TOKENIZERS = ("tokenizer.json", "vocab.json")
_INSTALL = "'avsrobust[m2f]'"
# Stands for masked input in pre-training; nothing masks here.
_NEVER_USED = "masked_spec_embed"


class Stock(Encoder):
    """Base of the three: a network, its feature extractor and their sampling rate."""

    def __init__(self, network: Any, extractor: Any, device: torch.device) -> None:
        self._network = network
        self._extractor = extractor
        self._rate = int(extractor.sampling_rate)
        self._device = device
        self.audio = AudioInput.waveform(self._rate)

    def _inputs(self, sound: Tensor) -> dict[str, Tensor]:
        found = self._extractor(windows(sound, self._rate), sampling_rate=self._rate, return_tensors="pt")
        return {name: tensor.to(self._device) for name, tensor in found.items()}


class Ast(Stock):
    """The audio spectrogram transformer, with the classes that it was fine-tuned on where these are used."""

    def __init__(self, network: Any, extractor: Any, device: torch.device, *, classes: bool) -> None:
        super().__init__(network, extractor, device)
        self._classes = classes
        if classes:
            self.labels = tuple(str(label) for _, label in sorted(network.config.id2label.items()))

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Encoding:
        """Return pooled outputs [T, D] and, with classes, sigmoids [T, L]."""
        values = self._inputs(sound)["input_values"]
        if not self._classes:
            return encoding_of(self._network(values).pooler_output)
        pooled = self._network.audio_spectrogram_transformer(values).pooler_output
        return encoding_of(pooled, torch.sigmoid(self._network.classifier(pooled)))


class Hubert(Stock):
    """HuBERT, pooled over time."""

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Encoding:
        """Return means over time [T, D] of the layer that is clustered, or of the last where there are fewer."""
        layers = self._network(self._inputs(sound)["input_values"], output_hidden_states=True).hidden_states
        return encoding_of(layers[min(HUBERT_LAYER, len(layers) - 1)].mean(dim=1))


class Clap(Stock):
    """CLAP's audio tower; `texts` are unit vectors [L, D] of the classes in `labels`."""

    def __init__(
        self,
        network: Any,
        extractor: Any,
        device: torch.device,
        labels: Sequence[str] = (),
        texts: Tensor | None = None,
    ) -> None:
        super().__init__(network, extractor, device)
        self.labels = tuple(labels)
        self._texts = texts

    @torch.inference_mode()
    def encode(self, sound: Tensor) -> Encoding:
        """Return projected audio [T, D] and, with classes, their softmax [T, L]."""
        inputs = self._inputs(sound)
        # The extractor calls one random window long, so that training reaches the fusion layers; none is.
        inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        if self._texts is None:
            embeds = self._network(**inputs).audio_embeds
            return encoding_of(torch.nn.functional.normalize(embeds, dim=-1))
        embeds = self._network.get_audio_features(**inputs).pooler_output
        return encoding_of(embeds, torch.softmax(self._network.logit_scale_a.exp() * embeds @ self._texts.T, dim=-1))


def load_stock(
    name: str, folder: Path | None, device: torch.device, *, classes: bool, vocabulary: Sequence[str]
) -> Encoder:
    """Return one of the encoders ast, hubert and clap; arguments as in `load_encoder`.

    Raises:
        OptionError: The folder is missing, of another model, or lacks weights.
    """
    folder = require_folder(name, folder)
    check_folder(folder, "--checkpoint")
    try:
        import transformers
    except ImportError as error:
        raise OptionError(f"--encoder {name}: {import_obstacle(error, 'transformers', _INSTALL)}") from error
    kind = {
        "ast": transformers.ASTForAudioClassification if classes else transformers.ASTModel,
        "hubert": transformers.HubertModel,
        "clap": transformers.ClapModel if classes else transformers.ClapAudioModelWithProjection,
    }[name]
    extractors = {
        "ast": transformers.ASTFeatureExtractor,
        "hubert": transformers.Wav2Vec2FeatureExtractor,
        "clap": transformers.ClapFeatureExtractor,
    }
    with _quiet(transformers):
        network = _load_network(kind, folder).to(device).eval()
        extractor = _load_part(extractors[name], folder, "feature extractor (preprocessor_config.json)")
        encoder: Encoder
        if name == "ast":
            encoder = Ast(network, extractor, device, classes=classes)
        elif name == "hubert":
            encoder = Hubert(network, extractor, device)
        else:
            _require_whole_windows(extractor, folder)
            texts = _embed_texts(network, folder, vocabulary, device) if classes else None
            encoder = Clap(network, extractor, device, vocabulary if classes else (), texts)
    encoder.checksum = files_checksum(
        path for path in folder.iterdir() if path.is_file() and path.suffix in (".json", ".txt", *WEIGHTS)
    )
    return encoder


def _require_whole_windows(extractor: Any, folder: Path) -> None:
    if extractor.nb_max_samples < extractor.sampling_rate:
        raise OptionError(
            f"--checkpoint {folder}: this CLAP takes {extractor.max_length_s} s at a time and would cut windows at random; "
            "expected at least 1 s; name another checkpoint"
        )


@torch.inference_mode()
def _embed_texts(network: Any, folder: Path, vocabulary: Sequence[str], device: torch.device) -> Tensor:
    from transformers import AutoTokenizer

    # Without its files, transformers makes one that knows no word.
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise OptionError(
            f"--checkpoint {folder}: found no tokenizer ({' or '.join(_TOKENIZERS)}), which --classes needs to put names of "
            "classes into CLAP; copy its files too, or take --no-classes"
        )
    tokenizer = _load_part(AutoTokenizer, folder, "tokenizer")
    prompts = [PROMPT.format(label.replace("_", " ")) for label in vocabulary]
    tokens = tokenizer(prompts, padding=True, return_tensors="pt").to(device)
    texts: Tensor = network.get_text_features(
        input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
    ).pooler_output
    return texts


def _load_network(kind: Any, folder: Path) -> Any:
    try:
        require_parameters(kind, folder, "--checkpoint")
        network, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except OptionError:
        raise
    except Exception as error:
        # transformers, safetensors and the unpickler fail in many ways on damaged files; all of them mean the same.
        reason = " ".join(str(error).split())[:200]
        raise OptionError(
            f"--checkpoint {folder}: cannot be loaded as {kind.__name__} ({reason}); copy or download it again"
        ) from error
    missing = sorted(name for name in report["missing_keys"] if not name.endswith(_NEVER_USED))
    if missing:
        # transformers would go on with random numbers in their place.
        raise OptionError(
            f"--checkpoint {folder}: lacks {len(missing)} weights of {kind.__name__}, for example {missing[0]}; "
            "expected all of them; name the folder of the whole model, or take --no-classes where it has no classes"
        )
    return network


def _load_part(kind: Any, folder: Path, what: str) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        # As above.
        raise OptionError(
            f"--checkpoint {folder}: found no usable {what}; expected the folder as its owner publishes it"
        ) from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep load reports and bars of the library off stderr: problems are raised as errors."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # AST's and CLAP's own settings leave some mel bands empty.
            warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
