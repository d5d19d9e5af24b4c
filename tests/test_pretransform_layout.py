"""Queries of classes and clusters, and the file that keeps them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avsrobust.errors import OptionError
from avsrobust.pretransform.base import Encoding
from avsrobust.pretransform.layout import QueryLayout, class_map_of, read_class_map, read_layout, require_room

LABELS = ("Bark", "Meow", "Piano")
LAYOUT = QueryLayout(
    encoder="ast",
    checksum="ab" * 32,
    labels=LABELS,
    class_map={"Bark": 2, "Piano": 0},
    threshold=0.4,
    centers=np.array([[0, 0], [10, 0]], np.float32),
    fitted_on={"clips": 3},
)


def encoding(scores: list[list[float]], embeddings: list[list[float]]) -> Encoding:
    return Encoding(np.array(embeddings, np.float32), np.array(scores, np.float32))


def test_classes_come_first_and_the_cluster_last() -> None:
    sound = encoding([[0.9, 0.9, 0.5], [0.1, 0.9, 0.3], [0.41, 0.0, 0.39]], [[1, 0], [9, 0], [10, 5]])
    assert LAYOUT.first_cluster == 3
    assert LAYOUT.highest_query == 4
    # Meow has no query; query 1 belongs to nobody.
    assert LAYOUT.indices(sound) == [[0, 2, 3], [4], [2, 4]]


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    exact = replace(LAYOUT, threshold=0.5)
    assert exact.indices(encoding([[0.5, 0, 0.75]], [[0, 0]])) == [[0, 3]]


def test_classes_may_share_a_query() -> None:
    shared = replace(LAYOUT, class_map={"Bark": 1, "Meow": 1})
    assert shared.indices(encoding([[0.9, 0.9, 0]], [[0, 0]])) == [[1, 2]]


def test_without_classes_every_query_is_a_cluster() -> None:
    layout = replace(LAYOUT, labels=(), class_map={})
    sound = Encoding(np.array([[8, 0], [1, 1]], np.float32), np.zeros((2, 0), np.float32))
    assert layout.indices(sound) == [[1], [0]]


def test_round_trip_in_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "clusters.safetensors"
    LAYOUT.write(path)
    read = read_layout(path)
    assert read.centers.tobytes() == LAYOUT.centers.tobytes()
    for field in fields(LAYOUT):
        if field.name != "centers":
            assert getattr(read, field.name) == getattr(LAYOUT, field.name)
    assert read.to_bytes() == path.read_bytes() == LAYOUT.to_bytes()


def test_room() -> None:
    require_room(LAYOUT.highest_query, 5, "--clusters")
    with pytest.raises(
        OptionError, match=r"--clusters: found query indices up to 4, .*expected 0 to 3 \(--queries 4\)"
    ):
        require_room(LAYOUT.highest_query, 4, "--clusters")


def _metadata(**changes: object) -> dict[str, str]:
    content = {
        "version": 1,
        "encoder": "ast",
        "identity": None,
        "labels": [],
        "class_map": {},
        "threshold": 0.4,
        "fitted_on": {},
    }
    return {"avsrobust.pretransform": json.dumps({**content, **changes})}


@pytest.mark.parametrize(
    ("metadata", "centers", "message"),
    [
        (None, np.zeros((2, 2), np.float32), "no layout of ours in its metadata"),
        ({"avsrobust.pretransform": "3"}, np.zeros((2, 2), np.float32), "another version than 1"),
        ({"avsrobust.pretransform": "{"}, np.zeros((2, 2), np.float32), "cannot be read"),
        (_metadata(version=2), np.zeros((2, 2), np.float32), "another version than 1"),
        (
            _metadata(labels=3),
            np.zeros((2, 2), np.float32),
            "key .*labels: found 3; expected a list",
        ),
        (
            _metadata(labels=[3]),
            np.zeros((2, 2), np.float32),
            r"key .*labels\[0\]: found 3; expected a text",
        ),
        (
            _metadata(threshold="high"),
            np.zeros((2, 2), np.float32),
            "key .*threshold: found 'high'; expected a number",
        ),
        (
            _metadata(class_map={"a": -1}),
            np.zeros((2, 2), np.float32),
            "class_map.a: found -1; expected a whole number",
        ),
        (
            _metadata(class_map={"a": True}),
            np.zeros((2, 2), np.float32),
            "class_map.a: found True; expected a whole number",
        ),
        (_metadata(), np.zeros(2, np.float32), r"centres float32 \[2\]"),
        (_metadata(), np.zeros((2, 2)), r"centres float64 \[2, 2\]"),
        (_metadata(), np.full((2, 2), np.nan, np.float32), "centres"),
    ],
)
def test_files_of_others(tmp_path: Path, metadata: dict[str, str] | None, centers: np.ndarray, message: str) -> None:
    path = tmp_path / "clusters.safetensors"
    save_file({"centers": centers}, path, metadata)
    with pytest.raises(OptionError, match=message) as caught:
        read_layout(path)
    assert str(caught.value).startswith(f"--clusters-from {path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "clusters.safetensors"
    with pytest.raises(OptionError, match=r"cannot be read .*name that file"):
        read_layout(path)
    path.write_bytes(LAYOUT.to_bytes()[:-3])
    with pytest.raises(OptionError, match="cannot be read"):
        read_layout(path)
    save_file({"other": np.zeros(2)}, path, _metadata())
    with pytest.raises(OptionError, match="cannot be read"):
        read_layout(path)


def test_class_map_follows_the_encoders_order() -> None:
    counts = {"Bark": 2, "Meow": 0, "Piano": 7, "Rain": 2}
    assert class_map_of(counts, 5) == ({"Bark": 0, "Piano": 1, "Rain": 2}, ())
    assert class_map_of(counts, 2) == ({"Bark": 0, "Piano": 1}, ("Rain",))
    assert class_map_of(counts, 1) == ({"Piano": 0}, ("Bark", "Rain"))
    assert class_map_of({}, 3) == ({}, ())


@pytest.mark.parametrize("content", ["Bark: 3\nPiano: 0\n", '{"Bark": 3, "Piano": 0}'])
def test_class_map_as_yaml_or_json(tmp_path: Path, content: str) -> None:
    path = tmp_path / "map"
    path.write_text(content)
    assert read_class_map(path, LABELS, 4) == {"Bark": 3, "Piano": 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Brak: 1", "found 'Brak', which the encoder does not name; did you mean 'Bark'"),
        ("Bark: 4", "found query 4 for 'Bark'; expected a whole number from 0 to 3"),
        ("Bark: -1", "found query -1 for 'Bark'"),
        ("Bark: true", "found query True for 'Bark'"),
        ("Bark: '1'", "found query '1' for 'Bark'"),
        ("- Bark", "found list, not a map"),
        ("", "found NoneType, not a map"),
        ("{}", "found dict, not a map with entries"),
        ("Bark: [", "cannot be read"),
        ("!!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_bad_class_maps(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(OptionError, match=message) as caught:
        read_class_map(path, LABELS, 4)
    assert str(caught.value).startswith(f"--class-map {path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match="cannot be read"):
        read_class_map(tmp_path / "none.yaml", LABELS, 4)
