from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avsrobust.adapters.base import AudioInput
from avsrobust.audio.vggish import VGGish
from avsrobust.checksums import Checksums
from avsrobust.errors import AdapterError, ManifestError
from avsrobust.evaluation import sound
from avsrobust.evaluation.sound import SoundReader
from avsrobust.manifest import Manifest, load_manifest


def reader(build: Manifest, audio: AudioInput, **choices: object) -> SoundReader:
    return SoundReader(build, build.data_root(), audio, **choices)  # type: ignore[arg-type]


def test_log_mels_are_the_rows_of_the_array(tiny_build: Manifest) -> None:
    features = np.load(tiny_build.folder / "features.npy")
    sounds = reader(tiny_build, AudioInput.log_mel())
    for row in tiny_build.rows:
        log_mel = sounds.read(row)
        assert log_mel.dtype == torch.float32
        assert np.array_equal(log_mel.numpy(), features[row.log_mel_row])


def test_a_sound_is_the_receivers_own(tiny_build: Manifest) -> None:
    sounds = reader(tiny_build, AudioInput.log_mel())
    before = sounds.read(tiny_build.rows[0]).clone()
    sounds.read(tiny_build.rows[0]).zero_()
    assert torch.equal(sounds.read(tiny_build.rows[0]), before)


def test_waveforms_come_at_the_models_rate_and_length(tiny_build: Manifest) -> None:
    row = tiny_build.rows[0]
    stored, rate = soundfile.read(tiny_build.audio_path(row, tiny_build.data_root()))
    same = reader(tiny_build, AudioInput.waveform(rate)).read(row)
    assert np.allclose(same.numpy(), stored, atol=1e-6)
    doubled = reader(tiny_build, AudioInput.waveform(2 * rate)).read(row)
    assert doubled.shape == (2 * rate * 5,)
    assert doubled.dtype == torch.float32


def test_another_sound_than_the_manifests_is_noticed(make_build) -> None:
    build = make_build(clips=1)
    path = build.audio_path(build.rows[0], build.data_root())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ManifestError, match=r"clip0\.wav: has SHA-256 .*restore the file or build again"):
        reader(build, AudioInput.waveform(16000)).read(build.rows[0])
    path.unlink()
    with pytest.raises(ManifestError, match=r"clip0\.wav: cannot be read"):
        reader(build, AudioInput.waveform(16000)).read(build.rows[0])


def test_checksums_are_computed_once(tiny_build: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    digest = sound.sha256_of_file
    monkeypatch.setattr(sound, "sha256_of_file", lambda path: calls.append(path) or digest(path))
    sounds = reader(tiny_build, AudioInput.waveform(4000))
    for _ in range(3):
        sounds.read(tiny_build.rows[0])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_mel_row": 99}, "expected float32 .more than 99"),
        ({"log_mel_row": -1}, r"features\.npy: holds float32"),
        ({"num_frames": 10}, r"holds float32 \[16, 5, 1, 96, 64\]; expected float32 .*10, 1, 96, 64"),
        ({"log_mel": "none.npy"}, r"none\.npy: cannot be read as an array"),
    ],
)
def test_log_mels_that_are_not_there_are_named(tiny_build: Manifest, changes: dict[str, object], message: str) -> None:
    row = replace(tiny_build.rows[0], **changes)  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match=message):
        reader(tiny_build, AudioInput.log_mel()).read(row)


def test_pickled_arrays_are_refused(make_build) -> None:
    build = make_build(clips=1)
    np.save(build.folder / "features.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ManifestError, match=r"features\.npy: cannot be read as numpy's arrays \(.*build again"):
        reader(build, AudioInput.log_mel()).read(build.rows[0])


def test_embeddings_need_weights(tiny_build: Manifest) -> None:
    with pytest.raises(AdapterError, match="expected --option vggish=FILE"):
        reader(tiny_build, AudioInput.embedding())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vggish") / "vggish.pth"
    torch.save(VGGish().state_dict(), path)
    return path


def test_embeddings_are_vggishs_of_the_log_mel(tiny_build: Manifest, weights) -> None:
    network = VGGish().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    sounds = reader(tiny_build, AudioInput.embedding(), vggish=weights)
    row = tiny_build.rows[3]
    log_mel = reader(tiny_build, AudioInput.log_mel()).read(row)
    with torch.no_grad():
        expected = network(log_mel)
    assert sounds.read(row).shape == (5, 128)
    assert torch.allclose(sounds.read(row), expected, atol=1e-5)
    copied = pickle.loads(pickle.dumps(sounds))
    assert torch.equal(copied.read(row), sounds.read(row))


def test_a_reader_travels_light(tiny_build: Manifest) -> None:
    sounds = reader(tiny_build, AudioInput.log_mel())
    size = len(pickle.dumps(sounds))
    sounds.read(tiny_build.rows[0])
    assert len(pickle.dumps(sounds)) == size


def test_few_arrays_are_mapped_and_each_is_checked_until_it_changes(
    toy_builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = load_manifest(toy_builds / "robust/s4-seed42")
    rows = [row for row in build.rows if not row.log_mel.startswith("made:")]
    shards = sorted({row.log_mel for row in rows})
    assert len(shards) > 2
    checked: list[str] = []
    check = Checksums.check_file

    def counted(self: Checksums, name: str, path: Path) -> None:
        checked.append(name)
        check(self, name, path)

    monkeypatch.setattr(Checksums, "check_file", counted)
    monkeypatch.setattr(sound, "_MOST_MAPPED", 1)
    sounds = reader(build, AudioInput.log_mel())
    for row in (*rows, *rows[::-1]):
        expected = np.load(build.folder / row.log_mel)[row.log_mel_row]
        assert np.array_equal(sounds.read(row).numpy(), expected)
        assert len(sounds._arrays) == 1
    assert sorted(checked) == shards
    again = pickle.loads(pickle.dumps(sounds))
    assert np.array_equal(again.read(rows[0]).numpy(), sounds.read(rows[0]).numpy())
    path = build.folder / shards[0]
    changed = path.stat()
    try:
        os.utime(path, ns=(changed.st_atime_ns, changed.st_mtime_ns + 1))
        for row in rows:
            sounds.read(row)
        assert checked.count(shards[0]) == 2
    finally:
        os.utime(path, ns=(changed.st_atime_ns, changed.st_mtime_ns))
