from __future__ import annotations

import shutil
from typing import Any

import pytest

from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import DataSetError

TABLE = "Single-source/s4_meta_data.csv"
HEADER = ("name", "start", "category", "split")


def messages(data: DataSet) -> list[str]:
    return [str(finding) for finding in data.findings]


def test_reads_the_object_release(s4_root: Any) -> None:
    data = read_dataset("s4", s4_root.root)
    assert [(clip.split, clip.clip_id) for clip in data.clips] == [
        ("test", "dog_barking/b_1"),
        ("test", "playing_piano/a_1"),
        ("train", "male_speech/d_1"),
        ("val", "helicopter/c_1"),
    ]
    assert data.findings == ()
    assert data.off_screen_obstacle is None
    assert "AVSBench-object" in data.layout
    assert "clips in order: train 1, val 1, test 2" in data.notes
    clip = data.clips[0]
    assert (clip.labels, clip.broad) == (("dog_barking",), ("animal",))
    assert clip.frames[4] == "Single-source/s4_data/visual_frames/test/dog_barking/b_1/b_1_5.png"
    assert clip.masks[0] == "Single-source/s4_data/gt_masks/test/dog_barking/b_1/b_1_1.png"
    assert clip.audio == "Single-source/s4_data/audio_wav/test/dog_barking/b_1.wav"
    assert clip.sound.duration_s == 5.0
    for path in (*clip.frames, *clip.masks, clip.audio):
        assert (s4_root.root / path).is_file()


def test_only_the_first_frame_of_train_has_a_mask(s4_root: Any) -> None:
    clips = {clip.split: clip for clip in read_dataset("s4", s4_root.root).clips}
    assert [mask is not None for mask in clips["train"].masks] == [True, False, False, False, False]
    assert all(clips["val"].masks)
    assert all(clips["test"].masks)


@pytest.mark.parametrize("column", ["name", "video_id", "VID", "uid"])
def test_columns_are_found_by_name_in_any_order(s4_root: Any, column: str) -> None:
    s4_root.csv(TABLE, ("split", "category", "t", column), [("test", "dog_barking", 0, "b_1")])
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["dog_barking/b_1"]
    assert f"{TABLE} has the columns split, category, t, {column}" in data.notes


def test_the_first_column_serves_where_none_is_called_name_and_a_note_says_so(s4_root: Any) -> None:
    s4_root.csv(TABLE, ("", "clip id", "start", "category", "split"), [(0, "b_1", 0, "dog_barking", "test")])
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["dog_barking/b_1"]
    assert any("none is called name, 'clip id' serves as the clip's name" in note for note in data.notes)


def test_a_table_without_any_column_for_names_is_refused(s4_root: Any) -> None:
    s4_root.csv(TABLE, ("category", "split"), [("dog_barking", "test")])
    with pytest.raises(DataSetError, match="no column with the clips' names; found the columns category, split"):
        read_dataset("s4", s4_root.root)


def test_a_table_without_a_needed_column_is_refused(s4_root: Any) -> None:
    s4_root.csv(TABLE, ("name", "start", "split"), [("b_1", 0, "test")])
    with pytest.raises(DataSetError, match=f"{TABLE}: has no column category; found the columns name, start, split"):
        read_dataset("s4", s4_root.root)


@pytest.mark.parametrize("name", ["../../../../outside", "..", "/etc", "a/b", "a\\b", "a\nb", "", "."])
@pytest.mark.parametrize("column", [0, 2])
def test_an_unsafe_cell_is_a_finding_and_nothing_else(s4_root: Any, name: str, column: int) -> None:
    row = ["b_1", 0, "dog_barking", "test"]
    row[column] = name
    s4_root.csv(TABLE, HEADER, [row, ("a_1", 0, "playing_piano", "test")])
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["playing_piano/a_1"]
    (finding,) = data.findings
    assert finding.path.startswith(f"{TABLE}:")
    assert finding.clip_id is not None
    assert "\n" not in str(finding) + finding.clip_id
    assert finding.expected.startswith("part of a file's name" if name else "the ")


def test_an_id_that_is_there_twice_is_a_finding_for_every_row_even_across_splits(s4_root: Any) -> None:
    rows = [("b_1", 0, "dog_barking", "test"), ("a_1", 0, "playing_piano", "test"), ("b_1", 0, "dog_barking", "val")]
    s4_root.csv(TABLE, HEADER, rows)
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["playing_piano/a_1"]
    assert messages(data) == [
        f"{TABLE}:{line}: found the clip 'dog_barking/b_1' in the lines 2, 4; expected every clip once"
        for line in (2, 4)
    ]
    only_test = read_dataset("s4", s4_root.root, splits=["test"])
    assert len(only_test.findings) == 1


def test_the_same_name_in_two_categories_is_two_clips(s4_root: Any) -> None:
    s4_root.s4([("x", "dog_barking", "test"), ("x", "helicopter", "test")])
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["dog_barking/x", "helicopter/x"]


def test_unknown_splits_and_categories_are_findings_with_suggestions(s4_root: Any) -> None:
    s4_root.csv(TABLE, HEADER, [("b_1", 0, "dog_barkin", "tets"), ("a_1", 0, "playing_piano", "test")])
    data = read_dataset("s4", s4_root.root)
    assert messages(data) == [
        f"{TABLE}:2: found the category 'dog_barkin'; expected one of S4's 23 categories; did you mean 'dog_barking'?",
        f"{TABLE}:2: found the split 'tets'; expected train, val or test; did you mean 'test'?",
    ]
    assert [finding.clip_id for finding in data.findings] == ["dog_barkin/b_1"] * 2


def test_a_missing_data_folder_is_one_error(s4_root: Any) -> None:
    shutil.rmtree(s4_root.root / "Single-source/s4_data/audio_wav")
    with pytest.raises(
        DataSetError, match="s4_data: found no folder audio_wav; expected visual_frames, gt_masks, audio_wav"
    ):
        read_dataset("s4", s4_root.root)


def test_reads_v1s_rows_where_the_object_release_is_absent(avsbench: Any) -> None:
    avsbench.semantic(
        [
            ("a_0_5000", "dog", "test", "v1s"),
            ("b_0_5000", "man", "train", "v1s"),
            ("c_0_5000", "man_car", "test", "v1m"),
        ]
    )
    data = read_dataset("v1s", avsbench.root)
    assert data.name == "s4"
    assert "v1s rows of AVSBench_semantic/metadata.csv" in data.layout
    test, train = data.clips
    assert (test.dataset, test.clip_id, test.labels, test.broad) == ("s4", "v1s/a_0_5000", ("dog",), ("animal",))
    assert test.masks[4] == "AVSBench_semantic/v1s/a_0_5000/labels_semantic/4.png"
    assert [mask is not None for mask in train.masks] == [True, False, False, False, False]


def test_the_object_release_wins_where_both_are_there(s4_root: Any) -> None:
    s4_root.semantic([("z_0_5000", "dog", "test", "v1s")])
    assert len(read_dataset("s4", s4_root.root).clips) == 4


def test_half_an_object_release_is_refused_and_not_passed_over(avsbench: Any) -> None:
    avsbench.semantic([("z_0_5000", "dog", "test", "v1s")])
    avsbench.csv(TABLE, HEADER, [("b_1", 0, "dog_barking", "test")])
    with pytest.raises(DataSetError, match=f"{TABLE} without s4_data/ beside it"):
        read_dataset("s4", avsbench.root)


def test_a_tree_of_another_kind_is_refused_with_what_was_found_and_looked_for(avsbench: Any) -> None:
    avsbench.ms3([("a_0", "test")])
    with pytest.raises(
        DataSetError,
        match=r"found Multi-sources/, which serves ms3; s4 needs Single-source/s4_meta_data.csv beside s4_data/",
    ):
        read_dataset("s4", avsbench.root)


def test_a_semantic_tree_without_v1s_is_of_another_kind(avsbench: Any) -> None:
    avsbench.semantic([("a_0_10000", "dog", "test", "v2")])
    with pytest.raises(DataSetError, match="found AVSBench_semantic/, which serves avss; s4 needs"):
        read_dataset("s4", avsbench.root)
    (avsbench.root / "AVSBench_semantic/v1s").mkdir()
    with pytest.raises(DataSetError, match="found no row with the label v1s, so nothing of s4"):
        read_dataset("s4", avsbench.root)
