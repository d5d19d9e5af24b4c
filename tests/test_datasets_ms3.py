from __future__ import annotations

from typing import Any

import pytest

from avsrobust.datasets.read import read_dataset
from avsrobust.errors import DataSetError

CLIPS = [("AbCdEfGhIjK_0", "test"), ("_n-Ey8CoFlA_5", "val"), ("-xYz_12", "train")]


@pytest.fixture
def ms3_root(avsbench: Any) -> Any:
    avsbench.ms3(CLIPS)
    return avsbench


def labels(bench: Any) -> dict[str, tuple[str, ...]]:
    data = read_dataset("ms3", bench.root)
    assert data.findings == ()
    return {clip.clip_id: clip.labels for clip in data.clips}


def test_reads_the_object_release(ms3_root: Any) -> None:
    data = read_dataset("v1m", ms3_root.root)
    assert data.name == "ms3"
    clip = data.clips[0]
    assert (clip.split, clip.clip_id) == ("test", "AbCdEfGhIjK_0")
    base = "Multi-sources/ms3_data"
    assert clip.frames[0] == f"{base}/visual_frames/AbCdEfGhIjK_0/AbCdEfGhIjK_0.mp4_1.png"
    assert clip.masks[4] == f"{base}/gt_masks/test/AbCdEfGhIjK_0/AbCdEfGhIjK_0_5.png"
    assert clip.audio == f"{base}/audio_wav/test/AbCdEfGhIjK_0.wav"
    assert [len([mask for mask in clip.masks if mask]) for clip in data.clips] == [5, 5, 5]


def test_without_semantic_metadata_there_are_clips_but_no_categories_and_it_says_what_is_missing(ms3_root: Any) -> None:
    data = read_dataset("ms3", ms3_root.root)
    assert [(clip.labels, clip.broad) for clip in data.clips] == [((), ())] * 3
    assert data.findings == ()
    assert data.off_screen_obstacle is not None
    path = data.off_screen_obstacle.rsplit(" at ", 1)[1]
    assert path == f"{ms3_root.root}/AVSBench_semantic/metadata.csv"
    # Following the advice must work.
    ms3_root.metadata([("AbCdEfGhIjK_0", "u", "dog_man", "test", "v1m")])
    data = read_dataset("ms3", ms3_root.root)
    assert data.off_screen_obstacle is None
    assert data.clips[0].broad == ("human", "animal")


@pytest.mark.parametrize(
    ("vid", "uid", "rule"),
    [
        ("AbCdEfGhIjK_0", "anything", "vid"),
        ("anything", "AbCdEfGhIjK_0", "uid"),
        ("anything", "AbCdEfGhIjK_0_0_5000", "uid without its times"),
        ("anything", "AbCdEfGhIjK_0_5000", "uid without its end time"),
        ("AbCdEfGhIjK", "AbCdEfGhIjK", "vid, which equals the name without its last number"),
    ],
)
def test_matches_metadata_rows_by_whichever_column_fits(ms3_root: Any, vid: str, uid: str, rule: str) -> None:
    ms3_root.metadata([(vid, uid, "dog_man", "test", "v1m")], folder="AVSS")
    assert labels(ms3_root)["AbCdEfGhIjK_0"] == ("dog", "man")
    notes = read_dataset("ms3", ms3_root.root).notes
    assert any(f"v1m rows of AVSS/metadata.csv (1 clips matched by {rule})" in note for note in notes)


def test_rows_of_other_subsets_give_no_categories(ms3_root: Any) -> None:
    ms3_root.metadata([("AbCdEfGhIjK_0", "u", "dog", "test", "v2")])
    data = read_dataset("ms3", ms3_root.root)
    assert data.off_screen_obstacle is not None
    assert "no row with the label v1m that fits" in data.off_screen_obstacle


def test_clips_that_the_metadata_does_not_list_are_named_in_a_note(ms3_root: Any) -> None:
    ms3_root.metadata([("AbCdEfGhIjK_0", "u", "dog", "test", "v1m"), ("-xYz_12", "w", "", "train", "v1m")])
    data = read_dataset("ms3", ms3_root.root)
    assert data.off_screen_obstacle is None
    assert len(data.clips) == 3
    assert any("for 2 MS3 clips (-xYz_12, _n-Ey8CoFlA_5); they get no off-screen sound" in note for note in data.notes)


def test_contradicting_rows_give_no_categories_unless_the_split_decides(ms3_root: Any) -> None:
    ms3_root.metadata(
        [
            ("AbCdEfGhIjK_0", "u", "dog", "test", "v1m"),
            ("AbCdEfGhIjK_0", "v", "man", "train", "v1m"),
            ("-xYz_12", "w", "dog", "train", "v1m"),
            ("-xYz_12", "x", "man", "train", "v1m"),
            ("_n-Ey8CoFlA_5", "y", "dog_man", "test", "v1m"),
            ("_n-Ey8CoFlA_5", "z", "man_dog", "train", "v1m"),
        ]
    )
    assert labels(ms3_root) == {"AbCdEfGhIjK_0": ("dog",), "-xYz_12": (), "_n-Ey8CoFlA_5": ("dog", "man")}


def test_two_clips_of_one_video_do_not_share_its_row(avsbench: Any) -> None:
    avsbench.ms3([("AbC_0", "test"), ("AbC_5", "test"), ("DeF_1", "test")])
    avsbench.metadata([("AbC", "AbC", "dog", "test", "v1m"), ("DeF", "DeF", "man", "test", "v1m")])
    assert labels(avsbench) == {"AbC_0": (), "AbC_5": (), "DeF_1": ("man",)}


def test_an_unknown_category_is_a_finding_with_a_suggestion(ms3_root: Any) -> None:
    ms3_root.metadata([("AbCdEfGhIjK_0", "u", "gun_violn", "test", "v1m")])
    data = read_dataset("ms3", ms3_root.root)
    (finding,) = data.findings
    assert finding.clip_id == "AbCdEfGhIjK_0"
    assert "'violn'" in finding.found
    assert finding.expected.endswith("did you mean 'violin'?")
    assert len(data.clips) == 2


def test_metadata_without_a_needed_column_is_refused(ms3_root: Any) -> None:
    ms3_root.csv("AVSBench_semantic/metadata.csv", ("vid", "uid", "split", "label"), [("a", "b", "test", "v1m")])
    with pytest.raises(
        DataSetError, match=r"AVSBench_semantic/metadata.csv: has no column a_obj; found the columns vid, uid"
    ):
        read_dataset("ms3", ms3_root.root)


def test_reads_v1m_rows_where_the_object_release_is_absent(avsbench: Any) -> None:
    avsbench.semantic([("a_0_5000", "dog_car", "train", "v1m"), ("b_0_5000", "man", "test", "v1s")])
    (clip,) = read_dataset("ms3", avsbench.root).clips
    assert (clip.dataset, clip.clip_id, clip.labels) == ("ms3", "v1m/a_0_5000", ("dog", "car"))
    assert all(clip.masks)
    assert clip.num_frames == 5


def test_no_tree_at_all_is_refused(avsbench: Any) -> None:
    avsbench.write("notes.txt", b"")
    with pytest.raises(
        DataSetError, match=r"found nothing of AVSBench \(the folder holds notes.txt\); ms3 needs Multi-sources/"
    ):
        read_dataset("ms3", avsbench.root)
