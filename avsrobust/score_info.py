"""The metadata of ``scores.parquet``: the model, data set and build that its frames are of, and the clips that failed.

Conventions
    They hold the format, the adapter's name, data set and failed clips, and the evaluation: a checksum of model and manifest,
    which the other files of the folder hold too. A checksum over all of the file is added where it is written.
    Metadata are texts; lists and objects are JSON. What was added later is there only where it says something: results that
    have no use for it keep their bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avsrobust.condition_facts import are_facts
from avsrobust.errors import ResultsError
from avsrobust.textfiles import parse_json

# The format of results: as `manifest.BUILD_FORMAT`.
SCORES_FORMAT = 2
EVALUATION_KEY = "avsrobust.evaluation"
_TRAIN_SOURCES_KEY = "avsrobust.train_sources"
_CONDITIONS_KEY = "avsrobust.conditions"
_READOUT_KEY = "avsrobust.readout"
_SCORE_SIZE_KEY = "avsrobust.score_size"
_LIMITED_KEY = "avsrobust.limited"
_SHARD_KEY = "avsrobust.shard"


@dataclass(frozen=True)
class FailedClip:
    """A clip that could not be scored, and why."""

    split: str
    clip_id: str
    error: str


@dataclass(frozen=True)
class ScoreInfo:
    """Metadata of ``scores.parquet``: model (the adapter's name), data set, seed of the build, failed clips.

    `recipe` is the name of the build's recipe, `release` the form of its data, `muted` the ids of its clips whose own recording
    is silent (`manifest.ManifestInfo`). `notes` are sentences that stand under every table of these results
    (`avsrobust.caveats`). `evaluation` is the checksum of model and manifest (empty: not known). `conditions`: facts about
    conditions beyond the first four, as the manifest has them (`manifest.ManifestInfo.conditions`).
    `train_sources` are the ids of clips of other splits whose YouTube source also gave a clip of train; None where the build has
    no clip of train. `readout` is the name of the readout that was scored (empty: the model's own masks); `score_size` is the
    size of the scored masks and how the annotated ones came to it ("224:nearest"; empty: that of the mask files). `limited` are
    splits of which a smoke run (``evaluate --limit``) scored a part of the clips. `shard` is the part of the clips that one of
    several processes scored ("2/4", ``evaluate --shard``; empty: all).
    """

    model: str
    dataset: str
    seed: int
    failed: tuple[FailedClip, ...] = ()
    recipe: str = ""
    release: str = ""
    muted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    evaluation: str = ""
    train_sources: tuple[str, ...] | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    readout: str = ""
    score_size: str = ""
    limited: tuple[str, ...] = ()
    shard: str = ""

    def of_readout(self, name: str) -> ScoreInfo:
        """Return the metadata of a readout's scores; `model` is then the model's name with the readout's behind it."""
        return replace(self, model=readout_model(self.model, name), readout=name)


def readout_model(model: str, readout: str) -> str:
    """Return the name of a model's readout in tables, "" for none being the model itself."""
    return f"{model} [{readout}]" if readout else model


def info_texts(info: ScoreInfo) -> dict[str, str]:
    """Return the metadata of ``scores.parquet`` but its checksum."""
    # A path in an error may hold bytes that are no UTF-8.
    errors = [entry.error.encode("utf-8", "replace").decode() for entry in info.failed]
    failed = [[entry.split, entry.clip_id, text] for entry, text in zip(info.failed, errors, strict=True)]
    sources = {} if info.train_sources is None else {_TRAIN_SOURCES_KEY: json.dumps(info.train_sources)}
    return {
        **sources,
        "avsrobust.scores_format": str(SCORES_FORMAT),
        "avsrobust.model": info.model,
        "avsrobust.dataset": info.dataset,
        "avsrobust.seed": str(info.seed),
        "avsrobust.failed": json.dumps(failed, ensure_ascii=False),
        "avsrobust.recipe": info.recipe,
        "avsrobust.release": info.release,
        "avsrobust.muted": json.dumps(list(info.muted), ensure_ascii=False),
        "avsrobust.notes": json.dumps(list(info.notes), ensure_ascii=False),
        EVALUATION_KEY: info.evaluation,
        **({_READOUT_KEY: info.readout} if info.readout else {}),
        **({_SCORE_SIZE_KEY: info.score_size} if info.score_size else {}),
        **({_LIMITED_KEY: json.dumps(list(info.limited), ensure_ascii=False)} if info.limited else {}),
        **({_SHARD_KEY: info.shard} if info.shard else {}),
        **({_CONDITIONS_KEY: json.dumps(dict(info.conditions), sort_keys=True)} if info.conditions else {}),
    }


def read_texts(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the metadata of a file as texts, but those of others. Raises `ResultsError` where one is no text."""
    try:
        return {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"avsrobust.")}
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: has damaged metadata ({error}); evaluate again") from error


def read_info(path: Path, texts: Mapping[str, str]) -> ScoreInfo:
    """Return what a file's texts say. Raises `ResultsError` where they are not those of results of this format, or damaged."""
    version = texts.get("avsrobust.scores_format")
    if version is None:
        raise ResultsError(f"{path}: is parquet, but no results; expected scores made by 'avsrobust evaluate'")
    if version != str(SCORES_FORMAT):
        raise ResultsError(
            f"{path}: holds results of format {version}; expected format {SCORES_FORMAT}; evaluate again"
        )
    try:
        return ScoreInfo(
            model=texts["avsrobust.model"],
            dataset=texts["avsrobust.dataset"],
            seed=int(texts["avsrobust.seed"]),
            failed=tuple(FailedClip(*_strings(entry, 3)) for entry in _list(texts["avsrobust.failed"])),
            recipe=texts["avsrobust.recipe"],
            release=texts["avsrobust.release"],
            muted=tuple(_strings(_list(texts["avsrobust.muted"]))),
            notes=tuple(_strings(_list(texts["avsrobust.notes"]))),
            evaluation=texts[EVALUATION_KEY],
            train_sources=tuple(_strings(_list(texts[_TRAIN_SOURCES_KEY]))) if _TRAIN_SOURCES_KEY in texts else None,
            conditions=_facts(texts.get(_CONDITIONS_KEY, "{}")),
            readout=texts.get(_READOUT_KEY, ""),
            score_size=texts.get(_SCORE_SIZE_KEY, ""),
            limited=tuple(_strings(_list(texts.get(_LIMITED_KEY, "[]")))),
            shard=texts.get(_SHARD_KEY, ""),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path}: has damaged metadata ({error}); evaluate again") from error


def _facts(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not are_facts(value):
        raise ValueError("expected facts about each condition")
    return dict(value)


def _list(text: str) -> list[Any]:
    value = parse_json(text)
    if not isinstance(value, list):
        raise ValueError(f"found {type(value).__name__}; expected a list")
    return value


def _strings(values: object, count: int | None = None) -> Sequence[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("expected a list of strings")
    if count is not None and len(values) != count:
        raise ValueError(f"expected {count} strings")
    return values
