"""The released table's slips through every command: a toy tree whose metadata.csv has such rows."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsrobust import RobustDataset, load_manifest
from avsrobust.caveats import OVERLAP
from avsrobust.cli.main import invoke
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.results import read_scores
from avsrobust.toy.write import write_toy

RELEASE = "AVSBench_semantic"
# Toy clips, and what the released table says of such rows.
SLIPS = {
    "open4_00001": "off-the-screen",
    "mix4_00000": "background",
    "toy4_00002": "h orse",
    "toy4_00006": "off-the-screen",
}
# Names of MS3 as they are: a part of one YouTube source in train and one in test.
RENAMED = {"mix4_00001": "_fvpYLXtQHQ_1", "mix4_00002": "_fvpYLXtQHQ_0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("released") / "data"
    write_toy(root, "avss", clips=20, seed=4)
    table = root / RELEASE / "metadata.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    for row in rows:
        row["a_obj"] = SLIPS.get(row["vid"], row["a_obj"])
        folder = root / RELEASE / row["label"] / row["uid"]
        if row["vid"] in SLIPS:
            # Masks that agree with the label: empty, or of a horse.
            shown = AVSS_CLASSES.index("horse") if SLIPS[row["vid"]] == "h orse" else 0
            for path in folder.glob("labels_semantic/*.png"):
                Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * np.uint8(shown)).save(path)
            shutil.rmtree(folder / "labels_rgb")
        if row["vid"] in RENAMED:
            row["vid"] = row["uid"] = RENAMED[row["vid"]]
            folder.rename(folder.with_name(row["uid"]))
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clips_without_a_label_go_through_every_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["build", "--dataset", "avss", "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert (
        "note: AVSBench_semantic/metadata.csv: 2 clips have no on-screen label ('off-the-screen'): v1s/toy4_00006_"
        in listed
    )
    assert (
        "note: AVSBench_semantic/metadata.csv: 1 clip has no on-screen label ('background'): v1m/mix4_00000_" in listed
    )
    assert "note: AVSBench_semantic/metadata.csv: 'h orse' is read as 'horse' in 1 clip: v1s/toy4_00002_" in listed
    assert invoke(["build", "--dataset", "avss"]) == 0
    manifest = load_manifest("robust/avss-seed42")
    without = {row.clip_id for row in manifest.rows if not row.labels}
    assert len(without) == 3
    assert not without & {row.source_clip_id for row in manifest.rows}
    off_screen = [row for row in manifest.rows if row.condition == "offscreen"]
    assert without <= {row.clip_id for row in off_screen}
    assert all(row.source_labels for row in off_screen)
    assert {row.labels for row in manifest.rows if "toy4_00002_" in row.clip_id} == {("horse",)}
    assert manifest.info.release == "semantic"
    assert "avss: 1 of 5 test clips share their YouTube source with a train clip" in manifest.info.notes

    assert invoke(["verify", "robust/avss-seed42"]) == 0
    assert invoke(["audit", "robust/avss-seed42"]) in (0, 1)
    items = list(RobustDataset(manifest, split="test"))
    targets = [item["mask"].any() for item in items if item["clip_id"] in without]
    assert len(targets) == 2 * 4
    assert not any(targets)

    baselines = [word for name in ("oracle", "visual_prior", "empty") for word in ("--adapter", name)]
    assert invoke(["evaluate", *baselines]) == 0
    capsys.readouterr()
    assert invoke(["report", "--format", "csv", "--protocol", "avsbench", "--protocol", "strict"]) == 0
    lines = {(row["model"], row["protocol"]): row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    # The released test counts every clip of the split; strict leaves out those without any target.
    assert lines["oracle", "avsbench"]["clips"] == "5"
    assert int(lines["oracle", "strict"]["clips"]) <= 3
    assert float(lines["oracle", "avsbench"]["mIoU"]) == 1
    assert float(lines["empty", "avsbench"]["mIoU"]) >= 2 / 5
    assert invoke(["report", "--format", "csv", "--by", "category"]) == 0
    categories = {row["category"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert not {"", "background", "off-the-screen"} & categories
    pair = ("results/oracle/avss-seed42", "results/empty/avss-seed42")
    assert invoke(["compare", *pair, "--samples", "100"]) == 0
    assert read_scores(pair[0]).info.notes == ("avss: 1 of 5 test clips share their YouTube source with a train clip",)


@pytest.mark.parametrize("dataset", ["s4", "ms3"])
@pytest.mark.parametrize("recipe", ["standard", "reference"])
def test_s4_and_ms3_of_the_semantic_release_are_built_apart_and_say_so(here: Path, dataset: str, recipe: str) -> None:
    # So few clips leave some without a partner: status 1, and they are listed.
    assert invoke(["build", "--dataset", dataset, "--recipe", recipe, "--export", "avsbench"]) in (0, 1)
    name = f"{dataset}-seed42-semantic" + ("" if recipe == "standard" else f"-{recipe}")
    assert [path.name for path in Path("robust").iterdir()] == [name]
    manifest = load_manifest(f"robust/{name}")
    assert manifest.info.release == "semantic"
    without = {row.clip_id for row in manifest.rows if not row.labels}
    assert len(without) == 1
    assert invoke(["verify", f"robust/{name}"]) == 0
    assert invoke(["evaluate", "--adapter", "oracle"]) == 0
    info = read_scores(f"results/oracle/{name}").info
    assert info.release == "semantic"
    assert info.notes[0].startswith(f"{dataset} is in the form of AVSBench-semantic")
    assert set(info.notes) <= set(manifest.info.notes)
    exported = sorted(
        str(path.parent.name) for path in Path(f"robust/{name}/avsbench").rglob("audio_wav_noise/*/*/*.wav")
    )
    assert ("background" in exported) == (dataset == "s4")


def test_ms3_keeps_its_overlap_in_manifest_and_results_where_only_test_is_built(here: Path) -> None:
    assert invoke(["build", "--dataset", "ms3", "--split", "test"]) in (0, 1)
    manifest = load_manifest("robust/ms3-seed42-semantic")
    shared = {"val": {"clips": 1, "shared": 0}, "test": {"clips": 1, "shared": 1}}
    assert manifest.info.survey[OVERLAP] == shared
    sentence = "ms3: 1 of 1 test clips share their YouTube source with a train clip"
    assert sentence in manifest.info.notes
    assert invoke(["evaluate", "--adapter", "empty"]) == 0
    assert sentence in read_scores("results/empty/ms3-seed42-semantic").info.notes


def test_two_releases_of_one_data_set_stand_beside_each_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = here / "both"
    root.mkdir()
    (root / RELEASE).symlink_to(here / "data" / RELEASE)
    write_toy(root / "object", "s4", clips=8, seed=4)
    (root / "Single-source").symlink_to(root / "object/Single-source")
    for release in ("object", "semantic"):
        options = ["--dataset", "s4", "--data-root", str(root), "--release", release, "--split", "test"]
        assert invoke(["build", *options]) in (0, 1)
    assert invoke(["evaluate", "--adapter", "oracle", "--adapter", "empty"]) == 0
    capsys.readouterr()
    for model in ("oracle", "empty"):
        for folder, release in (("s4-seed42", "object"), ("s4-seed42-semantic", "semantic")):
            assert load_manifest(f"robust/{folder}").info.release == release
            assert read_scores(f"results/{model}/{folder}").info.release == release
