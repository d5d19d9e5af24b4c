from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.slips import read_labels
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.errors import DataSetError

CLIPS = [
    ("a_0_5000", "dog", "train", "v1s"),
    ("b_0_5000", "emergency-car_man", "val", "v1m"),
    ("c_0_10000", "violin_woman", "test", "v2"),
    ("d_0_5000", "cat", "test", "v1s"),
]
TABLE = "AVSBench_semantic/metadata.csv"
LABEL_INDEX = {name: index for index, name in enumerate(AVSS_CLASSES, start=1)}


@pytest.fixture
def avss_root(avsbench: Any) -> Any:
    avsbench.semantic(CLIPS)
    return avsbench


@pytest.mark.parametrize("folder", ["AVSBench_semantic", "AVSS", "", "x/AVSS"])
def test_reads_every_subset_wherever_the_tree_lies(avsbench: Any, folder: str) -> None:
    avsbench.semantic(CLIPS, folder)
    data = read_dataset("v2", avsbench.root)
    assert data.name == "avss"
    assert data.findings == ()
    assert [(clip.split, clip.clip_id, clip.num_frames) for clip in data.clips] == [
        ("test", "v1s/d_0_5000", 5),
        ("test", "v2/c_0_10000", 10),
        ("train", "v1s/a_0_5000", 5),
        ("val", "v1m/b_0_5000", 5),
    ]
    v2 = data.clips[1]
    place = f"{folder}/v2/c_0_10000".lstrip("/")
    assert (v2.frames[9], v2.masks[9], v2.audio) == (
        f"{place}/frames/9.jpg",
        f"{place}/labels_semantic/9.png",
        f"{place}/audio.wav",
    )
    assert (v2.labels, v2.broad) == (("violin", "woman"), ("music", "human"))


def test_only_frame_0_of_v1s_train_has_a_mask(avss_root: Any) -> None:
    masks = {
        clip.clip_id: [mask is not None for mask in clip.masks] for clip in read_dataset("avss", avss_root.root).clips
    }
    assert masks["v1s/a_0_5000"] == [True] + [False] * 4
    assert masks["v1s/d_0_5000"] == [True] * 5
    assert masks["v1m/b_0_5000"] == [True] * 5
    assert masks["v2/c_0_10000"] == [True] * 10


def test_labels_keep_their_hyphens_and_come_once() -> None:
    assert read_labels("emergency-car_man_emergency-car").labels == ("emergency-car", "man")
    assert read_labels("").labels == ()


def test_columns_are_found_by_name_and_only_the_needed_ones_are(avss_root: Any) -> None:
    rows = [(split, label, a_obj, uid, "x") for uid, a_obj, split, label in CLIPS]
    avss_root.csv(TABLE, ("split", "label", "a_obj", "uid", "vid"), rows)
    assert len(read_dataset("avss", avss_root.root).clips) == 4


@pytest.mark.parametrize("column", ["vid", "uid", "a_obj", "split", "label"])
def test_a_missing_column_is_named(avss_root: Any, column: str) -> None:
    header = [name for name in ("vid", "uid", "a_obj", "split", "label") if name != column]
    avss_root.csv(TABLE, header, [("x", "x", "x", "x")])
    with pytest.raises(DataSetError, match=f"{TABLE}: has no column {column}; found the columns {', '.join(header)}"):
        read_dataset("avss", avss_root.root)


@pytest.mark.parametrize(
    ("row", "found", "clip_id"),
    [
        (("v", "../../x", "dog", "test", "v2"), "the uid '../../x'", "v2/../../x"),
        (("v", "", "dog", "test", "v2"), "an empty uid", "line 3"),
        (("v", "x", "dog", "test", "v3"), "the label 'v3'", "line 3"),
        (("v", "x", "dog", "testing", "v2"), "the split 'testing'", "v2/x"),
        (("v", "x", "dog_unicorn", "test", "v2"), "the category 'unicorn'", "v2/x"),
        (("v", "x", "", "test", "v2"), "an empty a_obj", "v2/x"),
    ],
)
def test_a_bad_row_is_one_finding(avss_root: Any, row: tuple[str, ...], found: str, clip_id: str) -> None:
    avss_root.metadata([("v", "c_0_10000", "violin", "test", "v2"), row])
    data = read_dataset("avss", avss_root.root)
    assert [clip.clip_id for clip in data.clips] == ["v2/c_0_10000"]
    assert [(finding.path, finding.found, finding.clip_id) for finding in data.findings] == [
        (f"{TABLE}:3", found, clip_id)
    ]


def test_the_same_uid_twice_is_a_finding_but_not_in_two_subsets(avss_root: Any) -> None:
    avss_root.semantic([("a_0_5000", "dog", "test", "v1s"), ("a_0_5000", "dog", "test", "v1m")])
    assert len(read_dataset("avss", avss_root.root).clips) == 2
    avss_root.metadata([("a", "a_0_5000", "dog", "test", "v1s"), ("a", "a_0_5000", "dog", "test", "v1s")])
    data = read_dataset("avss", avss_root.root)
    assert data.clips == ()
    assert len(data.findings) == 2


def test_rgb_masks_are_listed_where_there_are_no_others_and_a_note_says_so(avss_root: Any) -> None:
    avss_root.semantic([("r_0_5000", "dog", "test", "v1m"), ("s_0_5000", "dog", "test", "v1m")], masks="labels_rgb")
    shutil.copytree(
        avss_root.root / "AVSBench_semantic/v1m/b_0_5000/labels_semantic",
        avss_root.root / "AVSBench_semantic/v1m/s_0_5000/labels_semantic",
    )
    data = read_dataset("avss", avss_root.root)
    assert [clip.masks[0] for clip in data.clips] == [
        "AVSBench_semantic/v1m/r_0_5000/labels_rgb/0.png",
        "AVSBench_semantic/v1m/s_0_5000/labels_semantic/0.png",
    ]
    assert any("1 clips have labels_rgb/ only (first: v1m/r_0_5000)" in note for note in data.notes)


def test_a_label_index_that_agrees_is_no_finding(avss_root: Any) -> None:
    avss_root.write("AVSBench_semantic/label2idx.json", json.dumps(LABEL_INDEX).encode())
    assert read_dataset("avss", avss_root.root).findings == ()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (json.dumps(LABEL_INDEX | {"dog": 19, "donkey": 18}), ["index 19 for 'dog'", "index 18 for 'donkey'"]),
        (json.dumps(LABEL_INDEX | {"unicorn": 72}), ["index 72 for 'unicorn'"]),
        ("[]", ["a list"]),
        (json.dumps({str(number): number for number in range(2000)}), ["2,000 names"]),
        (json.dumps(LABEL_INDEX | {"a\x1b" * 100: 72}), [f"index 72 for '{'a?' * 25}'"]),
    ],
)
def test_a_label_index_that_disagrees_is_a_finding_about_all_clips(
    avss_root: Any, content: str, found: list[str]
) -> None:
    avss_root.write("AVSBench_semantic/label2idx.json", content.encode())
    data = read_dataset("avss", avss_root.root)
    assert [(finding.found, finding.clip_id) for finding in data.findings] == [(text, None) for text in found]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"dog": NaN}'])
def test_a_label_index_that_is_no_json_is_a_finding(avss_root: Any, content: bytes) -> None:
    avss_root.write("AVSBench_semantic/label2idx.json", content)
    (finding,) = read_dataset("avss", avss_root.root).findings
    assert "cannot be read" in finding.found


def test_an_object_tree_is_of_another_kind(s4_root: Any) -> None:
    with pytest.raises(
        DataSetError, match=r"found Single-source/, which serves s4; avss needs AVSBench-semantic's metadata.csv"
    ):
        read_dataset("avss", s4_root.root)


def test_metadata_without_clips_is_of_another_kind(avsbench: Any) -> None:
    avsbench.metadata([("v", "x", "dog", "test", "v2")])
    with pytest.raises(DataSetError, match=r"AVSBench_semantic/metadata.csv without clips beside it; avss needs"):
        read_dataset("avss", avsbench.root)
