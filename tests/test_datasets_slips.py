"""The released table's slips, and spellings of copies; through every reader that takes categories from metadata.csv."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.slips import SLIPS, Reading, read_labels, reading_notes
from avsrobust.datasets.taxonomy import AVSS_CATEGORIES, AVSS_SUPERCATEGORY

TABLE = "AVSBench_semantic/metadata.csv"
# As they stand in the released table: uid, a_obj, split, label.
HORSE = ("zVfLHhs9uv8_3000_8000", "h orse", "train", "v1s")
OFF_SCREEN = (
    ("3vXBTUpYaVw_323000_333000", "off-the-screen", "test", "v2"),
    ("-9-Jylm9GiA_440000_450000", "off-the-screen", "train", "v2"),
)
BACKGROUND = (("RmYRkbGXZPY", "background", "train", "v1m"), ("SA6kKf9H3H4_1", "background", "train", "v1m"))
ORDINARY = (("a_0_10000", "dog_man", "test", "v2"), ("b_0_5000", "car", "test", "v1s"), ("c_0", "cat", "train", "v1m"))
ROWS = (HORSE, *OFF_SCREEN, *BACKGROUND, *ORDINARY)


def by_id(data: DataSet) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]]:
    assert data.findings == ()
    return {clip.clip_id: (clip.labels, clip.broad, clip.has_no_label) for clip in data.clips}


def with_row(avsbench: Any, a_obj: str) -> DataSet:
    avsbench.semantic([("x_0_10000", a_obj, "test", "v2"), *ORDINARY])
    return read_dataset("avss", avsbench.root)


def test_avss_is_read_whole_with_the_released_slips(avsbench: Any) -> None:
    avsbench.semantic(ROWS)
    data = read_dataset("avss", avsbench.root)
    none = ((), (), True)
    assert by_id(data) == {
        "v1s/zVfLHhs9uv8_3000_8000": (("horse",), ("animal",), False),
        "v2/3vXBTUpYaVw_323000_333000": none,
        "v2/-9-Jylm9GiA_440000_450000": none,
        "v1m/RmYRkbGXZPY": none,
        "v1m/SA6kKf9H3H4_1": none,
        "v2/a_0_10000": (("dog", "man"), ("human", "animal"), False),
        "v1s/b_0_5000": (("car",), ("device",), False),
        "v1m/c_0": (("cat",), ("animal",), False),
    }
    assert [note for note in data.notes if note.startswith(TABLE)] == [
        f"{TABLE}: 2 clips have no on-screen label ('background'): v1m/RmYRkbGXZPY, v1m/SA6kKf9H3H4_1; kept with empty labels, "
        "never a source clip",
        f"{TABLE}: 2 clips have no on-screen label ('off-the-screen'): v2/-9-Jylm9GiA_440000_450000, "
        "v2/3vXBTUpYaVw_323000_333000; kept with empty labels, never a source clip",
        f"{TABLE}: 'h orse' is read as 'horse' in 1 clip: v1s/zVfLHhs9uv8_3000_8000",
    ]


def test_only_clips_of_the_splits_read_are_noted(avsbench: Any) -> None:
    avsbench.semantic(ROWS)
    notes = [note for note in read_dataset("avss", avsbench.root, splits=["test"]).notes if note.startswith(TABLE)]
    assert len(notes) == 1
    assert "1 clip has no on-screen label ('off-the-screen'): v2/3vXBTUpYaVw_323000_333000;" in notes[0]


@pytest.mark.parametrize(
    ("dataset", "labels"),
    [
        ("s4", {"v1s/zVfLHhs9uv8_3000_8000": ("horse",), "v1s/b_0_5000": ("car",)}),
        ("ms3", {"v1m/RmYRkbGXZPY": (), "v1m/SA6kKf9H3H4_1": (), "v1m/c_0": ("cat",)}),
    ],
)
def test_s4_and_ms3_of_the_semantic_release_are_read_with_them(avsbench: Any, dataset: str, labels: object) -> None:
    avsbench.semantic(ROWS)
    data = read_dataset(dataset, avsbench.root)
    assert {name: held for name, (held, _, _) in by_id(data).items()} == labels
    assert len([note for note in data.notes if note.startswith(TABLE)]) == 1


def test_ms3_of_the_object_release_takes_them_from_the_table(avsbench: Any) -> None:
    names = [("RmYRkbGXZPY", "train"), ("SA6kKf9H3H4_1", "train"), ("c_0", "train"), ("unlisted_7", "train")]
    avsbench.ms3(names)
    avsbench.metadata([(uid, uid, a_obj, split, label) for uid, a_obj, split, label in ROWS if label == "v1m"])
    data = read_dataset("ms3", avsbench.root)
    assert by_id(data) == {
        "RmYRkbGXZPY": ((), (), True),
        "SA6kKf9H3H4_1": ((), (), True),
        "c_0": (("cat",), ("animal",), False),
        # Not known, which is another thing than none.
        "unlisted_7": ((), (), False),
    }
    assert any(
        "2 clips have no on-screen label ('background'): RmYRkbGXZPY, SA6kKf9H3H4_1;" in note for note in data.notes
    )
    assert any("for 1 MS3 clips (unlisted_7); they get no off-screen sound" in note for note in data.notes)


def test_rows_of_one_ms3_clip_that_disagree_whether_it_has_a_label_say_nothing(avsbench: Any) -> None:
    avsbench.ms3([("a_0", "test"), ("b_0", "test")])
    rows = [("a_0", "u", "background", "test", "v1m"), ("a_0", "v", "dog", "test", "v1m")]
    avsbench.metadata([*rows, ("b_0", "b", "man", "test", "v1m")])
    assert by_id(read_dataset("ms3", avsbench.root))["a_0"] == ((), (), False)


@pytest.mark.parametrize(
    ("a_obj", "labels"),
    [
        ("Dog", ("dog",)),
        ("man_ dog", ("man", "dog")),
        ("man _dog", ("man", "dog")),
        ("man__dog", ("man", "dog")),
        ("_man_dog", ("man", "dog")),
        ("man_dog_man", ("man", "dog")),
        ("EMERGENCY-CAR", ("emergency-car",)),
        ("Off-The-Screen", ()),
        ("background_", ()),
    ],
)
def test_what_can_mean_one_thing_only_is_read_with_a_note(avsbench: Any, a_obj: str, labels: tuple[str, ...]) -> None:
    data = with_row(avsbench, a_obj)
    assert by_id(data)["v2/x_0_10000"][0] == labels
    assert any("is read as" in note and note.endswith("v2/x_0_10000") for note in data.notes)


@pytest.mark.parametrize(
    ("a_obj", "found", "expected"),
    [
        ("hrose", "the category 'hrose'", "did you mean 'horse'?"),
        ("d og", "the category 'd og'", "did you mean 'dog'?"),
        ("emergency_car", "the category 'emergency'", "did you mean 'emergency-car'?"),
        ("of-the-screen", "the category 'of-the-screen'", "one of AVSBench-semantic's 70 categories"),
        ("dog_background", "the label 'background' beside others", "categories, or 'background' alone"),
        ("off-the-screen_dog", "the label 'off-the-screen' beside others", "categories, or 'off-the-screen' alone"),
        ("__", "an empty a_obj", "categories joined by '_'"),
    ],
)
def test_anything_else_stays_a_finding(avsbench: Any, a_obj: str, found: str, expected: str) -> None:
    data = with_row(avsbench, a_obj)
    assert [(finding.path, finding.found, finding.clip_id) for finding in data.findings] == [
        (f"{TABLE}:2", found, "v2/x_0_10000")
    ]
    assert expected in data.findings[0].expected
    assert len(data.clips) == 3


def test_both_labels_of_no_label_contradict_nothing_but_are_no_category_either(avsbench: Any) -> None:
    assert len(with_row(avsbench, "off-the-screen_background").findings) == 2


def test_the_table_of_slips_names_no_category_and_says_where_each_stands() -> None:
    assert {slip.label for slip in SLIPS} == {"h orse", "off-the-screen", "background"}
    for slip in SLIPS:
        assert "metadata.csv" in slip.source
        assert slip.means is None or slip.means in AVSS_SUPERCATEGORY


WORDS = st.sampled_from(
    ["dog", "Man", " horse", "h orse", "background", "off-the-screen", "", " ", "dgo", "emergency-car"]
)


@given(st.lists(WORDS, max_size=5).map("_".join) | st.text(max_size=12))
def test_reading_is_stable_and_loses_no_label(a_obj: str) -> None:
    reading = read_labels(a_obj)
    assert len(set(reading.labels)) == len(reading.labels)
    if reading.no_label is not None:
        assert reading.labels == ()
        assert reading.no_label in AVSS_CATEGORIES.no_label
    # What was read, written down, reads the same and needs no correction.
    assert read_labels("_".join(reading.labels)) == Reading(reading.labels)
    # Without a correction the labels are the cell.
    if not reading.corrections and reading.no_label is None and a_obj.strip("_ "):
        assert "_".join(reading.labels) == a_obj


def test_notes_are_summed_up_past_a_few() -> None:
    many = [(f"c{number:02d}", read_labels("off-the-screen")) for number in range(12)]
    (note,) = reading_notes("t.csv", many)
    assert note.startswith(
        "t.csv: 12 clips have no on-screen label ('off-the-screen'): c00, c01, c02, c03, c04 and 7 more;"
    )
    spellings = [
        (f"c{number}", read_labels(name.upper())) for number, name in enumerate(sorted(AVSS_SUPERCATEGORY)[5:13])
    ]
    notes = reading_notes("t.csv", spellings)
    assert len(notes) == 6
    assert notes[-1] == "t.csv: 3 other spellings are read as the one thing they can mean, in 3 clips"
