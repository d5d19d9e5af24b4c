"""What the released generator would find on disk."""

from __future__ import annotations

from avsrobust.building.listing import read_listing
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.reference import Ms3Listing, Ms3Record, S4Listing
from avsrobust.datasets.read import read_dataset

REFERENCE = load_recipe("reference")


def test_s4_lists_folders_not_tables(s4_root):
    base = "Single-source/s4_data/audio_wav"
    s4_root.write(f"{base}/test/dog_barking/unnamed.wav", b"")
    s4_root.write(f"{base}/test/dog_barking/no sound.txt", b"")
    s4_root.write(f"{base}/test/.DS_Store", b"")
    (s4_root.root / base / "test" / "empty").mkdir()
    listing = read_listing(read_dataset("s4", s4_root.root, splits=("val",)), REFERENCE)
    assert listing == S4Listing(
        {
            "test": {"dog_barking": ("b_1", "unnamed"), "empty": (), "playing_piano": ("a_1",)},
            "train": {"male_speech": ("d_1",)},
            "val": {"helicopter": ("c_1",)},
        }
    )


def test_ms3_takes_metadata_in_the_files_own_order(avsbench):
    avsbench.ms3([("b", "test"), ("a", "test"), ("c", "train")])
    avsbench.metadata(
        [
            ("c", "c_0", "dog_man", "train", "v1m"),
            ("z", "z_0", "dog", "test", "v1s"),
            ("b", "b_0", "car", "test", "v1m"),
            ("a", "a_0", "piano", "test", "v1m"),
        ]
    )
    listing = read_listing(read_dataset("ms3", avsbench.root), REFERENCE)
    assert listing == Ms3Listing(
        (Ms3Record("c", "train", ("dog", "man")), Ms3Record("b", "test", ("car",)), Ms3Record("a", "test", ("piano",))),
        {"test": ("a", "b"), "train": ("c",), "val": ()},
    )


def test_ms3_without_metadata_has_none(avsbench):
    avsbench.ms3([("a", "test")])
    assert read_listing(read_dataset("ms3", avsbench.root), REFERENCE) == Ms3Listing(
        (), {"test": ("a",), "train": (), "val": ()}
    )


def test_other_trees_and_other_recipes_have_no_listing(avsbench, s4_root):
    assert read_listing(read_dataset("s4", s4_root.root), load_recipe("standard")) is None
    avsbench.semantic([("a_0_5000", "dog", "test", "v1s")], folder="AVSS")
    for path in sorted((avsbench.root / "Single-source").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert read_listing(read_dataset("s4", avsbench.root), REFERENCE) is None
