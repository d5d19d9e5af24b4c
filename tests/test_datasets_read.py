from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.registry import canonical_name
from avsrobust.errors import DataSetError, OptionError


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("s4", "s4"), ("ms3", "ms3"), ("avss", "avss"), ("v1s", "s4"), ("v1m", "ms3"), ("v2", "avss"), (" AVSS ", "avss")],
)
def test_aliases_have_one_canonical_name(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(OptionError, match=r"found 'avs'; expected s4, ms3, avss .*did you mean 'avss'"):
        canonical_name("avs")


def test_only_the_requested_splits_are_read_and_checked(s4_root: Any) -> None:
    (s4_root.root / "Single-source/s4_data/audio_wav/train/male_speech/d_1.wav").unlink()
    data = read_dataset("s4", s4_root.root, splits=["val", "test"])
    assert [clip.split for clip in data.clips] == ["test", "test", "val"]
    assert data.findings == ()


@pytest.mark.parametrize("splits", [["tests"], ["test", "tests"]])
def test_an_unknown_split_is_refused(s4_root: Any, splits: list[str]) -> None:
    with pytest.raises(DataSetError, match="--split: found 'tests'; expected train, val or test; did you mean 'test'"):
        read_dataset("s4", s4_root.root, splits=splits)


def test_a_text_in_place_of_a_list_of_splits_is_refused(s4_root: Any) -> None:
    with pytest.raises(DataSetError, match=r"splits: found the text 'test'; expected a list of names"):
        read_dataset("s4", s4_root.root, splits="test")


@pytest.mark.parametrize("name", [None, 3, object()])
def test_what_names_no_data_set_is_refused(s4_root: Any, name: Any) -> None:
    with pytest.raises(OptionError, match=r"dataset: found .*; expected a class .*, or a name: s4, ms3, avss"):
        read_dataset(name, s4_root.root)


def test_splits_that_are_none_are_counted_where_none_fits(s4_root: Any) -> None:
    rows = [("a_1", 0, "playing_piano", "Test")]
    s4_root.csv("Single-source/s4_meta_data.csv", ("name", "start", "category", "split"), rows)
    with pytest.raises(DataSetError, match=r"found no clip of this split .* clips: 1 in 'Test'"):
        read_dataset("s4", s4_root.root, splits=["test"])


def test_no_split_at_all_is_refused(s4_root: Any) -> None:
    with pytest.raises(DataSetError, match="--split: found no split"):
        read_dataset("s4", s4_root.root, splits=[])


def test_a_requested_split_without_clips_is_refused(avsbench: Any) -> None:
    avsbench.s4([("a", "helicopter", "val"), ("b", "helicopter", "val")])
    with pytest.raises(DataSetError, match=r"--split test: found no clip of this split in .*clips: 2 in val"):
        read_dataset("s4", avsbench.root, splits=["val", "test"])


def test_a_split_whose_clips_are_all_bad_has_findings_and_no_clips(avsbench: Any) -> None:
    avsbench.s4([("a", "helicopter", "val")])
    (avsbench.root / "Single-source/s4_data/audio_wav/val/helicopter/a.wav").unlink()
    data = read_dataset("s4", avsbench.root, splits=["val"])
    assert data.clips == ()
    assert len(data.findings) == 1


@pytest.mark.parametrize("name", ["s4", "ms3", "avss"])
def test_a_missing_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataSetError, match=r"nowhere: found no such folder; .*--data-root or AVSROBUST_DATA"):
        read_dataset(name, tmp_path / "nowhere")


def test_the_order_of_directory_listings_and_rows_does_not_matter(
    s4_root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    s4_root.ms3([("m_0", "test"), ("n_0", "test")])
    expected = {name: read_dataset(name, s4_root.root) for name in ("s4", "ms3")}
    table = s4_root.root / "Single-source/s4_meta_data.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]))
    listed = Path.iterdir

    def shuffled(path: Path) -> Iterator[Path]:
        entries = list(listed(path))
        random.Random(1).shuffle(entries)
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert {name: read_dataset(name, s4_root.root) for name in ("s4", "ms3")} == expected


def test_ids_that_some_disks_take_for_one_are_noted(avsbench: Any) -> None:
    avsbench.s4([("b_1", "dog_barking", "test"), ("B_1", "dog_barking", "test"), ("a_1", "playing_piano", "val")])
    if (avsbench.root / "SINGLE-SOURCE").exists():
        pytest.skip("this disk takes them for one")
    data = read_dataset("s4", avsbench.root)
    assert data.findings == ()
    (note,) = (note for note in data.notes if "upper and lower case" in note)
    assert "forms of Unicode: dog_barking/B_1 and dog_barking/b_1; their files fall together on disks" in note


def test_notes_say_what_the_files_are_like(s4_root: Any) -> None:
    notes = read_dataset("s4", s4_root.root).notes
    assert "frames: 16x12 (4 clips)" in notes
    assert "masks: mode L (4 clips)" in notes
    assert "sounds: 8000 Hz with 1 channel(s) (4 clips)" in notes
    assert not any("upper and lower case" in note for note in notes)


def test_a_root_given_as_the_tree_itself_is_read(s4_root: Any) -> None:
    data = read_dataset("s4", s4_root.root / "Single-source")
    assert len(data.clips) == 4
    assert data.clips[0].frames[0].startswith("s4_data/visual_frames/")
