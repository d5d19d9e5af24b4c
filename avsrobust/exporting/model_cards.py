"""Model cards for Hugging Face: Markdown whose head holds the evaluation results.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md (``model-index``), read by `huggingface_hub.EvalResult`.

Conventions
    An entry of ``model-index`` per data set, split and protocol. Values are fractions with four decimals. The type of a metric is
    ``<condition>_<measure>`` in lower case (``clean_miou``, ``g_fpr``), its name the same for people.
    What a head holds besides is kept; everything in it is quoted by a YAML writer, and read by a safe one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from avsrobust.errors import OptionError
from avsrobust.exporting.runs import ResultRun
from avsrobust.inert import inert_line
from avsrobust.limits import YAML_BYTES
from avsrobust.reporting.escape import markdown

_FENCE = "---\n"
_TASK = {"type": "image-segmentation", "name": "Audio-visual segmentation"}
_DECIMALS = 4
_COUNT = "clips"
_HEAD = {
    "library_name": "avsrobust",
    "pipeline_tag": "image-segmentation",
    "tags": ["audio-visual-segmentation", "avsrobust"],
}


def model_index(name: str, runs: Sequence[ResultRun]) -> list[dict[str, Any]]:
    """Return the ``model-index`` of a card.

    Args:
        name: Name of the model.
        runs: Its results (`avsrobust.exporting.runs.result_runs`).
    """
    return [{"name": inert_line(name), "results": [entry for run in runs for entry in _entries(run)]}]


def with_results(card: str, name: str, runs: Sequence[ResultRun]) -> str:
    """Return a card with these results in its head, in place of those that it has.

    Args:
        card: A card with or without a head; empty: a short one is made.
        name: Name of the model.
        runs: Its results; none: the head says nothing of results.

    Raises:
        OptionError: The card's head is no YAML mapping.
    """
    head, body = split_card(card)
    merged = {**_HEAD, **head}
    merged.pop("model-index", None)
    if runs:
        merged["model-index"] = model_index(name, runs)
    text = yaml.safe_dump(merged, sort_keys=False, allow_unicode=False, width=1000)
    return f"{_FENCE}{text}{_FENCE}{body or _body(name)}"


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """Return a card's head as a mapping, and the rest.

    Raises:
        OptionError: The head is no YAML mapping.
    """
    if not card.startswith(_FENCE):
        return {}, f"\n{card}" if card else ""
    text, fence, body = card[len(_FENCE) :].partition(f"\n{_FENCE}")
    try:
        YAML_BYTES.check(len(text.encode("utf-8", "surrogatepass")), "the card's head", OptionError)
        head = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(
            f"the card's head cannot be read as YAML ({reason}); put it right, or leave it out"
        ) from error
    if not fence or not isinstance(head, dict):
        raise OptionError("the card's head: expected YAML keys between two lines '---'; put it right, or leave it out")
    return head, body


def _body(name: str) -> str:
    return (
        f"\n# {markdown(name)}\n\nA model of audio-visual segmentation in a folder that avsrobust reads:\n\n"
        "    avsrobust evaluate --adapter ADAPTER --checkpoint THIS_FOLDER\n"
    )


def _entries(run: ResultRun) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], dict[tuple[str, str], float]] = {}
    for name, value in run.scores.items():
        *key, condition, measure = name.split("/")
        if measure != _COUNT and condition != _COUNT:
            groups.setdefault(tuple(key), {})[condition, measure] = value
    return [_entry(run.parameters, key, values) for key, values in groups.items()]


def _entry(
    parameters: Mapping[str, str], key: tuple[str, ...], values: Mapping[tuple[str, str], float]
) -> dict[str, Any]:
    dataset, split, protocol = key
    arguments = {
        name: parameters[name] for name in ("seed", "recipe", "release", "manifest_sha256") if name in parameters
    }
    return {
        "task": dict(_TASK),
        "dataset": {
            "type": dataset,
            "name": f"{dataset}, {split}",
            "split": split,
            "args": arguments,
        },
        "metrics": [
            {
                "type": f"{condition}_{measure}".lower(),
                "name": f"{condition} {measure}, protocol {protocol}",
                "value": round(value, _DECIMALS),
                "args": {"protocol": protocol},
            }
            for (condition, measure), value in values.items()
        ],
    }
