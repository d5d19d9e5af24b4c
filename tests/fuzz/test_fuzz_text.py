"""Tables, recipes and configurations of any content."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.avss import check_classes
from avsrobust.datasets.tables import read_table
from avsrobust.pretransform.layout import read_class_map
from avsrobust.results import read_run
from avsrobust.training.recipe import load_train_recipe
from model_adapters.m2f.config import PUBLISHED, read_config

READERS: dict[str, Callable[[Path], object]] = {
    "tables": lambda path: read_table(path.parent, path.name),
    "build_recipes": lambda path: load_recipe(str(path)),
    "train_recipes": lambda path: load_train_recipe(str(path)),
    "class_maps": lambda path: read_class_map(path, ("Bark", "Meow", "Piano"), 10),
    "label_index": lambda path: check_classes(path.parent, ""),
    "m2f_configs": lambda path: read_config(path, PUBLISHED),
    "runs": read_run,
}
NAMES = {
    "tables": "t.csv",
    "build_recipes": "r.yaml",
    "train_recipes": "r.yaml",
    "class_maps": "m.yaml",
    "m2f_configs": "c.json",
    "runs": "run.json",
}


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files(reader: str, fuzz: Any) -> None:
    fuzz(reader, READERS[reader])


@pytest.mark.parametrize("reader", NAMES)
def test_what_is_no_file(reader: str, refuses_what_is_no_file: Any) -> None:
    refuses_what_is_no_file(NAMES[reader], READERS[reader])


def test_every_kind_of_damage_changes_something(damage: Any) -> None:
    content = bytes(range(100))
    for kind in ("flip", "byte", "cut", "remove", "repeat", "token", "number", "splice"):
        assert damage(content, [content], [(kind, 5, 3, 9)]) != content
    sizes = {damage(content, [content], [("number", 5, 2, second)])[5:9] for second in range(256)}
    assert {struct.pack("<L", size) for size in (2**31, 2**32 - 1, 0)} <= sizes
