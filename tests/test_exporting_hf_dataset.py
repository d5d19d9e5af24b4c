"""A build as a data set of Hugging Face: loaded, shown and played by `datasets` itself."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from avsrobust import load_manifest
from avsrobust.audio.made import FileReader, render_row
from avsrobust.cli.main import invoke
from avsrobust.errors import AvsRobustError, ManifestError, OptionError
from avsrobust.exporting.hf_dataset import export_hf
from avsrobust.manifest import MADE_PREFIX, Manifest, Row

# Before it is imported: nothing is looked for on the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def load(folder: Path, cache: Path) -> Any:
    import datasets

    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def samples(sound: Any) -> tuple[np.ndarray, int]:
    """Samples [channels, S] and rate of a decoded sound: torchcodec's since datasets 4, a mapping before."""
    if isinstance(sound, dict):
        return np.atleast_2d(np.asarray(sound["array"])), int(sound["sampling_rate"])
    decoded = sound.get_all_samples()
    return decoded.data.numpy(), int(decoded.sample_rate)


def require_decoder() -> None:
    """Skip where datasets cannot decode sounds: torchcodec needs FFmpeg's libraries and its own release of torch."""
    import datasets

    if int(datasets.__version__.split(".")[0]) >= 4:
        try:
            import torchcodec.decoders  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"torchcodec cannot be used here: {str(error).splitlines()[0]}")


def pixels(picture: Any) -> np.ndarray:
    return np.asarray(picture)


@pytest.mark.parametrize("embed", [False, True])
def test_datasets_shows_and_plays_the_columns(tiny_build: Manifest, tmp_path: Path, embed: bool) -> None:
    require_decoder()
    written = export_hf(tiny_build, tmp_path / "hf", embed=embed)
    assert written.rows == {"test": len(tiny_build.rows)}
    rows = load(tmp_path / "hf", tmp_path / "cache")["test"]
    assert type(rows.features["audio"]).__name__ == "Audio"
    for name in ("frames", "masks"):
        feature = rows.features[name]
        assert type(feature[0] if isinstance(feature, list) else feature.feature).__name__ == "Image"
    assert len(rows) == len(tiny_build.rows)
    root = tiny_build.data_root()
    for row, found in zip(tiny_build.rows, rows, strict=True):
        for name in (
            "clip_id",
            "condition",
            "polarity",
            "seed",
            "foreground",
            "sample_rate",
            "audio_sha256",
            "level",
            "draw",
        ):
            assert found[name] == getattr(row, name), name
        assert found["labels"] == list(row.labels)
        for picture, path in zip(found["frames"], row.frames, strict=True):
            np.testing.assert_array_equal(pixels(picture), pixels(Image.open(root / path)))
        for picture, path in zip(found["masks"], row.masks, strict=True):
            assert path is not None
            np.testing.assert_array_equal(pixels(picture), pixels(Image.open(root / path)))
        played, rate = samples(found["audio"])
        wanted, wanted_rate = soundfile.read(tiny_build.audio_path(row, root), dtype="float32", always_2d=True)
        assert rate == wanted_rate
        np.testing.assert_allclose(played, wanted.T, atol=1e-6)


def test_frames_without_a_mask_are_none(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    export_hf(make_build(clips=2, split=("train", "test"), masked=(0,)), tmp_path / "hf")
    loaded = load(tmp_path / "hf", tmp_path / "cache")
    assert sorted(loaded) == ["test", "train"]
    for rows in loaded.values():
        assert [mask is None for mask in rows[0]["masks"]] == [False, True, True, True, True]


def test_sounds_without_a_file_are_in_it(toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_decoder()
    monkeypatch.chdir(tmp_path)
    build = ["build", "--dataset", "s4", "--data-root", str(toy_builds), "--no-store-audio", "--output", "made"]
    assert invoke(build) == 0
    manifest = load_manifest("made").select(["test"])
    made = [row for row in manifest.rows if row.audio.startswith(MADE_PREFIX)]
    assert made
    export_hf(manifest, "hf")
    rows = load(tmp_path / "hf", tmp_path / "cache")["test"]
    root = manifest.data_root()
    for row, found in zip(manifest.rows, rows, strict=True):
        if row in made:
            wanted, rate = render_row(row, FileReader(lambda name: manifest.file(name, root)))
            played, found_rate = samples(found["audio"])
            assert found_rate == rate
            np.testing.assert_array_equal(np.round(played[0] * 32768), wanted.samples)


def test_an_embedded_build_works_without_its_files(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    require_decoder()
    manifest = make_build(clips=1)
    export_hf(manifest, tmp_path / "hf", embed=True)
    (tmp_path / "data").rename(tmp_path / "gone")
    (tmp_path / "build").rename(tmp_path / "gone too")
    row = load(tmp_path / "hf", tmp_path / "cache")["test"][0]
    assert row["frames"][0].size == (32, 24)
    assert samples(row["audio"])[0].shape == (1, 20_000)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "hf").rglob("*") if path.is_file())
    assert str(tmp_path).encode() not in everything


def test_equal_files_take_their_size_once(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = make_build(clips=2, size=(120, 160))
    export_hf(manifest, tmp_path / "hf", embed=True)
    stored = sum(path.stat().st_size for path in (tmp_path / "hf").rglob("*.parquet"))
    used = {
        path
        for folder in ("data", "build/audio")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    # Four conditions share the frames; these random pictures and sounds cannot be made smaller.
    assert stored < 1.1 * sum(path.stat().st_size for path in used)


def test_equal_builds_give_equal_bytes(tiny_build: Manifest, tmp_path: Path) -> None:
    for name in ("one", "other"):
        export_hf(tiny_build, tmp_path / name, embed=True)
    digests = [
        {
            path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "other")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 2


def test_a_changed_file_is_refused_and_nothing_is_left(toy_builds: Path, tmp_path: Path) -> None:
    manifest = load_manifest(toy_builds / "robust/s4-seed42")
    changed = tmp_path / "data"
    row = manifest.rows[0]
    for other in manifest.rows:
        for name in (*other.frames, *(mask for mask in other.masks if mask), other.audio.removeprefix("data:")):
            source = toy_builds / name
            if source.is_file():
                (changed / name).parent.mkdir(parents=True, exist_ok=True)
                if not (changed / name).exists():
                    (changed / name).symlink_to(source)
    victim = changed / row.frames[0]
    victim.unlink()
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    victim.write_bytes(stream.getvalue())
    with pytest.raises(ManifestError, match="restore the data set"):
        export_hf(manifest, tmp_path / "hf", embed=True, data_root=changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_missing_file_is_refused(make_build: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = make_build(clips=1)
    (tmp_path / "data" / manifest.rows[0].frames[2]).unlink()
    for embed in (False, True):
        with pytest.raises(ManifestError, match=r"2\.png"):
            export_hf(manifest, tmp_path / "hf", embed=embed)


def test_nothing_is_replaced(tiny_build: Manifest, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="expected a new or an empty folder"):
        export_hf(tiny_build, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    export_hf(tiny_build, tmp_path / "hf")
    with pytest.raises(OptionError, match="expected a new or an empty folder"):
        export_hf(tiny_build, tmp_path / "hf")


def with_rows(manifest: Manifest, **changes: object) -> Manifest:
    rows: list[Row] = [replace(row, **changes) for row in manifest.rows]  # type: ignore[arg-type]
    return replace(manifest, rows=tuple(rows))


def test_hostile_names_stay_inert(tiny_build: Manifest, tmp_path: Path) -> None:
    hostile = "<script>x</script>\n---\n[a](http://b)\u202e"
    manifest = with_rows(tiny_build, condition=hostile)
    manifest = replace(manifest, info=replace(manifest.info, dataset=hostile, recipe={"name": hostile}))
    export_hf(manifest, tmp_path / "hf")
    readme = (tmp_path / "hf" / "README.md").read_text()
    _, head, body = readme.split("---\n", 2)
    assert yaml.safe_load(head)["configs"][0]["data_files"] == [{"split": "test", "path": "data/test-*.parquet"}]
    assert "<script>" not in body
    assert "\u202e" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert load(tmp_path / "hf", tmp_path / "cache")["test"][0]["condition"] == hostile


def test_splits_get_names_that_datasets_takes(tiny_build: Manifest, tmp_path: Path) -> None:
    export_hf(with_rows(tiny_build, split="test-2"), tmp_path / "hf")
    assert list(load(tmp_path / "hf", tmp_path / "cache")) == ["test_2"]
    both = replace(
        tiny_build, rows=(*with_rows(tiny_build, split="a-b").rows, *with_rows(tiny_build, split="a_b").rows)
    )
    with pytest.raises(OptionError, match="datasets has no name for"):
        export_hf(both, tmp_path / "other")


def test_paths_do_not_leave_the_roots(tiny_build: Manifest, tmp_path: Path) -> None:
    with pytest.raises(AvsRobustError, match="not a path inside"):
        export_hf(with_rows(tiny_build, frames=("../../etc/passwd",)), tmp_path / "hf", embed=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command_selects_and_refuses(
    toy_builds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build = str(toy_builds / "robust/ms3-seed42")
    assert invoke(["export", "hf", build, "hf", "--split", "test", "--condition", "clean", "--condition", "noise"]) == 0
    assert capsys.readouterr().out == "hf\n"
    rows = load(tmp_path / "hf", tmp_path / "cache")
    assert list(rows) == ["test"]
    assert set(rows["test"]["condition"]) == {"clean", "noise"}
    capsys.readouterr()
    assert invoke(["export", "hf", build, "hf"]) == 2
    assert capsys.readouterr().err == (
        "error: hf: is there already; expected a new or an empty folder; choose another one\n"
    )
    assert invoke(["export", "hf", build, "other", "--split", "tset"]) == 2
    assert "did you mean 'test'" in capsys.readouterr().err
