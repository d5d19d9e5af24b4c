"""The architecture of a network of this family: one frozen value, stored as JSON with the weights.

Conventions
    Frames are square, `image_size` pixels. The backbone is a Swin of four stages, the pixel decoder and the masked decoder
    share one width, `hidden_dim`. `decoder_layers` counts the prediction before the first layer, as transformers does.
    Readouts: "queries" sums the gated query masks; "union" adds up their odds, so that a closed query says no instead of
    nothing; "foreground" weights them by the probability of classes 1..21 as the published S4/MS3 code does; "semantic"
    scores `readout_labels` classes (AVSS).
    Query gates: "all" keeps every query active; "learned" weighs each by its probability given the audio; "hard" switches it
    on or off by that probability, as class files do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass

from avsrobust.errors import AdapterError
from avsrobust.schemas import CLOSED, NonNegative, read_schema
from avsrobust.textfiles import read_json
from model_adapters.m2f.bounds import check_bounds

AudioFeatures = Literal["log_mel", "embedding"]
Readout = Literal["queries", "union", "foreground", "semantic"]
QueryGate = Literal["all", "learned", "hard"]

EMBEDDING_SIZE = 128
# bias_in_AVS, image_processing_mask2former.py: AVS_CLASS_NUM of the S4/MS3 code and of the AVSS code.
FOREGROUND_LABELS = 22
SEMANTIC_LABELS = 71
_STAGES = 4
# transformers' pixel decoder normalises groups of channels: GroupNorm(32, feature_size).
_CHANNEL_GROUPS = 32
_COARSEST_STRIDE = 32
# Begins the messages about numbers that do not fit together or are out of bounds.
_RULE = "configuration of the network"


# Whole numbers above 0, and lists of them.
Size = Annotated[int, Strict(), Field(ge=1, json_schema_extra={"expected": "a positive integer"})]
Sizes = Annotated[tuple[Size, ...], Field(json_schema_extra={"expected": "positive integers"})]


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise AdapterError(f"{_RULE}: {name}: expected {expected}")


@dataclass(frozen=True, config=CLOSED)
class M2FConfig:
    """The architecture; the defaults are a toy-sized network (see the module's conventions).

    Raises:
        AdapterError: The numbers do not make a network, or are out of bounds (`check_bounds`).
    """

    image_size: Size = 96
    embed_dim: Size = 32
    depths: Sizes = (1, 1, 2, 1)
    num_heads: Sizes = (2, 4, 8, 16)
    window_size: Size = 6
    mlp_ratio: NonNegative = 4.0
    drop_path_rate: NonNegative = 0.0
    hidden_dim: Size = 64
    encoder_layers: Size = 2
    encoder_feedforward_dim: Size = 128
    decoder_layers: Size = 4
    feedforward_dim: Size = 128
    attention_heads: Size = 4
    num_queries: Size = 20
    num_labels: Size = 1
    readout: Readout = "queries"
    readout_labels: Size = 1
    audio: AudioFeatures = "log_mel"
    query_gate: QueryGate = "all"

    def __post_init__(self) -> None:
        check_bounds(self)
        _require(len(self.depths) == len(self.num_heads) == _STAGES, "depths and num_heads", f"{_STAGES} numbers each")
        _require(self.image_size % _COARSEST_STRIDE == 0, "image_size", f"a multiple of {_COARSEST_STRIDE}")
        _require(self.hidden_dim % _CHANNEL_GROUPS == 0, "hidden_dim", f"a multiple of {_CHANNEL_GROUPS}")
        _require(self.hidden_dim % self.attention_heads == 0, "hidden_dim", "a multiple of attention_heads")
        for stage, heads in enumerate(self.num_heads):
            _require(self.embed_dim * 2**stage % heads == 0, "num_heads", "divisors of the widths of the stages")
        _require(self.drop_path_rate < 1, "drop_path_rate", "a share below 1")
        _require(self.readout_labels <= self.num_labels, "readout_labels", "no more than num_labels")
        _require(
            not self.reads_classes or self.readout_labels > 1,
            "readout_labels",
            "a background and a class",
        )

    @property
    def reads_classes(self) -> bool:
        """True where the readout uses the class head."""
        return self.readout in ("foreground", "semantic")

    @property
    def semantic(self) -> bool:
        """True where the network scores classes instead of foreground against background."""
        return self.readout == "semantic"

    def to_json(self) -> str:
        """Return the configuration as JSON text; `from_dict` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, named_by: str, prefix: str = "") -> M2FConfig:
        """Return the configuration that a mapping describes.

        Args:
            values: The mapping, as `to_json` or a JSON file gives it.
            named_by: The file that it comes from, for messages.
            prefix: The keys above the mapping in that file, with a dot at the end.

        Raises:
            AdapterError: A key is unknown or has an unusable value.
        """
        try:
            return read_schema(cls, dict(values), named_by, AdapterError, prefix=prefix)
        except AdapterError as error:
            if str(error).startswith(_RULE):
                raise AdapterError(f"{named_by}: {error}") from error
            raise


# facebook/mask2former-swin-base-ade-semantic, the start of the published checkpoints (bias_in_AVS, avs_m2f_base.py).
PUBLISHED = M2FConfig(
    image_size=384,
    embed_dim=128,
    depths=(2, 2, 18, 2),
    num_heads=(4, 8, 16, 32),
    window_size=12,
    drop_path_rate=0.3,
    hidden_dim=256,
    encoder_layers=6,
    encoder_feedforward_dim=1024,
    decoder_layers=10,
    feedforward_dim=2048,
    attention_heads=8,
    num_queries=100,
    num_labels=150,
    readout="foreground",
    readout_labels=FOREGROUND_LABELS,
    audio="embedding",
)


def with_readout(config: M2FConfig, readout: Readout) -> M2FConfig:
    """Return `config` with another readout, and the number of classes that it reads."""
    labels = {"queries": 1, "union": 1, "foreground": FOREGROUND_LABELS, "semantic": SEMANTIC_LABELS}[readout]
    return replace(config, readout=readout, readout_labels=labels)


def read_config(path: Path, base: M2FConfig) -> M2FConfig:
    """Return the configuration in a JSON file.

    Args:
        path: The file: our own keys, or a Hugging Face Mask2Former config.json.
        base: Values of the keys that the file lacks.

    Raises:
        AdapterError: The file cannot be read, or is neither.
    """
    try:
        values = read_json(path, AdapterError)
    except OSError as error:
        raise AdapterError(
            f"--option config={path}: cannot be read ({error.strerror or error}); expected a JSON file"
        ) from error
    except ValueError as error:
        raise AdapterError(f"--option config={path}: not JSON ({error}); expected a configuration") from error
    if not isinstance(values, dict):
        raise AdapterError(f"--option config={path}: found a JSON {type(values).__name__}; expected an object")
    if "backbone_config" in values:
        values = _from_hugging_face(values, path)
    return M2FConfig.from_dict({**asdict(base), **values}, named_by=str(path))


def _from_hugging_face(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    backbone = values["backbone_config"]
    if not isinstance(backbone, Mapping) or backbone.get("model_type") != "swin":
        raise AdapterError(f"{path}: found another backbone; expected 'backbone_config' with model_type 'swin'")
    widths = [values.get(key, 256) for key in ("hidden_dim", "feature_size", "mask_feature_size")]
    if any(width != widths[0] for width in widths):
        raise AdapterError(f"{path}: hidden_dim, feature_size and mask_feature_size differ; expected one width for all")
    backbone_keys = ("image_size", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "drop_path_rate")
    taken = {key: backbone[key] for key in backbone_keys if key in backbone}
    renamed = {"dim_feedforward": "feedforward_dim", "num_attention_heads": "attention_heads"}
    own = ("hidden_dim", "encoder_layers", "encoder_feedforward_dim", "decoder_layers", "num_queries", "num_labels")
    for key in (*own, *renamed):
        if key in values:
            taken[renamed.get(key, key)] = values[key]
    if isinstance(values.get("id2label"), Mapping) and "num_labels" not in values:
        taken["num_labels"] = len(values["id2label"])
    return taken
