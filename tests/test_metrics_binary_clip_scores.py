from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.errors import MetricInputError
from avsrobust.metrics import (
    PROTOCOLS,
    Protocol,
    ScoredFrames,
    activated_area,
    clip_scores,
    frame_statistics,
    get_protocol,
    perfect_frames,
    trivial_frames,
)
from avsrobust.metrics.binary import clip_scores as clip_scores_module

GOLDEN = Path(__file__).parent / "golden" / "metrics_binary.npz"
CONDITIONS = np.array(["clean", "silence", "noise", "offscreen"])
TOLERANCE = 1e-6


def golden_frames(golden: dict[str, np.ndarray], seed: int) -> ScoredFrames:
    """The golden videos as one data set under clean sound: 6 clips of 5 frames."""
    pred = torch.sigmoid(torch.from_numpy(golden[f"s{seed}_logits"])).numpy()
    statistics = frame_statistics(pred.reshape(30, 56, 56), golden[f"s{seed}_gt"].reshape(30, 56, 56))
    return ScoredFrames(statistics, np.repeat(np.arange(6), 5), np.full(30, "clean"), np.zeros(30, dtype=bool))


def random_frames(seed: int = 0, clips: int = 7) -> ScoredFrames:
    generator = np.random.default_rng(seed)
    frames = clips * 4 * 3
    pred = generator.random((frames, 6, 8), dtype=np.float32)
    target = np.repeat(generator.random((clips, 1, 3, 6, 8)) < 0.4, 4, axis=1)
    target[0, :, 0] = False
    target[1] = False
    condition = np.tile(np.repeat(CONDITIONS, 3), clips)
    return ScoredFrames(
        frame_statistics(pred, target.reshape(frames, 6, 8)),
        np.repeat(np.arange(clips), 12),
        condition,
        condition != "clean",
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_golden_videos_of_avsbench_robust(seed: int) -> None:
    with np.load(GOLDEN) as golden:
        scores = clip_scores(golden_frames(golden, seed), get_protocol("avsbench"))
        assert np.abs(scores.value - golden[f"s{seed}_bs1_batches_miou_F_FPR"]).max() < TOLERANCE


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_golden_videos_of_bias_in_avs(seed: int) -> None:
    with np.load(GOLDEN) as golden:
        scores = clip_scores(golden_frames(golden, seed), get_protocol("bias_in_avs"))
        assert np.abs(scores.value[:, :2] - golden[f"s{seed}_bias_in_avs_videos_miou_F"]).max() < TOLERANCE


def test_rows_are_sorted_by_condition_level_and_clip() -> None:
    statistics = frame_statistics(np.zeros((6, 1, 1), np.float32), np.ones((6, 1, 1), bool))
    frames = ScoredFrames(
        statistics,
        np.array([9, 9, 9, 3, 9, 9]),
        np.array(["mixture", "clean", "mixture", "clean", "mixture", "clean"]),
        np.zeros(6, dtype=bool),
        np.array([5, np.nan, -5, np.nan, np.nan, np.nan], dtype=np.float32),
    )
    rows = frames.rows
    assert rows.condition.tolist() == ["clean", "clean", "mixture", "mixture", "mixture"]
    assert rows.clip.tolist() == [3, 9, 9, 9, 9]
    assert rows.level[3:].tolist() == [-5, 5]
    assert np.isnan(rows.level[:3]).all()
    assert rows.frames.tolist() == [1, 2, 1, 1, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_order_of_frames_and_names_of_clips_do_not_matter(protocol: object) -> None:
    frames = random_frames()
    expected = clip_scores(frames, protocol)  # type: ignore[arg-type]
    generator = np.random.default_rng(1)
    for _ in range(3):
        found = clip_scores(frames.select(generator.permutation(len(frames))), protocol)  # type: ignore[arg-type]
        assert np.array_equal(found.clip, expected.clip)
        assert np.array_equal(found.condition, expected.condition)
        assert found.numerator == pytest.approx(expected.numerator, abs=1e-12)
        assert found.denominator == pytest.approx(expected.denominator, abs=1e-12)
    renamed = ScoredFrames(frames.statistics, 100 - 7 * frames.clip, frames.condition, frames.negative)
    found = clip_scores(renamed, protocol)  # type: ignore[arg-type]
    back = np.lexsort(((100 - found.clip) // 7, found.condition))
    assert np.array_equal(found.numerator[back], expected.numerator)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("size", [1, 4, 7, 1000])
def test_the_size_of_blocks_does_not_matter(protocol: object, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = random_frames()
    expected = clip_scores(frames, protocol)  # type: ignore[arg-type]
    rows = type(frames.rows)
    plain = rows.blocks
    monkeypatch.setattr(rows, "blocks", lambda self, _=None: plain(self, size))
    assert np.array_equal(clip_scores(random_frames(), protocol).numerator, expected.numerator)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_hold_whole_rows_and_every_frame_once(size: int) -> None:
    rows = random_frames().rows
    seen = []
    for block, index, start in rows.blocks(size):
        assert np.array_equal(np.diff(np.append(start, len(index))), rows.frames[block])
        assert len(index) <= max(size, 3)
        seen.append(index)
    assert np.array_equal(np.concatenate(seen), rows.order)


def test_strict_leaves_out_clips_without_a_visible_object() -> None:
    scores = clip_scores(random_frames(), get_protocol("strict"))
    assert scores.clip[scores.skipped].tolist() == [1, 1, 1, 1]
    assert np.isnan(scores.value[scores.skipped]).all()
    assert not np.isnan(scores.value[~scores.skipped]).any()
    assert scores.empty_frames[scores.clip == 0].tolist() == [1] * 4


def test_activated_area_is_the_false_positive_rate_of_avsbench() -> None:
    frames = random_frames()
    assert np.array_equal(activated_area(frames), clip_scores(frames, get_protocol("avsbench")).value[:, 2])


def test_no_frame_gives_no_row() -> None:
    frames = random_frames().select(np.zeros(0, dtype=np.int64))
    for protocol in PROTOCOLS.values():
        assert len(clip_scores(frames, protocol)) == 0
    assert activated_area(frames).shape == (0,)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("clip", np.arange(3), r"clip: found shape \(3,\); expected \(84,\)"),
        ("clip", np.zeros(84), "clip: found dtype float64"),
        ("condition", np.full(84, "clean", dtype=object), "condition: found dtype object"),
        ("negative", np.zeros(84), "negative: found dtype float64"),
        ("level", np.zeros(84, dtype=int), "level: found dtype int64"),
        ("level", np.zeros(83), r"level: found shape \(83,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: np.ndarray, message: str) -> None:
    frames = random_frames()
    arrays = {field: getattr(frames, field) for field in ("statistics", "clip", "condition", "negative", "level")}
    with pytest.raises(MetricInputError, match=message):
        ScoredFrames(**{**arrays, name: value})


def test_one_row_has_one_polarity() -> None:
    frames = random_frames()
    negative = frames.negative.copy()
    negative[4] = ~negative[4]
    with pytest.raises(MetricInputError, match="frames of one clip and condition disagree"):
        _ = ScoredFrames(frames.statistics, frames.clip, frames.condition, negative).rows


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("make", [trivial_frames, perfect_frames])
@pytest.mark.parametrize("batch", [1, 3])
def test_bounds_have_the_digits_of_histograms_in_memory(protocol: Protocol, make: object, batch: int) -> None:
    if protocol.f_at == "best_of_255":
        protocol = replace(protocol, batch=batch)
    frames = make(random_frames())  # type: ignore[operator]
    whole = {name: np.asarray(getattr(frames.statistics, name)) for name in ("inside", "outside")}
    expected = clip_scores(replace(frames, statistics=replace(frames.statistics, **whole)), protocol)
    assert clip_scores(frames, protocol).numerator.tobytes() == expected.numerator.tobytes()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_counts_in_small_blocks_have_the_same_digits(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = clip_scores(random_frames(), protocol)
    monkeypatch.setattr(clip_scores_module, "_BLOCK_FRAMES", 4)
    assert clip_scores(random_frames(), protocol).numerator.tobytes() == expected.numerator.tobytes()


def test_rows_of_other_statistics_are_those_of_the_frames_where_levels_mix() -> None:
    frames = replace(
        random_frames(),
        level=np.tile(np.repeat(np.float32([np.nan, 5, -5, np.nan]), 3), 7),
        draw=np.tile(np.arange(3, dtype=np.int16), 28),
    )
    rows, again = trivial_frames(frames).rows, replace(frames, statistics=frames.statistics).rows
    for name in ("order", "start", "clip", "condition", "level", "negative", "draw"):
        assert getattr(rows, name).tobytes() == getattr(again, name).tobytes()
    keys = [
        (name, -np.inf if np.isnan(level) else level, draw, clip)
        for name, level, draw, clip in zip(rows.condition, rows.level, rows.draw, rows.clip, strict=True)
    ]
    assert keys == sorted(keys)
