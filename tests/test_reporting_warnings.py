"""What is said where results under one name, or lines of one table, do not compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from avsrobust.datasets.masks import palette
from avsrobust.metrics import class_statistics
from avsrobust.reporting.table_builder import build_table
from avsrobust.reporting.warnings import _EXCHANGED
from avsrobust.results import Run, Scores

Make = Callable[..., Scores]
SOURCE = "c" * 64


def soft(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return target * (0.8 if condition == "clean" else 0.3)


def hard(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
    return target * (condition == "clean")


def run(dataset: str, *, checkpoint: str | None = None, options: Any = None, **changes: Any) -> Run:
    details: dict[str, Any] = {
        "adapter": {"spec": "m2f", "class": "M2F"},
        "checkpoint": None if checkpoint is None else {"path": f"weights/{checkpoint}", "sha256": checkpoint * 64},
        "options": options or {},
        "identity": {"source_sha256": SOURCE},
        "manifest": {"path": f"robust/{dataset}", "sha256": dataset},
    }
    return Run("net", dataset, {**details, **changes})


def warnings_of(make_scores: Make, *runs: Run | None) -> tuple[str, ...]:
    datasets = ["s4", "ms3", "avss"]
    results = [make_scores(soft, dataset=dataset) for dataset in datasets[: len(runs)]]
    return build_table(results, ["avsbench"], runs=runs).warnings


def test_equal_runs_are_not_spoken_of(make_scores: Make) -> None:
    assert (
        warnings_of(make_scores, run("s4", checkpoint="a"), run("ms3", checkpoint="a"), run("avss", checkpoint="a"))
        == ()
    )
    assert warnings_of(make_scores, run("s4"), run("ms3")) == ()
    assert warnings_of(make_scores, run("s4", checkpoint="a"), None) == ()


def test_different_weights_are_named(make_scores: Make) -> None:
    (warning,) = warnings_of(
        make_scores, run("s4", checkpoint="a"), run("ms3", checkpoint="b"), run("avss", checkpoint="a")
    )
    assert warning == (
        "net: its results are of different weights (s4/test, avss/test: aaaaaaaaaaaa of weights/a; ms3/test: bbbbbbbbbbbb of "
        "weights/b); evaluate all with one --checkpoint, or give each its own --name"
    )
    (warning,) = warnings_of(make_scores, run("s4", checkpoint="a"), run("ms3"))
    assert "ms3/test: no checkpoint" in warning


def test_the_same_weights_from_two_places_are_the_same(make_scores: Make) -> None:
    here = run("s4", checkpoint="a")
    moved = replace(here, details={**here.details, "checkpoint": {"path": "elsewhere", "sha256": "a" * 64}})
    assert warnings_of(make_scores, here, moved) == ()


def test_different_adapters_and_options_are_named(make_scores: Make) -> None:
    (warning,) = warnings_of(make_scores, run("s4"), run("ms3", identity={"source_sha256": "d" * 64}))
    assert warning.startswith(
        "net: its results are of different adapters (s4/test: m2f, source cccccccccccc; ms3/test: m2f, source dddddddddddd); "
    )
    (warning,) = warnings_of(make_scores, run("s4", options={"size": "384"}), run("ms3"))
    assert "different options (s4/test: size=384; ms3/test: none); evaluate all with the same --option" in warning
    elsewhere = run("ms3", adapter={"spec": "./m2f.py:M2F", "class": "module.M2F"})
    assert warnings_of(make_scores, run("s4"), elsewhere) == ()
    both = warnings_of(make_scores, run("s4", checkpoint="a"), run("ms3", checkpoint="b", options={"size": "1"}))
    assert len(both) == 2


def test_stored_masks_lie_in_another_folder_for_each_data_set(make_scores: Make) -> None:
    stored = {"adapter": {"spec": "predictions", "class": "Predictions"}}
    runs = [run(name, options={"masks": f"masks/{name}"}, **stored) for name in ("s4", "ms3")]
    assert warnings_of(make_scores, *runs) == ()
    runs[1] = run("ms3", options={"masks": "masks/ms3", "task": "semantic"}, **stored)
    assert len(warnings_of(make_scores, *runs)) == 1


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"checkpoint": 3, "options": [], "identity": None, "adapter": "m2f"},
        {"checkpoint": {"sha256": 5}, "options": {"a": [1]}},
    ],
)
def test_odd_runs_do_no_harm(make_scores: Make, details: dict[str, Any]) -> None:
    warnings_of(make_scores, Run("net", "s4", details), run("ms3", checkpoint="a"))


def test_two_models_may_have_two_checkpoints(make_scores: Make) -> None:
    results = [make_scores(soft, model="a"), make_scores(soft, model="b", dataset="ms3")]
    runs = [run("s4", checkpoint="a"), run("ms3", checkpoint="b")]
    assert build_table(results, ["avsbench"], runs=runs).warnings == ()


def test_recipes_make_other_negatives(make_scores: Make) -> None:
    results = [make_scores(soft, model=name) for name in ("a", "b")]
    results[1] = replace(results[1], info=replace(results[1].info, recipe="reference"))
    assert build_table(results, ["strict"]).warnings == (
        "s4/test: models were scored on different builds; their negatives differ",
    )


def test_binary_masks_under_a_sweep_are_named_once(make_scores: Make) -> None:
    results = [make_scores(hard, dataset=dataset) for dataset in ("s4", "ms3")]
    (warning,) = build_table(results, ["avsbench", "bias_in_avs", "strict"]).warnings
    assert warning == (
        "net on s4/test, ms3/test: masks are binary, every pixel is 0 or 1, so that the sweep over thresholds of avsbench, "
        "bias_in_avs has two points, the mask and the whole picture, and F is never below that of the whole picture; "
        "use --protocol strict, or store probabilities"
    )
    assert build_table(results, ["strict", "pooled"]).warnings == ()
    assert build_table([make_scores(soft)], ["avsbench"]).warnings == ()


def test_what_is_said_of_binary_masks_is_so(make_scores: Make) -> None:
    (wrong,) = build_table([make_scores(lambda target, condition, clip: ~target * 1.0)], ["avsbench"]).lines
    assert wrong.score.f == wrong.trivial.f
    (strict,) = build_table([make_scores(lambda target, condition, clip: ~target * 1.0)], ["strict"]).lines
    assert strict.score.f == 0


def test_one_soft_pixel_makes_masks_soft(make_scores: Make) -> None:
    def nearly(target: np.ndarray, condition: str, clip: int) -> np.ndarray:
        mask = target * 1.0
        if clip == 3 and condition == "noise":
            mask[0, 0, 0] = 0.5
        return mask

    assert build_table([make_scores(nearly)], ["avsbench"]).warnings == ()


def test_baselines_are_binary_by_nature(make_scores: Make) -> None:
    assert build_table([make_scores(name) for name in ("oracle", "visual_prior", "empty")], ["avsbench"]).warnings == ()


def with_ids(scores: Scores, predicted: int = 5) -> Scores:
    """Scores of a model of class ids: class 5 wherever its mask is, or another."""
    sizes = np.stack([scores.statistics.tp_050 + scores.statistics.fp_050, scores.statistics.target_pixels])
    masks = (np.arange(12 * 16) < sizes[..., None]).reshape(2, -1, 12, 16) * np.array([predicted, 5]).reshape(
        2, 1, 1, 1
    )
    return replace(scores, classes=class_statistics(masks[0], masks[1]))


def test_binary_masks_that_were_taken_for_class_ids_are_named(make_scores: Make) -> None:
    (warning,) = build_table([with_ids(make_scores(hard, dataset="avss"), predicted=1)], ["avsbench"]).warnings
    assert warning.startswith(
        "net on avss/test: every foreground pixel has class 1 (1 class annotated); integers are class ids"
    )
    assert build_table([with_ids(make_scores(hard, dataset="avss"), predicted=2)], ["avsbench"]).warnings == ()


def test_classes_exchange_as_their_colours_do() -> None:
    colours = palette()
    known = {tuple(colour): number for number, colour in enumerate(colours.tolist())}
    reversed_ids = [known.get(tuple(colour[::-1]), number) for number, colour in enumerate(colours.tolist())]
    assert _EXCHANGED.tolist() == reversed_ids


def test_colours_with_red_and_blue_exchanged_are_named(make_scores: Make) -> None:
    def warnings_of(predicted: int) -> tuple[str, ...]:
        return build_table([with_ids(make_scores(hard, dataset="avss"), predicted=predicted)], ["avsbench"]).warnings

    # Annotated is class 5, whose colour is the same both ways; no model is accused for it.
    assert warnings_of(5) == warnings_of(7) == ()
    scores = with_ids(make_scores(hard, dataset="avss"), predicted=4)
    assert scores.classes is not None
    ids = np.where(scores.classes.class_id == 5, 1, scores.classes.class_id)
    exchanged = replace(scores, classes=replace(scores.classes, class_id=ids))
    (warning,) = build_table([exchanged], ["avsbench"]).warnings
    assert warning.startswith("net on avss/test: ")
    assert (
        "would fit if red and blue of AVSBench's colours were exchanged; were they written in the order BGR" in warning
    )


def test_class_ids_are_called_so(make_scores: Make) -> None:
    scores = with_ids(make_scores(hard, dataset="avss"))
    (warning,) = build_table([scores], ["avsbench"], task="binary").warnings
    assert warning.startswith(
        "net on avss/test: class ids carry no probabilities, every pixel is 0 or 1, so that the sweep"
    )
    assert warning.endswith("use --protocol strict, or return class logits, or use --task semantic")
    table = build_table([scores], ["avsbench"])
    assert table.warnings == ()
    assert sum("class ids carry no probabilities" in note for note in table.notes) == 1
    logits = with_ids(make_scores(soft, dataset="avss"))
    assert not any("class ids" in note for note in build_table([logits], ["avsbench"]).notes)
