"""Files of training on other machines: brought before they are read, ahead of it, and named where they cannot be had."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from avsrobust.adapters.base import AudioInput
from avsrobust.errors import DataSetError
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.remote.on_demand import open_on_demand, opened
from avsrobust.training.arrivals import BuildFiles, TrainingArrivals
from avsrobust.training.data import TrainingBuild, TrainingSet
from avsrobust.training.loading import TrainingBatches
from avsrobust.training.recipe import DataPart, NegativesPart
from avsrobust.training.sampler import SampleIndex

fsspec = pytest.importorskip("fsspec")


class Remote:
    """A build and its data at an address, and here."""

    def __init__(self, build: Manifest, data: Path) -> None:
        self.system = fsspec.filesystem("memory")
        self.place = secrets.token_hex(4)
        for name, root in (("data", data), ("build", build.folder)):
            for path in root.rglob("*"):
                if path.is_file() and not path.name.startswith("."):
                    self.system.pipe_file(f"/{self.place}/{name}/{path.relative_to(root)}", path.read_bytes())
        self.local = TrainingBuild(build, data)

    def open(self) -> TrainingBuild:
        """Open both as `train` does: the manifest is copied, and nothing else."""
        build = open_on_demand(f"memory://{self.place}/build", now=["manifest.parquet"])
        return TrainingBuild(load_manifest(build), open_on_demand(f"memory://{self.place}/data"))

    def remove(self, name: str) -> None:
        self.system.rm_file(f"/{self.place}/{name}")


@pytest.fixture
def remote(make_build: Callable[..., Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setenv("AVSROBUST_CACHE", str(tmp_path / "cache"))
    build = make_build(clips=6, split="train")
    return Remote(build, build.data_root(None))


def samples_of(build: TrainingBuild, *, sees: bool = True, kind: str = "log_mel") -> TrainingSet:
    audio = AudioInput.of("log_mel") if kind == "log_mel" else AudioInput("waveform", 4000)
    return TrainingSet(
        [build], DataPart(("s4",)), NegativesPart(0.5, kinds=("noise", "silence")), audio=audio, image_size=8, sees=sees
    )


def arrivals_of(build: TrainingBuild) -> TrainingArrivals:
    return TrainingArrivals([(build.data_root, build.manifest.folder)])


def batches_of(samples: TrainingSet) -> list[list[SampleIndex]]:
    indices = [SampleIndex(number, 0, (7, number)) for number in range(len(samples))]
    return [indices[start : start + 4] for start in range(0, len(indices), 4)]


def here(build: TrainingBuild) -> set[str]:
    roots = (build.data_root, build.manifest.folder)
    found = (path for root in roots for path in root.rglob("*") if path.is_file())
    return {path.name for path in found if path.name != "manifest.parquet"}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["log_mel", "waveform"])
def test_batches_are_those_of_local_files(remote: Remote, workers: int, kind: str) -> None:
    build = remote.open()
    assert here(build) == set()
    samples, expected = samples_of(build, kind=kind), samples_of(remote.local, kind=kind)
    indices = batches_of(samples)
    loader = TrainingBatches(samples, indices).loader(workers, arrivals=arrivals_of(build))
    for batch, some in zip(loader, indices, strict=True):
        for one, other in zip(batch, expected.read_batch(some), strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert not [name for name in here(build) if name.endswith(".wav")] or kind == "waveform"


def test_only_the_next_batches_are_here_when_the_first_is_read(remote: Remote) -> None:
    build = remote.open()
    samples = samples_of(build, kind="waveform")
    indices = batches_of(samples)
    numbers = TrainingBatches(samples, indices).arriving(arrivals_of(build))
    assert next(numbers) == 0
    samples.read_batch(indices[0])
    # Of thirty frames and their masks.
    assert 8 <= len(list(build.data_root.rglob("*.png"))) < 60
    assert list(numbers) == list(range(1, 8))
    assert len(list(build.data_root.rglob("*.png"))) == 60


@pytest.mark.parametrize("sees", [True, False])
def test_pictures_are_brought_for_the_cache_and_never_again(remote: Remote, tmp_path: Path, sees: bool) -> None:
    build = remote.open()
    samples, expected = samples_of(build, sees=sees), samples_of(remote.local, sees=sees)
    told: list[str] = []
    progress: list[tuple[int, int]] = []
    arrivals = arrivals_of(build)
    samples.decode_once(
        tmp_path / "pictures",
        progress=lambda *counts: progress.append(counts),
        on_message=told.append,
        arrivals=arrivals,
    )
    assert progress[-1] == (30, 30)
    # Models that see nothing read masks alone.
    assert len(list(build.data_root.rglob("*.png"))) == (60 if sees else 30)
    indices = batches_of(samples)
    assert not any(name.endswith(".png") for files in map(samples.files_of, indices) for name in files[0].names)
    arrivals.bring([BuildFiles(0, frozenset(name for some in indices for name in samples.files_of(some)[0].names))])
    for some in indices:
        assert torch.equal(samples.read_batch(some).target, expected.read_batch(some).target)
    # Held no more: another may have their room.
    assert opened(build.data_root).held_bytes == 0  # type: ignore[union-attr]


def test_a_file_that_cannot_be_had_is_named(remote: Remote, tmp_path: Path) -> None:
    build = remote.open()
    gone = build.manifest.rows[-1].frames[2]
    remote.remove(f"data/{gone}")
    samples = samples_of(build)
    expected = rf"memory://{remote.place}/data/{gone}: cannot be had .*; restore it, and run the same command again"
    with pytest.raises(DataSetError, match=expected):
        samples.decode_once(tmp_path / "pictures", arrivals=arrivals_of(build))
    with pytest.raises(DataSetError, match=expected):
        list(TrainingBatches(samples, batches_of(samples)).arriving(arrivals_of(build)))
    assert opened(build.data_root).held_bytes == 0  # type: ignore[union-attr]


def test_local_builds_have_nothing_to_bring(remote: Remote) -> None:
    assert arrivals_of(remote.local).is_local
    assert not arrivals_of(remote.open()).is_local
