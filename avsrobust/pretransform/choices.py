"""A user's choices for class files, and whether they fit together: known before torch or weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avsrobust.conditions.seeds import check_seed
from avsrobust.errors import OptionError, did_you_mean
from avsrobust.textfiles import read_json
from avsrobust.vocabulary import counted

# Name -> whether its classes are used by default; None: it has none.
ENCODERS: dict[str, bool | None] = {
    "ast": True,
    "beats": True,
    "clap": False,
    "hubert": None,
    "vggish": None,
    "log_mel": None,
}
# Encoders whose weights are one file, and whose those are.
_WEIGHTS_FILES = {
    "vggish": "VGGish (torchvggish's, .pth or .safetensors)",
    "beats": "BEATs (.pt, from its authors' page)",
}
# Those whose weights are a folder of transformers.
_MODEL_TYPES = {"ast": "audio-spectrogram-transformer", "hubert": "hubert", "clap": "clap"}
_EXAMPLES = {
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "hubert": "facebook/hubert-base-ls960",
    "clap": "laion/clap-htsat-unfused",
}
DEFAULT_QUERIES = 100
# Leaves 70 of 100 queries to classes: as many as AVSBench-semantic's foreground has.
DEFAULT_CLUSTERS = 30
# The threshold in the folder name of the published files (README of bias_in_AVS).
DEFAULT_THRESHOLD = 0.4
DEFAULT_SEED = 42


@dataclass(frozen=True)
class Choices:
    """A user's choices; None stands for the default, or for the choice stored in `clusters_from`. Paths may be text.

    Attributes:
        encoder: Name of the encoder.
        checkpoint: Its weights.
        queries: Queries that the network has.
        clusters_from: File of an earlier run, whose clusters and classes are used; excludes all choices below.
        clusters: Number of clusters.
        classes: Whether the encoder's classes are used.
        class_threshold: Score above which a class is active.
        class_map: File of label: query.
        fit_splits: Splits that clusters and classes are fitted on.
        seed: Seed of k-means.
    """

    encoder: str
    checkpoint: Path | None = None
    queries: int = DEFAULT_QUERIES
    clusters_from: Path | None = None
    clusters: int | None = None
    classes: bool | None = None
    class_threshold: float | None = None
    class_map: Path | None = None
    fit_splits: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("checkpoint", "clusters_from", "class_map"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))


def check_choices(choices: Choices) -> None:
    """Check all that can be known without the weights and the data.

    Raises:
        OptionError: The encoder is unknown, or choices do not fit together.
    """
    classes = names_classes(choices.encoder, choices.classes)
    if choices.clusters_from is None:
        _check_numbers(choices, classes)
        return
    settled = {
        "--clusters": choices.clusters,
        "--classes": choices.classes,
        "--class-threshold": choices.class_threshold,
        "--class-map": choices.class_map,
        "--fit-split": choices.fit_splits or None,
        "--seed": choices.seed,
    }
    given = [name for name, value in settled.items() if value is not None]
    if given:
        raise OptionError(
            f"{given[0]}: has no part with --clusters-from {choices.clusters_from}, which settles it; leave one out"
        )


def names_classes(encoder: str, requested: bool | None) -> bool:
    """Return whether classes are scored.

    Args:
        encoder: Name of the encoder.
        requested: The user's choice; None: the encoder's default.

    Raises:
        OptionError: The encoder is unknown, or has no classes and these are requested.
    """
    if encoder not in ENCODERS:
        raise OptionError(
            f"--encoder {encoder}: unknown; expected one of {', '.join(ENCODERS)}{did_you_mean(encoder, ENCODERS)}"
        )
    default = ENCODERS[encoder]
    if requested and default is None:
        able = ", ".join(name for name, ability in ENCODERS.items() if ability is not None)
        raise OptionError(f"--classes: {encoder} names no classes; take --encoder {able}, or leave --classes out")
    return bool(default if requested is None else requested)


def require_weights(encoder: str, checkpoint: Path | None) -> None:
    """Check that an encoder's weights are there, or not named where it has none; whoever loads them looks closer.

    Raises:
        OptionError: They are not.
    """
    if encoder == "log_mel" and checkpoint is not None:
        raise OptionError(f"--checkpoint {checkpoint}: log_mel has no weights; leave it out, or name another --encoder")
    if encoder in _WEIGHTS_FILES and (checkpoint is None or not checkpoint.is_file()):
        found = "found none" if checkpoint is None else "found no file"
        raise OptionError(
            f"--checkpoint{'' if checkpoint is None else f' {checkpoint}'}: {found}; expected the weights' file of "
            f"{_WEIGHTS_FILES[encoder]}; name it"
        )
    if encoder in _MODEL_TYPES:
        require_folder(encoder, checkpoint)


def require_folder(name: str, folder: Path | None) -> Path:
    """Return the checkpoint folder of an encoder of transformers, by its configuration's own word.

    Raises:
        OptionError: It is missing or of another model.
    """
    wanted = (
        f"expected a transformers checkpoint folder of {_MODEL_TYPES[name]}, for example a copy of {_EXAMPLES[name]}"
    )
    if folder is None:
        raise OptionError(f"--checkpoint: not given; {wanted}; nothing is downloaded")
    try:
        config = read_json(folder / "config.json", OptionError)
    except (OSError, ValueError) as error:
        found = "no folder" if not folder.is_dir() else "no readable config.json in it"
        raise OptionError(f"--checkpoint {folder}: found {found}; {wanted}; nothing is downloaded") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != _MODEL_TYPES[name]:
        able = [encoder for encoder, model_type in _MODEL_TYPES.items() if model_type == kind]
        hint = f"take --encoder {able[0]}" if able else "name another folder"
        raise OptionError(f"--checkpoint {folder}: found a model of type {str(kind)[:50]}; {wanted}; {hint}")
    return folder


def _check_numbers(choices: Choices, classes: bool) -> None:
    clusters = DEFAULT_CLUSTERS if choices.clusters is None else choices.clusters
    threshold = DEFAULT_THRESHOLD if choices.class_threshold is None else choices.class_threshold
    check_seed(DEFAULT_SEED if choices.seed is None else choices.seed)
    if clusters < 1:
        raise OptionError(f"--clusters {clusters}: expected at least 1; every frame has one cluster")
    if clusters > choices.queries - bool(classes and choices.class_map is None):
        room = " and one class" if classes else ""
        raise OptionError(
            f"--clusters {clusters}: found {counted(choices.queries, 'query')} (--queries); expected room for the "
            f"clusters{room}; take fewer clusters" + (", or --no-classes" if classes else "")
        )
    if not 0 < threshold < 1:
        raise OptionError(
            f"--class-threshold {threshold:g}: expected a number between 0 and 1, such as {DEFAULT_THRESHOLD}"
        )
    if not classes:
        for option, value in (("--class-threshold", choices.class_threshold), ("--class-map", choices.class_map)):
            if value is not None:
                raise OptionError(f"{option} {value}: has no part without classes; leave it out, or take --classes")
