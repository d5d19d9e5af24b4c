"""Model cards: their heads are read by huggingface_hub, and those of the bundled weights say what their tables say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from avsrobust.errors import OptionError
from avsrobust.exporting.model_cards import split_card, with_results
from avsrobust.exporting.runs import result_runs
from avsrobust.results import Scores

WEIGHTS = Path(__file__).parents[1] / "model_adapters/m2f/weights"
# Columns of the tables in the bundled cards.
MEASURED = ("clean_miou", "g_miou", "g_f", "g_fpr")


def half(targets: np.ndarray, condition: str, clip: int) -> np.ndarray:
    found = targets * 0.7
    found[:, ::2] = 0.0
    return found


def evaluations(card: str) -> list[Any]:
    from huggingface_hub import ModelCard

    return list(ModelCard(card).data.eval_results or [])


def test_the_head_holds_the_scores(make_scores: Callable[..., Scores]) -> None:
    runs, _ = result_runs([make_scores(half, levels=(-3.0,)), make_scores(half, dataset="ms3")], ["avsbench", "strict"])
    card = with_results("", "net", runs)
    found = {
        (entry.dataset_type, entry.dataset_split, entry.metric_args["protocol"], entry.metric_type): entry.metric_value
        for entry in evaluations(card)
    }
    wanted = {}
    for run in runs:
        for name, value in run.scores.items():
            *key, condition, measure = name.split("/")
            if measure != "clips":
                wanted[(*key, f"{condition}_{measure}".lower())] = round(value, 4)
    assert found == wanted
    assert ("s4", "test", "strict", "mixture:-3_miou") in found
    assert {entry.task_type for entry in evaluations(card)} == {"image-segmentation"}
    assert {entry.dataset_args["seed"] for entry in evaluations(card)} == {"42"}


def test_what_a_card_says_is_kept(make_scores: Callable[..., Scores]) -> None:
    runs, _ = result_runs([make_scores(half)])
    card = with_results("---\nlicense: mit\ntags: [mine]\n---\n\n# Title\n\n---\ntext\n", "net", runs)
    again = with_results(card, "net", runs)
    assert again == card
    head, body = split_card(card)
    assert (head["license"], head["tags"], head["library_name"]) == ("mit", ["mine"], "avsrobust")
    assert body == "\n# Title\n\n---\ntext\n"
    assert "model-index" not in split_card(with_results(card, "net", []))[0]


def test_a_card_without_a_head_gets_one(make_scores: Callable[..., Scores]) -> None:
    runs, _ = result_runs([make_scores(half)])
    assert split_card(with_results("# Title\n", "net", runs))[1] == "\n# Title\n"
    assert "# net" in with_results("", "net", runs)


@pytest.mark.parametrize("head", ["- a\n- b", "a: [", "a: 1\nno end"])
def test_a_broken_head_is_refused(head: str) -> None:
    end = "" if "no end" in head else "\n---\n"
    with pytest.raises(OptionError, match="the card's head"):
        with_results(f"---\n{head}{end}", "net", [])


def test_a_head_runs_nothing() -> None:
    with pytest.raises(OptionError, match="cannot be read as YAML"):
        split_card("---\na: !!python/object/apply:os.system [echo]\n---\n")


def test_hostile_names_stay_inert(make_scores: Callable[..., Scores]) -> None:
    hostile = 'x: {"\n---\n<script>\u202e&a *a'
    runs, _ = result_runs([make_scores(half, model=hostile, split=hostile)])
    card = with_results("", hostile, runs)
    _, text, body = re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)
    head = yaml.safe_load(text)
    assert len(head["model-index"][0]["results"]) == 1
    assert "\u202e" not in card
    assert "<script>" not in body
    assert len(evaluations(card)) == len([name for name in runs[0].scores if not name.endswith("/clips")])


@pytest.mark.parametrize("name", ["m2f", "m2f_debias", "m2f_robust"])
def test_bundled_cards_agree_with_their_tables(name: str) -> None:
    card = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (s4|ms3) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", card, re.MULTILINE)
    assert [row[0] for row in rows] == ["s4", "ms3"]
    wanted = {
        (f"avsrobust-toy-{dataset}", metric): pytest.approx(float(text) / 100, abs=1e-9)
        for dataset, *texts in rows
        for metric, text in zip(MEASURED, texts, strict=True)
    }
    found = evaluations(card)
    assert {(entry.dataset_type, entry.metric_type): entry.metric_value for entry in found} == wanted
    assert {entry.metric_args["protocol"] for entry in found} == {"strict"}
    head = split_card(card)[0]
    assert head["model-index"][0]["name"] == name
    assert head["license"] == "apache-2.0"
