from __future__ import annotations

import json
from pathlib import Path

import pytest

from avsrobust.datasets.registry import find_dataset
from avsrobust.datasets.taxonomy import (
    AVSS_CATEGORIES,
    AVSS_CLASSES,
    AVSS_SUPERCATEGORY,
    LEAST_SUITABLE,
    S4_CATEGORIES,
    S4_SUPERCATEGORY,
    SUPERCATEGORIES,
)
from avsrobust.errors import DataSetError, OptionError

CATEGORIES = {name: find_dataset(name).categories for name in ("s4", "ms3")}
PAPER = json.loads((Path(__file__).parent / "golden/broad_kinds.json").read_text())


@pytest.mark.parametrize("style", ["s4", "ms3"])
def test_agrees_with_the_papers_map_for_every_name_it_has(style: str) -> None:
    assert PAPER[style]
    for name, kind in PAPER[style].items():
        assert CATEGORIES[style].supercategories([name]) == (kind,)


def test_s4_has_exactly_the_papers_categories() -> None:
    assert set(S4_SUPERCATEGORY) == set(PAPER["s4"])
    assert len(S4_SUPERCATEGORY) == 23


def test_avss_has_71_classes_in_order_of_the_alphabet_after_background() -> None:
    assert AVSS_CLASSES[0] == "background"
    assert list(AVSS_CLASSES[1:]) == sorted(AVSS_CLASSES[1:])
    assert len(AVSS_CLASSES) == len(set(AVSS_CLASSES)) == 71
    # AVSBench-semantic's label2idx.json counts from 1.
    assert [AVSS_CLASSES.index(name) + 1 for name in ("accordion", "baby", "dog", "woman")] == [2, 5, 18, 71]


def test_every_avss_class_has_a_kind() -> None:
    assert set(AVSS_SUPERCATEGORY) == set(AVSS_CLASSES)
    assert set(AVSS_SUPERCATEGORY.values()) == set(S4_SUPERCATEGORY.values()) == set(SUPERCATEGORIES)


def test_every_kind_has_a_least_suitable_contrast_other_than_itself() -> None:
    assert LEAST_SUITABLE == {"music": "human", "human": "music", "animal": "human", "device": "music"}


def test_kinds_come_once_and_in_one_order() -> None:
    assert AVSS_CATEGORIES.supercategories(["woman", "car", "man", "guitar"]) == ("music", "human", "device")
    assert AVSS_CATEGORIES.supercategories([]) == ()


def test_an_unknown_category_gets_a_suggestion() -> None:
    assert S4_CATEGORIES.unknown(["dog_barking", "dog"]) == ("dog",)
    with pytest.raises(DataSetError, match=r"'violn'.*did you mean 'violin'"):
        AVSS_CATEGORIES.supercategories(["violn"])


def test_categories_of_an_unknown_data_set_are_refused() -> None:
    with pytest.raises(OptionError, match="found 'v3'; expected s4, ms3, avss"):
        find_dataset("v3").categories.supercategories([])
