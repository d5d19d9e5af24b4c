"""The audit: another front end is found, honest negatives are not blamed, damaged arrays are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from avsrobust.audio.features import librosa_log_mel, vggish_log_mel
from avsrobust.audit import audit, descriptions, render_audit, separability
from avsrobust.audit.descriptions import STATISTICS, describe
from avsrobust.audit.separability import estimate, linear_scores, weighted_auroc
from avsrobust.errors import ManifestError
from avsrobust.manifest import Manifest, ManifestInfo, Row, load_manifest, write_manifest

Array = npt.NDArray[np.float32]
FrontEnd = Callable[[Path], Array]
CLIPS, SECONDS, RATE = 14, 2, 16_000


@cache
def vggish(path: Path) -> Array:
    samples, rate = soundfile.read(path, dtype="float64")
    return vggish_log_mel(samples, rate, SECONDS)


@cache
def released(path: Path) -> Array:
    return librosa_log_mel(path, SECONDS)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recordings of pitched, decaying tones over a noise floor, and silence and noise, as wav files."""
    folder = tmp_path_factory.mktemp("sounds")
    time = np.arange(SECONDS * RATE) / RATE
    paths = {}
    for clip in range(CLIPS):
        generator = np.random.default_rng(clip)
        tone = sum(np.sin(2 * np.pi * (150 + 90 * clip) * k * time) / k for k in range(1, 6))
        decay = np.exp(-((time * (1 + clip % 4)) % 1.0) * 3)
        paths[f"c{clip:02d}"] = folder / f"c{clip:02d}.wav"
        soundfile.write(paths[f"c{clip:02d}"], 0.2 * tone * decay + 0.002 * generator.standard_normal(time.size), RATE)
        paths[f"noise{clip:02d}"] = folder / f"noise{clip:02d}.wav"
        soundfile.write(paths[f"noise{clip:02d}"], generator.uniform(-1, 1, time.size), RATE)
    paths["silence"] = folder / "silence.wav"
    soundfile.write(paths["silence"], np.zeros(time.size), RATE)
    return paths


def build(folder: Path, sounds: dict[str, Path], negatives: FrontEnd, *, clean: bool = True) -> Manifest:
    """Write a manifest and its arrays; `negatives` is the front end of everything but the clean rows."""
    arrays: list[Array] = []
    places: dict[tuple[str, str], int] = {}

    def place(sound: str, front_end: FrontEnd) -> int:
        key = (sound, front_end.__name__)
        if key not in places:
            places[key] = len(arrays)
            arrays.append(front_end(sounds[sound]))
        return places[key]

    rows = []
    for clip in range(CLIPS):
        name, source_clip = f"c{clip:02d}", f"c{(clip * 5 + 3) % CLIPS:02d}"
        own = Row(
            dataset="s4", split="test", clip_id=name, labels=("dog",), broad=("animal",), condition="clean",
            polarity="positive", level=None, source_clip_id=None, source_labels=None, seed=clip, audio="data:a.wav",
            audio_sha256="0" * 64, log_mel="log_mel/0.npy", log_mel_row=place(name, vggish), frames=("f.png",) * SECONDS,
            masks=(None,) * SECONDS, num_frames=SECONDS, sample_rate=RATE, duration_s=float(SECONDS),
        )  # fmt: skip
        negative = replace(own, polarity="negative")
        rows += [own] if clean else []
        rows += [
            replace(negative, condition="silence", log_mel_row=place("silence", negatives)),
            replace(negative, condition="noise", log_mel_row=place(f"noise{clip:02d}", negatives)),
            replace(
                negative, condition="offscreen", source_clip_id=source_clip, source_labels=("cat",),
                log_mel_row=place(source_clip, negatives),
            ),
        ]  # fmt: skip
    write_manifest(folder / "manifest.parquet", rows, ManifestInfo("s4", 1, {"name": negatives.__name__}, {}))
    (folder / "log_mel").mkdir()
    np.save(folder / "log_mel" / "0.npy", np.stack(arrays))
    return load_manifest(folder)


def test_one_front_end_passes(tmp_path: Path, sounds: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    manifest = build(tmp_path, sounds, vggish)
    report = audit(manifest, progress=lambda *entry: seen.append(entry))
    assert seen == sorted(seen)
    assert seen[-1] == (len(manifest.rows), len(manifest.rows))
    assert not report.failed, report.findings
    found = {entry.condition: entry for entry in report.separations}
    assert found["offscreen"].identical_share == 1.0
    assert found["offscreen"].matched is not None
    assert found["offscreen"].matched.auroc == 0.5
    for condition in ("silence", "noise"):
        plain = found[condition].plain
        assert plain is not None
        assert plain.auroc > 0.95
        assert any(remark.startswith(f"{condition}: unlike any recording") for remark in report.remarks)


def test_the_released_generators_front_end_fails(tmp_path: Path, sounds: dict[str, Path]) -> None:
    report = audit(build(tmp_path, sounds, released))
    assert report.failed
    faults = "\n".join(report.findings)
    assert "offscreen can be told from clean by statistics of the features (AUROC 1.00)" in faults
    assert "offscreen: 54% of the positions hold the same value in every row, 0% in clean ones" in faults
    assert "silence: values down to -100.00" in faults
    text = render_audit(report)
    assert text.endswith("failed: the features give a condition away\n")
    assert text.count("- FAILED ") == len(report.findings)


def test_without_the_same_sounds_under_clean_all_rows_decide(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, released)
    renamed = tuple(
        replace(row, source_clip_id=f"elsewhere/{row.source_clip_id}") if row.source_clip_id else row
        for row in manifest.rows
    )
    report = audit(replace(manifest, rows=renamed))
    assert any("offscreen can be told from clean" in finding for finding in report.findings)
    assert any(remark.startswith("offscreen: no row's sound occurs under clean") for remark in report.remarks)


def test_a_sound_cut_to_fewer_frames_is_not_matched(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish)
    cut = np.load(tmp_path / "log_mel" / "0.npy")[:, :1]
    np.save(tmp_path / "log_mel" / "1.npy", cut)
    shorter = tuple(
        replace(row, log_mel="log_mel/1.npy", num_frames=1) if row.clip_id < "c04" else row for row in manifest.rows
    )
    report = audit(replace(manifest, rows=shorter))
    offscreen = next(entry for entry in report.separations if entry.condition == "offscreen")
    same_length = [
        row for row in shorter if row.source_clip_id and (row.clip_id < "c04") == (row.source_clip_id < "c04")
    ]
    assert offscreen.matched_rows == len(same_length) < CLIPS
    assert offscreen.identical_share == 1.0
    assert not report.failed


def test_few_sounds_give_no_verdict(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish)
    few = tuple(
        row for row in manifest.rows if row.clip_id in ("c00", "c01") and row.condition in ("clean", "offscreen")
    )
    few = tuple(replace(row, source_clip_id="c00") if row.source_clip_id else row for row in few)
    report = audit(replace(manifest, rows=few))
    assert not report.failed
    assert report.remarks == ("offscreen: too few sounds to say (2 rows)",)
    assert "passed" in render_audit(report)


def test_muted_clips_are_counted(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish)
    plain = audit(manifest)
    muted = ("c00", "c03", "elsewhere")
    report = audit(replace(manifest, info=replace(manifest.info, muted=muted)))
    sources = sum(row.source_clip_id in muted for row in manifest.rows)
    assert sources == 2
    assert report.remarks == (
        "clean: 2 of 14 rows are muted, the recording itself is silent: they cannot be told from silence",
        "offscreen: 2 rows have the sound of a muted clip, which is silence",
        *plain.remarks,
    )
    assert not report.failed
    assert "- clean: 2 of 14 rows are muted" in render_audit(report)


def test_names_in_an_audit_are_inert(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish)
    rows = tuple(
        replace(row, condition="a|b\x1b[31m<b>" if row.condition == "noise" else row.condition) for row in manifest.rows
    )
    info = replace(manifest.info, dataset="# x\u202e", recipe={"name": "[a](b)\n- c"})
    content = render_audit(audit(replace(manifest, rows=rows, info=info)))
    assert "\x1b" not in content
    assert "\u202e" not in content
    assert r"| a\|b\\x1b\[31m&lt;b&gt; " in content
    assert r": # x\\u202e, recipe \[a\](b) - c" + "\n" in content


def test_a_pipe_in_place_of_arrays_is_refused(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish)
    (tmp_path / "log_mel" / "0.npy").unlink()
    os.mkfifo(tmp_path / "log_mel" / "0.npy")
    with pytest.raises(ManifestError, match=r"cannot be read as a plain \.npy array"):
        audit(manifest)


def test_the_order_of_rows_does_not_matter(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, released)
    straight, reverse = audit(manifest), audit(replace(manifest, rows=manifest.rows[::-1]))
    for one, other in zip(straight.separations, reverse.separations, strict=True):
        assert one.plain is not None
        assert other.plain is not None
        assert one.plain.auroc == pytest.approx(other.plain.auroc, abs=1e-9)
        assert one.auroc == pytest.approx(other.auroc)


def test_processes_describe_what_one_does(
    tmp_path: Path, sounds: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build(tmp_path, sounds, vggish)
    (tmp_path / "data").mkdir()
    alone = audit(manifest)
    monkeypatch.setattr(descriptions, "_FEW", 0)
    monkeypatch.setattr(descriptions, "_ROWS_AT_ONCE", 5)
    told: list[tuple[int, int]] = []
    stages: list[str] = []
    assert audit(manifest, progress=lambda *done: told.append(done), on_stage=stages.append) == alone
    assert told == [(min(done, 4 * CLIPS), 4 * CLIPS) for done in range(5, 4 * CLIPS + 5, 5)]
    assert stages[0] == "arrays and sounds are described"
    assert stages[1:] == [f"{name} is set against clean" for name in ("noise", "offscreen", "silence")]
    # Nothing of an earlier audit is kept.
    path = manifest.folder / "log_mel/0.npy"
    np.save(path, np.zeros_like(np.load(path)))
    assert audit(manifest) != alone


def test_a_build_without_clean_rows_is_refused(tmp_path: Path, sounds: dict[str, Path]) -> None:
    manifest = build(tmp_path, sounds, vggish, clean=False)
    with pytest.raises(ManifestError, match="found noise, offscreen, silence; expected clean and negative rows"):
        audit(manifest)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "not found; expected the log-mel arrays"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read as a plain .npy array"),
        (lambda path: path.write_bytes(b""), "cannot be read as a plain .npy array"),
        (lambda path: np.save(path, np.zeros((3, 4))), r"found an array of shape \[3, 4\]; expected floats"),
        (lambda path: np.save(path, np.zeros((1, 2, 1, 96, 64))), "has 1 rows, but .* names row"),
        (lambda path: np.save(path, np.full((90, 2, 1, 96, 64), np.nan)), "holds NaN or infinity"),
        (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "cannot be read as a plain"),
    ],
)
def test_damaged_arrays_are_named(
    tmp_path: Path, sounds: dict[str, Path], damage: Callable[[Path], object], message: str
) -> None:
    manifest = build(tmp_path, sounds, vggish)
    damage(tmp_path / "log_mel" / "0.npy")
    with pytest.raises(ManifestError, match=message):
        audit(manifest)


def test_statistics_of_a_constant_and_of_a_step() -> None:
    constant = dict(zip(STATISTICS, describe(np.full((2, 1, 96, 64), -3.0, np.float32)), strict=True))
    assert constant == pytest.approx(
        {
            "mean": -3, "std": 0, "minimum": -3, "maximum": -3, "level": -3, "dynamics": 0, "flatness": 0, "tilt": 0,
            "change": 0, "identical_frames": 1, "floor_share": 1,
        },
        abs=1e-12,
    )  # fmt: skip
    array = np.zeros((1, 1, 96, 64), np.float32)
    array[:, :, 48:, 32:] = 1000.0
    step = dict(zip(STATISTICS, describe(array), strict=True))
    assert step["tilt"] == pytest.approx(500)
    assert step["identical_frames"] == pytest.approx(94 / 95)
    assert step["change"] == pytest.approx(500 / 95)
    assert step["floor_share"] == pytest.approx(0.75)
    # Half of exp(1000), half of 1: the mean's logarithm is 1000 - log 2, without overflow.
    assert step["level"] == pytest.approx((1000 - np.log(2)) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=25))
def test_auroc_counts_pairs(rows: list[tuple[int, bool, int]]) -> None:
    scores = np.array([float(row[0]) for row in rows])
    negative = np.array([row[1] for row in rows])
    weights = np.array([float(row[2]) for row in rows])
    pairs = [
        (weights[i] * weights[j], (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
        for i in np.flatnonzero(negative)
        for j in np.flatnonzero(~negative)
    ]
    total = sum(weight for weight, _ in pairs)
    found = weighted_auroc(scores, negative, weights)
    if total == 0:
        assert found is None
    else:
        assert found == pytest.approx(sum(weight * won for weight, won in pairs) / total)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=25)
)
def test_many_draws_at_once_have_the_auroc_of_each(rows: list[tuple[int, bool, int, int]]) -> None:
    scores = np.array([float(row[0]) for row in rows])
    negative = np.array([row[1] for row in rows])
    weights = np.array([[float(row[2]) for row in rows], [float(row[3]) for row in rows]])
    one_by_one = [weighted_auroc(scores, negative, draw) for draw in weights]
    assert separability._aurocs(scores, negative, weights) == pytest.approx([x for x in one_by_one if x is not None])


def test_the_classifier_finds_a_direction_no_single_statistic_shows() -> None:
    generator = np.random.default_rng(5)
    negative = np.arange(400) % 2 == 1
    common = generator.standard_normal(400)
    statistics = np.stack([common, common + np.where(negative, 0.3, -0.3)], axis=1)
    sounds = np.arange(400)
    scores, valid = linear_scores(statistics, negative, sounds % 5)
    assert valid.all()
    assert weighted_auroc(statistics[:, 1], negative, np.ones(400)) < 0.75
    found = estimate(scores, negative, sounds, np.random.default_rng(0))
    assert found.low > 0.95


def test_the_interval_covers_chance_for_labels_without_meaning() -> None:
    generator = np.random.default_rng(6)
    scores, sounds = generator.standard_normal(300), np.arange(300)
    found = estimate(scores, sounds % 2 == 0, sounds, np.random.default_rng(0))
    assert found.low < 0.5 < found.high
    assert found.low < found.auroc < found.high


def test_a_fold_whose_rest_holds_one_group_is_left_out() -> None:
    negative = np.array([True, False, False, False])
    _, valid = linear_scores(np.eye(4), negative, np.array([0, 1, 1, 2]))
    assert valid.tolist() == [False, True, True, True]


# Loudness, and sounds that have no file


def test_matched_conditions_are_as_loud_as_the_clips_and_noise_is_not(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    report = audit(manifest)
    assert not report.failed, report.findings
    found = {entry.condition: entry.loudness for entry in report.separations}
    for condition in ("matched_noise", "matched_offscreen"):
        estimated = found[condition]
        assert estimated is not None
        assert estimated.low <= 0.5 <= estimated.high
        assert abs(estimated.auroc - 0.5) < 0.05
    noise, silence = found["noise"], found["silence"]
    assert noise is not None
    assert silence is not None
    assert noise.low > 0.9
    assert silence.high < 0.1
    assert " 0.50 [" in render_audit(report)
    described = {entry.condition for entry in report.summaries}
    assert {"clean", "gaussian", "unseen", "distractor"} <= described
    assert not {"mixture", "noisy", "lowpass"} & described


def test_a_matched_condition_of_another_level_fails(extended_builds: Path) -> None:
    manifest = load_manifest(extended_builds / "extended/s4")
    gaussian = {row.clip_id: row for row in manifest.rows if row.condition == "noise"}
    louder = tuple(
        replace(gaussian[row.clip_id], condition="matched_noise") if row.condition == "matched_noise" else row
        for row in manifest.rows
        if row.condition in ("clean", "matched_noise")
    )
    report = audit(replace(manifest, rows=louder))
    assert any(
        "matched_noise can be told from clean by loudness alone (AUROC 1.00)" in line for line in report.findings
    )


def test_without_the_data_set_stored_builds_are_audited_and_others_are_refused(
    extended_builds: Path, tmp_path: Path, sounds: dict[str, Path]
) -> None:
    report = audit(build(tmp_path, sounds, vggish))
    assert {entry.loudness for entry in report.separations} == {None}
    with pytest.raises(ManifestError, match="--data-root: found no folder"):
        audit(load_manifest(extended_builds / "extended/s4"), tmp_path / "nowhere")
