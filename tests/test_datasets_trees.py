from __future__ import annotations

from pathlib import Path

import pytest

from avsrobust.datasets.trees import MULTI, SEMANTIC, SINGLE, TreeKind, find_trees
from avsrobust.errors import DataSetError


def make(root: Path, *paths: str) -> None:
    for path in paths:
        if path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        (SINGLE, "Single-source"),
        (SINGLE, "AVSBench_object/Single-source"),
        (SINGLE, ""),
        (MULTI, "Multi-sources"),
        (MULTI, "avsbench/Multi-sources"),
        (SEMANTIC, "AVSBench_semantic"),
        (SEMANTIC, "AVSS"),
        (SEMANTIC, "avsbench_semantic"),
        (SEMANTIC, ""),
        (SEMANTIC, "data/AVSS"),
    ],
)
def test_finds_a_tree_in_each_place_the_readmes_name(tmp_path: Path, kind: TreeKind, folder: str) -> None:
    make(tmp_path / folder, kind.table, f"{kind.data[-1]}/")
    tree = find_trees(tmp_path).find(kind)
    assert tree is not None
    assert (tree.folder, tree.data) == (folder, (kind.data[-1],))
    assert (tmp_path / tree.table).is_file()
    assert all(find_trees(tmp_path).find(other) is None for other in (SINGLE, MULTI, SEMANTIC) if other is not kind)


def test_a_tree_two_levels_down_is_not_found(tmp_path: Path) -> None:
    make(tmp_path, "a/b/Single-source/s4_meta_data.csv", "a/b/Single-source/s4_data/")
    assert find_trees(tmp_path).trees == ()


def test_two_trees_of_a_kind_are_refused_and_both_named(tmp_path: Path) -> None:
    for folder in ("AVSS", "AVSBench_semantic"):
        make(tmp_path, f"{folder}/metadata.csv", f"{folder}/v2/")
    found = find_trees(tmp_path)
    with pytest.raises(DataSetError, match=r"AVSBench-semantic 2 times \(AVSBench_semantic/, AVSS/\).*--data-root"):
        found.find(SEMANTIC)
    assert found.find(SINGLE) is None


def test_a_link_to_a_tree_is_not_a_second_one(tmp_path: Path) -> None:
    make(tmp_path, "AVSBench_semantic/metadata.csv", "AVSBench_semantic/v2/")
    (tmp_path / "AVSS").symlink_to("AVSBench_semantic")
    tree = find_trees(tmp_path).find(SEMANTIC)
    assert tree is not None
    assert tree.folder == "AVSBench_semantic"


def test_a_semantic_tree_serves_what_its_folders_say(tmp_path: Path) -> None:
    make(tmp_path, "metadata.csv", "v1m/", "v2/")
    tree = find_trees(tmp_path).find(SEMANTIC)
    assert tree is not None
    assert tree.serves == ("avss", "ms3")


@pytest.mark.parametrize("folder", ["", "AVSBench_semantic", "AVSS", "Multi-sources", "x/AVSS", "x/Multi-sources"])
def test_a_lone_metadata_table_is_found_where_the_readmes_put_it(tmp_path: Path, folder: str) -> None:
    make(tmp_path / folder, "metadata.csv")
    found = find_trees(tmp_path)
    assert found.find(SEMANTIC) is None
    assert found.semantic_table() == f"{folder}/metadata.csv".lstrip("/")


def test_a_foreign_metadata_table_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "other_set/metadata.csv")
    assert find_trees(tmp_path).semantic_table() is None


def test_a_table_beside_its_clips_wins_over_a_lone_copy(tmp_path: Path) -> None:
    make(tmp_path, "AVSS/metadata.csv", "AVSS/v1m/", "Multi-sources/metadata.csv")
    assert find_trees(tmp_path).semantic_table() == "AVSS/metadata.csv"


def test_two_lone_metadata_tables_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "metadata.csv", "Multi-sources/metadata.csv")
    with pytest.raises(DataSetError, match=r"2 times \(metadata.csv, Multi-sources/metadata.csv\)"):
        find_trees(tmp_path).semantic_table()


def test_half_a_tree_is_reported_as_what_it_lacks(tmp_path: Path) -> None:
    make(tmp_path, "Single-source/s4_meta_data.csv", "Multi-sources/ms3_data/", "AVSS/v1s/")
    found = find_trees(tmp_path)
    assert found.trees == ()
    assert found.is_incomplete(SINGLE)
    message = str(found.absent("s4", "X"))
    assert "Single-source/s4_meta_data.csv without s4_data/ beside it" in message
    assert "Multi-sources/ms3_data/ without ms3_meta_data.csv beside it" in message
    assert "AVSS/ without metadata.csv" in message


def test_hidden_folders_and_files_named_like_folders_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, ".trash/Single-source/s4_meta_data.csv", ".trash/Single-source/s4_data/", "AVSS")
    assert find_trees(tmp_path).trees == ()


def test_what_macos_adds_to_archives_is_passed_over(tmp_path: Path) -> None:
    for parent in ("", "__MACOSX/"):
        (tmp_path / f"{parent}Single-source/s4_data").mkdir(parents=True)
        (tmp_path / f"{parent}Single-source/s4_meta_data.csv").write_text("")
    assert [str(tree) for tree in find_trees(tmp_path).trees] == ["Single-source/"]


def test_a_root_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"nowhere: found no such folder; expected .*--data-root"):
        find_trees(tmp_path / "nowhere")
    make(tmp_path, "file")
    with pytest.raises(DataSetError, match="file: found a file, not a folder"):
        find_trees(tmp_path / "file")
