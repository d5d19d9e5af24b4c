from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import avsrobust
from avsrobust.adapters.base import AudioInput
from avsrobust.errors import ManifestError, OptionError
from avsrobust.evaluation.robust_dataset import RobustDataset, iterate_clips
from avsrobust.manifest import Manifest


def test_it_is_what_the_package_offers() -> None:
    assert avsrobust.RobustDataset is RobustDataset


def test_items_are_the_manifests_rows(tiny_build: Manifest) -> None:
    dataset = RobustDataset(tiny_build.path)
    assert len(dataset) == len(tiny_build.rows) == 16
    features = np.load(tiny_build.folder / "features.npy")
    for index, row in enumerate(tiny_build.rows):
        item = dataset[index]
        assert (item["clip_id"], item["condition"], item["polarity"]) == (row.clip_id, row.condition, row.polarity)
        assert dataset.rows[item["index"]] == row
        assert item["frames"].shape == (5, 3, 24, 32)
        assert np.array_equal(item["audio"].numpy(), features[row.log_mel_row])
        assert item["mask"].any()
        assert item["target"].any() == (row.polarity == "positive")
        assert item["has_mask"].all()


def test_selections(tiny_build: Manifest) -> None:
    assert len(RobustDataset(tiny_build, conditions="silence")) == 4
    assert len(RobustDataset(tiny_build, split="test", conditions=["clean", "noise"])) == 8
    assert len(RobustDataset(tiny_build.select(conditions=["silence"]))) == 4
    with pytest.raises(OptionError, match=r"has no rows of condition 'silense'; it has clean.*did you mean 'silence'"):
        RobustDataset(tiny_build, conditions="silense")
    with pytest.raises(OptionError, match=r"has no rows of split 'train'; it has test"):
        RobustDataset(tiny_build, split="train")


def test_indices_are_a_lists(tiny_build: Manifest) -> None:
    dataset = RobustDataset(tiny_build)
    assert dataset[-1]["index"] == 15
    with pytest.raises(IndexError, match="row 16 of 16"):
        dataset[16]


def test_waveforms(tiny_build: Manifest) -> None:
    item = RobustDataset(tiny_build, audio=AudioInput.waveform(8000))[0]
    assert item["audio"].shape == (40000,)


@pytest.mark.parametrize(("image_size", "expected"), [(16, (16, 16)), ((10, 20), (10, 20))])
def test_pictures_are_resized(tiny_build: Manifest, image_size: object, expected: tuple[int, int]) -> None:
    item = RobustDataset(tiny_build, image_size=image_size)[0]
    assert item["frames"].shape == (5, 3, *expected)
    assert item["frames"].dtype == torch.uint8
    assert item["mask"].shape == item["target"].shape == (5, *expected)
    assert item["mask"].dtype == torch.bool
    original = RobustDataset(tiny_build)[0]
    assert float(item["mask"].float().mean()) == pytest.approx(float(original["mask"].float().mean()), abs=0.05)
    assert float(item["frames"].float().mean()) == pytest.approx(float(original["frames"].float().mean()), abs=3)


def collect(dataset: RobustDataset, workers: int) -> list[tuple[str, float]]:
    loader = DataLoader(dataset, batch_size=3, num_workers=workers)
    return [
        (condition, float(audio.sum()))
        for batch in loader
        for condition, audio in zip(batch["condition"], batch["audio"], strict=True)
    ]


def test_workers_change_nothing(tiny_build: Manifest) -> None:
    dataset = RobustDataset(tiny_build, negatives=0.5)
    assert collect(dataset, 0) == collect(dataset, 2)


def test_epochs_reach_persistent_workers(tiny_build: Manifest) -> None:
    dataset = RobustDataset(tiny_build, negatives=0.5, seed=3)
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        seen.append([name for batch in loader for name in batch["condition"]])
        assert seen[-1] == [dataset[index]["condition"] for index in range(4)]
    assert len({tuple(names) for names in seen}) > 1


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_of_negatives(tiny_build: Manifest, share: float) -> None:
    dataset = RobustDataset(tiny_build, negatives=share)
    assert len(dataset) == 4
    draws = []
    for epoch in range(100):
        dataset.set_epoch(epoch)
        draws += [dataset._sound_row(index) for index in range(4)]
    negative = sum(row.polarity == "negative" for row in draws) / len(draws)
    # 4 standard deviations of a binomial share over 400 draws.
    assert abs(negative - share) <= 4 * (share * (1 - share) / 400) ** 0.5
    if share == 1:
        assert {row.condition for row in draws} == {"noise", "offscreen", "silence"}
        assert not dataset[0]["target"].any()
        assert dataset[0]["mask"].any()


def test_negatives_depend_on_seed_epoch_and_index_alone(tiny_build: Manifest) -> None:
    def draw(seed: int) -> list[str]:
        dataset = RobustDataset(tiny_build, negatives=0.5, seed=seed)
        names = []
        for epoch in range(10):
            dataset.set_epoch(epoch)
            names += [dataset._sound_row(index).condition for index in (2, 0, 3, 1)]
        return names

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_negatives_need_negative_rows_and_a_share(tiny_build: Manifest) -> None:
    with pytest.raises(OptionError, match=r"negatives: found 1\.5; expected a share"):
        RobustDataset(tiny_build, negatives=1.5)
    with pytest.raises(OptionError, match="has no negative rows among those chosen"):
        RobustDataset(tiny_build, conditions="clean", negatives=0.1)
    with pytest.raises(OptionError, match="has no row of the chosen"):
        RobustDataset(tiny_build, conditions="silence", negatives=0.1)


def test_data_of_another_root_are_refused(make_build, tmp_path: Path) -> None:
    build = make_build(clips=1)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ManifestError, match=r"not found, but .* needs it"):
        RobustDataset(build, data_root=tmp_path / "elsewhere")
    assert len(RobustDataset(build, data_root=tmp_path / "elsewhere", check=False)) == 4


def test_clips_come_one_by_one_with_all_their_sounds(make_build) -> None:
    build = make_build(clips=2, levels=(-5.0, 2.5))
    clips = list(iterate_clips(build))
    assert [clip.clip_id for clip in clips] == ["group/clip0", "group/clip1"]
    assert list(clips[0].audio) == ["clean", "mixture@-5", "mixture@2.5", "noise", "offscreen", "silence"]
    assert clips[0].frames.shape == (5, 3, 24, 32)
    rows = {(row.clip_id, row.condition): row for row in build.rows}
    features = np.load(build.folder / "features.npy")
    noise = features[rows["group/clip1", "noise"].log_mel_row]
    assert np.array_equal(clips[1].audio["noise"].numpy(), noise)
    assert clips[0].labels == ("dog",)


def test_clips_of_some_conditions(tiny_build: Manifest) -> None:
    clips = list(iterate_clips(tiny_build.path, split="test", conditions=["clean", "noise"]))
    assert [list(clip.audio) for clip in clips] == [["clean", "noise"]] * 4
