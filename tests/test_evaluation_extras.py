from __future__ import annotations

import gc
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from avsrobust.adapters.base import Adapter
from avsrobust.errors import AdapterError
from avsrobust.evaluation import extras, parts
from avsrobust.evaluation.extras import rows_of_extras
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import sha256_of_file
from avsrobust.manifest import Manifest
from avsrobust.results import EVALUATION_KEY, EXTRAS_NAME, RUN_NAME, read_run
from avsrobust.row_keys import RowKey, add_draws, drop_draws, row_keys_of


class Model(Adapter):
    """Says how loud the sound is, frame by frame; may be interrupted."""

    def __init__(self, interrupt_after: int = 10**6) -> None:
        self._left = [interrupt_after]
        self._loudness = torch.empty(0)

    def encode_frames(self, frames: Tensor) -> Tensor:
        self._left[0] -= 1
        if self._left[0] < 0:
            raise KeyboardInterrupt
        return frames.float().mean(dim=2) / 255

    def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
        self._loudness = audio.mean(dim=(2, 3, 4))
        return encoded

    def extras(self) -> dict[str, Tensor]:
        return {"loudness": self._loudness, "half": self._loudness / 2}


def run(build: Manifest, adapter: Any, output: Path, **choices: Any) -> Path:
    evaluate(build, adapter, **{"name": "model", "output": output, "check": False, **choices})
    return output / EXTRAS_NAME


def test_values_are_kept_frame_by_frame_for_every_row(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=2, levels=(-5.0,), masked=(0,))
    table = pd.read_parquet(run(build, Model(), tmp_path / "out"))
    assert list(table.columns) == ["split", "clip_id", "condition", "level", "frame", "name", "value"]
    assert len(table) == 2 * 5 * 5 * 2
    features = np.load(build.folder / "features.npy")
    for row in build.rows:
        of_row = table[(table["clip_id"] == row.clip_id) & (table["condition"] == row.condition)].sort_values("frame")
        expected = torch.from_numpy(features[row.log_mel_row]).mean(dim=(1, 2, 3))
        assert of_row.loc[of_row["name"] == "loudness", "value"].to_numpy() == pytest.approx(expected.numpy())
        assert of_row.loc[of_row["name"] == "half", "value"].to_numpy() == pytest.approx(expected.numpy() / 2)
        assert of_row["level"].isna().all() == (row.level is None)
    assert read_run(tmp_path / "out" / RUN_NAME).details["extras"] == ["half", "loudness"]


def clips_of_extras(path: Path) -> set[tuple[str, str]]:
    return {key[:2] for key in rows_of_extras(path)}


def test_interruption_and_batch_size_change_no_byte(
    make_build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = make_build(clips=5)
    whole = run(build, Model(), tmp_path / "whole", batch_size=2)
    monkeypatch.setattr(parts, "CLIPS_PER_PART", 2)
    with pytest.raises(KeyboardInterrupt):
        run(build, Model(interrupt_after=3), tmp_path / "resumed")
    resumed = run(build, Model(), tmp_path / "resumed")
    assert sha256_of_file(whole) == sha256_of_file(resumed)


def test_results_that_have_lost_their_extras_are_made_again(
    make_build: Callable[..., Manifest], tmp_path: Path
) -> None:
    build = make_build(clips=2)
    path = run(build, Model(), tmp_path / "out")
    path.unlink()
    assert run(build, Model(), tmp_path / "out").exists()
    assert len(clips_of_extras(path)) == 2


def test_more_clips_join_those_there(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=3)

    class Fails(Model):
        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            self._left[0] -= 1
            if self._left[0] == 10**6 - 9:
                raise AdapterError("once")
            return super().segment(encoded, audio)

    path = run(build, Fails(), tmp_path / "out")
    assert len(clips_of_extras(path)) == 2
    assert len(clips_of_extras(run(build, Fails(), tmp_path / "out"))) == 3


def test_adapters_without_extras_leave_no_file(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    build = make_build(clips=1)

    class Silent:
        audio = "log_mel"

        def encode_frames(self, frames: Tensor) -> Tensor:
            return frames

        def segment(self, encoded: Tensor, audio: Tensor) -> Tensor:
            return torch.zeros(len(encoded), 5, 4, 4)

    assert run(build, Model(), tmp_path / "out").exists()
    # That of another model would be taken for this one's.
    assert not run(build, Silent(), tmp_path / "out", replace=True).exists()


@st.composite
def drawn_entries(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Entries of several files, each row of a file in one piece, some rows in several files."""
    rows = st.tuples(
        st.sampled_from(["test", "val"]),
        st.sampled_from(["a", "b/é", "b", "ab"]),
        st.sampled_from(["clean", "noise"]),
        st.sampled_from([None, -3.0, 0.1]),
        st.sampled_from([0, 0, 0, 1]),
    )
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    return [
        [
            {
                **dict(zip(("split", "clip_id", "condition", "level", "draw"), row, strict=True)),
                "frame": frame,
                "name": name,
                "value": generator.random(),
            }
            for row in of_file
            for frame in range(2)
            for name in ("z", "a")
        ]
        for of_file in draw(st.lists(st.lists(rows, unique=True, max_size=6), max_size=4))
    ]


def merged_at_once(path: Path, sources: list[Path], rows: set[RowKey], group: int) -> list[str]:
    """What the first release writes: whole tables, filtered, put together and sorted."""
    wanted, tables = set(rows), []
    for source in sources:
        table = add_draws(pq.read_table(source))
        keys = row_keys_of(table)
        tables.append(table.filter(pa.array([key in wanted for key in keys], pa.bool_())))
        wanted -= set(keys)
    whole = pa.concat_tables(tables)
    names = ("split", "clip_id", "condition", "level", "draw", "frame", "name")
    ordered = drop_draws(whole.sort_by([(name, "ascending") for name in names]))
    ordered = ordered.replace_schema_metadata({EVALUATION_KEY: "one"})
    pq.write_table(ordered, path, compression="zstd", write_page_checksum=True, row_group_size=group)
    return sorted(set(whole["name"].to_pylist()))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=drawn_entries(), left_out=st.integers(0, 2), group=st.sampled_from([3, 1 << 20]), data=st.data())
def test_merging_writes_what_one_table_of_all_is(
    entries: list[list[dict[str, Any]]], left_out: int, group: int, data: st.DataObject, tmp_path: Path
) -> None:
    sources = [tmp_path / f"{number}.parquet" for number in range(len(entries))]
    for source, of_file in zip(sources, entries, strict=True):
        extras.write_extras(source, of_file, "one")
    keys = sorted({key for source in sources for key in rows_of_extras(source)})
    assert set(keys) == {key for source in sources for key in row_keys_of(pq.read_table(source))}
    rows = set(keys[left_out:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extras, "_AT_ONCE", data.draw(st.sampled_from([1, 5, 1 << 16])))
        patch.setattr(extras, "_ROW_GROUP", group)
        (tmp_path / "found").unlink(missing_ok=True)
        names = extras.merge_extras(tmp_path / "found", sources, rows, "one")
        if not rows:
            assert (names, (tmp_path / "found").exists()) == ([], False)
            return
        assert names == merged_at_once(tmp_path / "expected", sources, rows, group)
        assert sha256_of_file(tmp_path / "found") == sha256_of_file(tmp_path / "expected")
        # Once more, from what was merged.
        extras.merge_extras(tmp_path / "again", [tmp_path / "found"], rows, "one")
        assert sha256_of_file(tmp_path / "again") == sha256_of_file(tmp_path / "expected")


def test_merging_takes_few_bytes_an_entry(tmp_path: Path) -> None:
    count, sources, rows = 4000, [], set()
    for number in range(4):
        sources.append(tmp_path / f"{number}.parquet")
        clips = [f"clip/{number}{at:07d}" for at in range(count // 10)]
        rows |= {("test", clip, "clean", -math.inf, 0) for clip in clips}
        entry = {"split": "test", "condition": "clean", "level": None, "draw": 0}
        values = ((clip, frame, name) for clip in clips for frame in range(5) for name in ("one", "other"))
        extras.write_extras(
            sources[-1],
            [{**entry, "clip_id": clip, "frame": frame, "name": name, "value": 0.5} for clip, frame, name in values],
        )
    extras.merge_extras(tmp_path / "first", sources, rows)
    gc.collect()
    tracemalloc.start()
    try:
        before = pa.total_allocated_bytes()
        extras.merge_extras(tmp_path / "out", sources, rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Keys of all entries, as tuples, would be 200 each.
    assert peak < 150 * 4 * count
    assert pa.total_allocated_bytes() - before < count


# Of a process of its own: memory that another test has had and freed would hide what merging takes.
MERGING = """
import re, sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from avsrobust.evaluation import extras
from avsrobust.parquet import write_parquet
from avsrobust.row_keys import NO_LEVEL

def resident(name):
    return int(re.search(rf"^{name}:\\s+(\\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1024

folder, clips, each = Path(sys.argv[1]), 2000, 200
sources, rows = [], []
for number in range(3):
    ids = [f"clip_{at * 3 + number:07d}" for at in range(clips)]
    rows += [("test", clip, "clean", NO_LEVEL, 0) for clip in ids]
    count = clips * each
    columns = {
        "split": pa.array(["test"]).take(pa.array(np.zeros(count, int))),
        "clip_id": pa.array(ids).take(pa.array(np.repeat(np.arange(clips), each))),
        "condition": pa.array(["clean"]).take(pa.array(np.zeros(count, int))),
        "level": pa.nulls(count, pa.float32()),
        "frame": pa.array(np.tile(np.repeat(np.arange(each // 2), 2), clips), pa.int32()),
        "name": pa.array(["one", "other"]).take(pa.array(np.arange(count) % 2)),
        "value": pa.array(np.random.default_rng(number).random(count)),
    }
    sources.append(folder / f"{number}.parquet")
    write_parquet(sources[-1], pa.table(columns, schema=extras._SCHEMA))
    del columns
extras._AT_ONCE = extras._ROW_GROUP = 1 << 14
extras.merge_extras(folder / "few", sources[:1], rows[:100])
pa.default_memory_pool().release_unused()
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
extras.merge_extras(folder / "out", sources, rows)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell a process's peak")
def test_memory_does_not_grow_with_the_entries(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MERGING, str(tmp_path)], check=True, capture_output=True, text=True, timeout=600
    )
    assert pq.read_metadata(tmp_path / "out").num_rows == 1_200_000
    # As columns in memory the entries and what sorts them would take 120 MB.
    assert float(done.stdout) < 50
