"""Damage to the files of results: every flipped bit is named or changes nothing, and so is every cut, swap and wrong kind.

The long run: ``AVSROBUST_FLIPS=5000 pytest tests/test_results_damage.py``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.errors import AdapterError, AvsRobustError, OptionError, ResultsError
from avsrobust.evaluation.extras import rows_of_extras
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.reporting.loading import load_result, load_results
from avsrobust.reporting.report import report
from avsrobust.results import EXTRAS_NAME, MASKS_NAME, RUN_NAME, SCORES_NAME, read_run, read_scores, write_run
from avsrobust.stored_masks import StoredMasks, rows_of_masks

FLIPS = int(os.environ.get("AVSROBUST_FLIPS", "120"))
FILES = (SCORES_NAME, MASKS_NAME, EXTRAS_NAME, RUN_NAME)


class Model(Adapter):
    """Marks what is bright, more of it the louder it is."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.loud = [torch.empty(0)]

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        self.loud[0] = audio.mean(dim=(2, 3, 4))
        grey = encoded.float().mean(dim=2) / 255
        return torch.sigmoid(8 * (grey - 0.5 + self.shift) + self.loud[0][..., None, None] * 20)

    def extras(self) -> dict[str, Tensor]:
        return {"loudness": self.loud[0]}


def run(build: Manifest, output: Path, shift: float = 0.0, **choices: Any) -> Path:
    evaluate(build, Model(shift), **{"name": "model", "output": output, "save_masks": True, **choices})
    return output


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, make_build_in: Callable[..., Manifest]) -> Manifest:
    return make_build_in(tmp_path_factory.mktemp("damage"), clips=3, levels=(-5.0,), split=("test", "val", "test"))


@pytest.fixture(scope="module")
def whole(build: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of both splits, with masks and further values. Tests must not change them."""
    return run(build, tmp_path_factory.mktemp("whole") / "out", splits=["test", "val"])


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def reading(folder: Path) -> list[object]:
    """All that is read from results, by whoever reads them."""
    scores = load_results([folder])
    tables = report(scores, ("avsbench", "strict"), None, "json")
    masks = StoredMasks(folder / MASKS_NAME)
    stored = [masks.clip_table(clip).to_pydict() for clip in sorted(masks.clips)]
    run = read_run(folder / RUN_NAME)
    return [str(tables.content), scores[0].info, stored, run, sorted(rows_of_extras(folder / EXTRAS_NAME))]


def attempt(folder: Path) -> tuple[str, str | None]:
    """Return what is read from results, or what is said of them."""
    try:
        return without_place(reading(folder), folder), None
    except AvsRobustError as error:
        return "", str(error)


def without_place(values: list[object], folder: Path) -> str:
    return repr(values).replace(str(folder), "")


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_named_or_changes_nothing(whole: Path, copy: Path, name: str) -> None:
    expected = without_place(reading(whole), whole)
    assert without_place(reading(copy), copy) == expected
    content = (whole / name).read_bytes()
    generator = random.Random(name)
    harmless = 0
    for _ in range(FLIPS):
        place, bit = generator.randrange(len(content)), generator.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        (copy / name).write_bytes(flipped)
        found, problem = attempt(copy)
        if problem is None:
            assert found == expected, (place, bit)
            harmless += 1
        else:
            assert name in problem, (place, bit)
            assert "\n" not in problem
    assert harmless <= FLIPS // 10


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_cut_off_are_named(whole: Path, copy: Path, name: str, share: float) -> None:
    content = (whole / name).read_bytes()
    (copy / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AvsRobustError, match=name):
        read_run(copy / RUN_NAME) if name == RUN_NAME else reading(copy)


@pytest.mark.parametrize("content", [b"[]", b"[" * 100_000, b"{}", b"\xff\xfe", b"null", b'{"sha256": 3}', b"\0" * 99])
def test_a_run_json_of_anything_else_is_damaged(copy: Path, content: bytes) -> None:
    (copy / RUN_NAME).write_bytes(content)
    with pytest.raises(ResultsError, match=r"run\.json: is damaged") as caught:
        read_run(copy / RUN_NAME)
    assert "\n" not in str(caught.value)
    # The scores hold a checksum of themselves: they are shown, with a warning.
    rendered = report(load_results([copy]), format="csv")
    assert len(rendered.warnings) == 1


def test_one_models_scores_beside_anothers_run_are_refused(build: Manifest, copy: Path, tmp_path: Path) -> None:
    other = run(build, tmp_path / "other", 0.2, splits=["test", "val"])
    for name in (SCORES_NAME, MASKS_NAME):
        kept = (copy / name).read_bytes()
        shutil.copyfile(other / name, copy / name)
        with pytest.raises(AvsRobustError, match=rf"{name}: is not the file that run\.json beside it vouches for"):
            reading(copy)
        (copy / name).write_bytes(kept)
    shutil.copyfile(other / RUN_NAME, copy / RUN_NAME)
    with pytest.raises(ResultsError, match=r"scores\.parquet: is not the file that run\.json"):
        load_result(copy)


def test_a_folder_of_ours_without_run_json_is_not_finished(copy: Path, tmp_path: Path) -> None:
    (copy / RUN_NAME).unlink()
    for reader in (lambda: load_result(copy), lambda: read_scores(copy / SCORES_NAME)):
        with pytest.raises(ResultsError, match=r"copy: its evaluation is not whole .*run the same 'evaluate' again"):
            reader()
    with pytest.raises(AdapterError, match="is not whole"):
        rows_of_masks(copy / MASKS_NAME)
    # Elsewhere scores stand for themselves.
    shutil.copyfile(copy / SCORES_NAME, tmp_path / "mine.parquet")
    assert read_scores(tmp_path / "mine.parquet").info.model == "model"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_what_is_damaged_is_made_again(build: Manifest, whole: Path, copy: Path, name: str, damage: str) -> None:
    if damage == "lost":
        (copy / name).unlink()
    else:
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 16
        (copy / name).write_bytes(content)
    run(build, copy, splits=["test", "val"])
    for made in (SCORES_NAME, MASKS_NAME, EXTRAS_NAME):
        assert sha256_of_file(copy / made) == sha256_of_file(whole / made)
    assert len(reading(copy)) == 5


@pytest.mark.parametrize("name", [SCORES_NAME, MASKS_NAME, EXTRAS_NAME])
def test_what_is_damaged_is_not_replaced_by_less(build: Manifest, copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 16
    (copy / name).write_bytes(content)
    before = {path.name: sha256_of_file(path) for path in copy.iterdir() if path.is_file()}
    with pytest.raises(ResultsError, match=rf"{name}: is damaged or missing, and held --split test; request these too"):
        run(build, copy, splits=["val"])
    assert {path.name: sha256_of_file(path) for path in copy.iterdir() if path.is_file()} == before


def test_scores_outlive_a_damaged_run_json(build: Manifest, whole: Path, copy: Path) -> None:
    (copy / RUN_NAME).write_text("{")
    run(build, copy, splits=["val"])
    assert sha256_of_file(copy / SCORES_NAME) == sha256_of_file(whole / SCORES_NAME)
    assert read_run(copy / RUN_NAME).details["splits"] == ["test", "val"]
    (copy / RUN_NAME).write_text("{")
    with pytest.raises(
        OptionError, match=r"different are: something that run\.json, being damaged or missing, does not tell"
    ):
        run(build, copy, splits=["val"], name="other")


TYPES: dict[str, pa.DataType] = {
    "split": pa.int32(),
    "clip_id": pa.binary(),
    "labels": pa.string(),
    "condition": pa.float64(),
    "polarity": pa.bool_(),
    "level": pa.string(),
    "frame": pa.string(),
    "clean_union": pa.string(),
    "pixels": pa.float64(),
    "tp_040": pa.string(),
    "inside": pa.list_(pa.int32()),
    "outside": pa.list_(pa.float32(), 255),
}


@pytest.mark.parametrize("column", TYPES)
def test_columns_of_another_type_are_named(whole: Path, tmp_path: Path, column: str) -> None:
    table = pq.read_table(whole / SCORES_NAME)
    place, kind = table.column_names.index(column), TYPES[column]
    filled = pa.nulls(table.num_rows, kind)
    pq.write_table(table.set_column(place, pa.field(column, kind), filled), tmp_path / "s.parquet")
    with pytest.raises(ResultsError, match=rf"s\.parquet: column {column} is of type .*; expected"):
        read_scores(tmp_path / "s.parquet")


@pytest.mark.parametrize(
    "key", ["model", "dataset", "seed", "failed", "recipe", "release", "muted", "notes", "evaluation"]
)
@pytest.mark.parametrize("value", [None, b"\xff", b"[" * 5000, b'[["a"]]', b"{}", b"[1]", b"x"])
def test_metadata_of_another_kind_are_named(whole: Path, tmp_path: Path, key: str, value: bytes | None) -> None:
    table = pq.read_table(whole / SCORES_NAME)
    metadata = dict(table.schema.metadata)
    name = f"avsrobust.{key}".encode()
    if value is None:
        del metadata[name]
    else:
        metadata[name] = value
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "s.parquet")
    with pytest.raises(ResultsError, match=r"s\.parquet: (has damaged metadata|is damaged)") as caught:
        read_scores(tmp_path / "s.parquet")
    assert "\n" not in str(caught.value)


CELLS: dict[str, tuple[object, str]] = {
    "pixels": (-1, "a negative count|histograms"),
    "tp_050": (10**9, "more true positives"),
    "fp_040": (10**9, "more false positives"),
    "clean_union": (10**9, "more pixels than the frame has|no two masks"),
    "level": (float("inf"), "a level that is no number"),
    "frame": (-3, "a negative frame"),
    "polarity": ("maybe", "a polarity other than positive and negative"),
    "split": ("../x", "a split that is no safe path"),
    "clip_id": ("/etc/passwd", "a clip_id that is no safe path"),
    "condition": ("", "a condition that is no safe path"),
    "target_pixels": (None, "column target_pixels has empty cells"),
    "labels": (None, "column labels has empty cells"),
}


@pytest.mark.parametrize("column", CELLS)
def test_values_that_cannot_be_are_named(whole: Path, tmp_path: Path, column: str) -> None:
    value, message = CELLS[column]
    table = pq.read_table(whole / SCORES_NAME)
    cells = table.column(column).to_pylist()
    field = table.schema.field(column).with_nullable(True)
    changed = pa.array([*cells[:-1], value], field.type)
    pq.write_table(table.set_column(table.column_names.index(column), field, changed), tmp_path / "s.parquet")
    with pytest.raises(ResultsError, match=message):
        read_scores(tmp_path / "s.parquet")


def test_a_frame_that_is_there_twice_is_refused(whole: Path, tmp_path: Path) -> None:
    table = pq.read_table(whole / SCORES_NAME)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), tmp_path / "s.parquet")
    with pytest.raises(ResultsError, match="the same frame twice"):
        read_scores(tmp_path / "s.parquet")


def test_rewritten_by_another_program_with_the_same_values_it_is_the_same(whole: Path, tmp_path: Path) -> None:
    table = pq.read_table(whole / SCORES_NAME)
    for name in ("split", "condition"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).dictionary_encode())
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=7, compression="none")
    assert read_scores(tmp_path / "s.parquet").info == read_scores(whole).info


def test_a_run_json_that_names_no_files_vouches_for_none(copy: Path) -> None:
    run = read_run(copy / RUN_NAME)
    details = {key: value for key, value in run.details.items() if key != "files"}
    write_run(copy / RUN_NAME, type(run)("model", "ms3", details))
    with pytest.raises(ResultsError, match=r"is not of the run that run\.json beside it describes"):
        load_result(copy)
    assert json.loads((copy / RUN_NAME).read_text())["sha256"]
