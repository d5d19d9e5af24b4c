from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.metrics import (
    HIGHER_IS_BETTER,
    PROTOCOLS,
    Protocol,
    ScoredFrames,
    dataset_score,
    frame_statistics,
    get_protocol,
    trivial_score,
)
from avsrobust.vocabulary import NEGATIVES

GOLDEN = Path(__file__).parent / "golden" / "metrics_binary.npz"
ALL = ("clean", *NEGATIVES)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)


def targets(clips: int = 3, empty: tuple[int, ...] = ()) -> np.ndarray:
    """Objects of bool [clips, 2 frames, 4, 5]; those of the clips in `empty` are never visible."""
    target = np.zeros((clips, 2, 4, 5), dtype=bool)
    target[:, :, 1:3, 2:4] = True
    target[list(empty)] = False
    return target


def frames_of(predictions: dict[str, np.ndarray], target: np.ndarray) -> ScoredFrames:
    """Predictions [clips, frames, H, W] per condition, all against `target`."""
    clips, per_clip, height, width = target.shape
    pred = np.concatenate([value.reshape(-1, height, width) for value in predictions.values()])
    condition = np.repeat(list(predictions), clips * per_clip)
    return ScoredFrames(
        frame_statistics(pred.astype(np.float32), np.tile(target.reshape(-1, height, width), (len(predictions), 1, 1))),
        np.tile(np.repeat(np.arange(clips), per_clip), len(predictions)),
        condition,
        np.isin(condition, NEGATIVES),
    )


def same_for_all(pred: np.ndarray) -> dict[str, np.ndarray]:
    return dict.fromkeys(ALL, pred)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("protocol", "name", "columns"),
    [("avsbench", "bs1_dataset_miou_F_FPR", 3), ("bias_in_avs", "bias_in_avs_dataset_miou_F", 2)],
)
def test_golden_data_sets(protocol: str, name: str, columns: int, seed: int) -> None:
    with np.load(GOLDEN) as golden:
        pred = torch.sigmoid(torch.from_numpy(golden[f"s{seed}_logits"])).numpy()
        score = dataset_score(frames_of({"clean": pred}, golden[f"s{seed}_gt"]), get_protocol(protocol))
        clean = score.condition("clean")
        assert clean is not None
        assert (clean.miou, clean.f, clean.fpr)[:columns] == pytest.approx(golden[f"s{seed}_{name}"], abs=1e-6)
        assert (score.miou, score.f) == (clean.miou, clean.f)


def test_the_oracle_scores_one_under_strict() -> None:
    target = targets()
    predictions = {"clean": target, **dict.fromkeys(NEGATIVES, np.zeros_like(target))}
    score = dataset_score(frames_of(predictions, target), get_protocol("strict"))
    assert (score.g_miou, score.g_f, score.g_fpr) == (1, 1, 0)


def test_a_deaf_model_scores_zero_under_strict() -> None:
    target = targets()
    score = dataset_score(frames_of(same_for_all(target), target), get_protocol("strict"))
    assert (score.miou, score.f, score.miou_negative, score.f_negative) == (1, 1, 1, 1)
    assert (score.g_miou, score.g_f) == (0, 0)
    assert score.g_fpr == pytest.approx(4 / 20)


@every_protocol
def test_identical_perfect_masks_never_exceed_one(protocol: Protocol) -> None:
    target = np.random.default_rng(0).random((50, 3, 7, 9)) < 0.3
    score = dataset_score(frames_of(same_for_all(target), target), protocol)
    assert (score.miou, score.f, score.g_miou, score.g_f) == (1, 1, 0, 0)


@every_protocol
def test_floors_of_a_visible_object(protocol: Protocol) -> None:
    target = targets()
    floor = trivial_score(frames_of(same_for_all(target), target), protocol)
    # Threshold 0 activates every pixel: P = 4 / 20, R = 1.
    beta2 = protocol.beta2
    sweep = (1 + beta2) * 0.2 / (beta2 * 0.2 + 1) if protocol.f_at == "best_of_255" else 0.0
    assert (floor.miou, floor.miou_negative, floor.g_miou, floor.g_fpr) == (0, 0, 0, 0)
    assert (floor.f, floor.f_negative) == pytest.approx((sweep, sweep))


def test_a_clip_without_any_visible_object() -> None:
    target = targets(empty=(1,))
    target[0, 0] = False
    half = np.zeros(target.shape, np.float32)
    half[:, :, :2] = 1
    frames = frames_of(same_for_all(half), target)
    scored, skipped = (dataset_score(frames, get_protocol(name)) for name in ("avsbench", "strict"))
    assert (scored.clips, scored.clips_skipped, scored.empty_frames) == (3, 0, 3)
    assert (skipped.clips, skipped.clips_skipped, skipped.empty_frames) == (2, 1, 3)
    # Half of each frame is activated: of the 4 pixels of the object 2, beside 8 others.
    hit, rightly_background = 2 / 12, 0.5
    assert scored.miou == pytest.approx(((hit + rightly_background) / 2 + rightly_background + hit) / 3)
    assert scored.miou_negative == pytest.approx(scored.miou)
    assert skipped.miou == pytest.approx(((hit + rightly_background) / 2 + hit) / 2)
    assert skipped.miou_negative == pytest.approx(hit)
    clean, silence = skipped.condition("clean"), skipped.condition("silence")
    assert clean is not None
    assert silence is not None
    assert (clean.clips, clean.skipped, clean.frames, clean.empty_frames) == (2, 1, 4, 1)
    assert (silence.negative, silence.fpr) == (True, 0.5)


@every_protocol
def test_only_empty_targets(protocol: Protocol) -> None:
    target = targets(empty=(0, 1, 2))
    pred = np.zeros(target.shape, np.float32)
    score = dataset_score(frames_of(same_for_all(pred), target), protocol)
    expected = {
        "avsbench": (1, 0, 0, 3),
        "bias_in_avs": (1, 0, 0, 3),
        "strict": (None, None, None, 0),
        # Nothing is activated and nothing to find: both ratios are 0 / 0.
        "pooled": (None, None, 0, 3),
    }[protocol.name]
    assert (score.miou, score.f, score.g_fpr, score.clips) == expected
    assert (score.clips_skipped, score.empty_frames) == (3 - expected[3], 6)


@every_protocol
@pytest.mark.parametrize("missing", ALL)
def test_g_scores_need_clean_and_all_three_negatives(protocol: Protocol, missing: str) -> None:
    target = targets()
    predictions = {name: target for name in ALL if name != missing}
    score = dataset_score(frames_of(predictions, target), protocol)
    assert score.missing == (missing,)
    assert score.condition(missing) is None
    assert (score.g_miou, score.g_f) == (None, None)
    assert (score.g_fpr is None) == (missing != "clean")
    assert (score.miou is None) == (missing == "clean")
    columns = score.columns()
    own = ["mIoU", "F"] if missing == "clean" else [f"{missing}_mIoU", f"{missing}_F", f"{missing}_FPR"]
    assert all(columns[name] is None for name in own)


@every_protocol
def test_a_condition_is_scored_on_the_clips_it_has(protocol: Protocol) -> None:
    target = targets()
    pred = np.zeros(target.shape, np.float32)
    pred[1] = target[1]
    frames = frames_of(same_for_all(pred), target)
    score = dataset_score(frames.select((frames.condition != "offscreen") | (frames.clip == 1)), protocol)
    offscreen, noise = score.condition("offscreen"), score.condition("noise")
    assert offscreen is not None
    assert noise is not None
    assert (offscreen.clips, offscreen.miou, noise.clips) == (1, 1, 3)
    assert noise.miou == pytest.approx(1 / 3)
    assert score.miou_negative == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert (score.clips, score.missing) == (3, ())


@every_protocol
def test_other_conditions_are_scored_but_enter_no_g_score(protocol: Protocol) -> None:
    target = targets()
    frames = frames_of({**same_for_all(target), "unseen": target, "mixture": target}, target)
    level = np.where(frames.condition == "mixture", np.where(frames.clip == 0, 5.0, -5.0), np.nan)
    extended = ScoredFrames(
        frames.statistics, frames.clip, frames.condition, frames.negative | (frames.condition == "unseen"), level
    )
    score = dataset_score(extended, protocol)
    assert [(entry.condition, entry.level) for entry in score.conditions] == [
        *((name, None) for name in ALL),
        ("mixture", -5.0),
        ("mixture", 5.0),
        ("unseen", None),
    ]
    plus, unseen = score.condition("mixture", 5.0), score.condition("unseen")
    assert plus is not None
    assert unseen is not None
    assert (plus.clips, plus.negative, unseen.negative) == (1, False, True)
    assert score.columns() == dataset_score(frames.select(np.isin(frames.condition, ALL)), protocol).columns()


def test_no_frame_scores_nothing() -> None:
    target = targets()
    frames = frames_of(same_for_all(target), target).select(np.zeros(0, dtype=np.int64))
    score = dataset_score(frames, get_protocol("avsbench"))
    assert (score.conditions, score.missing) == ((), ALL)
    assert set(score.columns().values()) == {None}
    assert (score.clips, score.clips_skipped, score.empty_frames) == (0, 0, 0)


def test_columns_are_those_of_the_report() -> None:
    target = targets()
    expected = (
        "mIoU,F,silence_mIoU,silence_F,silence_FPR,noise_mIoU,noise_F,noise_FPR,"
        "offscreen_mIoU,offscreen_F,offscreen_FPR,G_mIoU,G_F,G_FPR"
    )
    score = dataset_score(frames_of(same_for_all(target), target), get_protocol("avsbench"))
    assert ",".join(score.columns()) == ",".join(HIGHER_IS_BETTER) == expected
    assert [name for name, better in HIGHER_IS_BETTER.items() if better] == ["mIoU", "F", "G_mIoU", "G_F"]


@every_protocol
def test_scores_of_parts_average_to_the_whole_where_clips_are_averaged(protocol: Protocol) -> None:
    generator = np.random.default_rng(7)
    target = targets(6)
    frames = frames_of({name: generator.random(target.shape) for name in ALL}, target)
    whole = dataset_score(frames, protocol)
    parts = [dataset_score(frames.select(frames.clip % 2 == side), protocol) for side in (0, 1)]
    assert whole.miou_negative is not None
    mean = sum(part.miou_negative or 0 for part in parts) / 2
    assert (whole.miou_negative == pytest.approx(mean, abs=1e-12)) == (protocol.average == "clips")


def test_g_may_average_over_other_negatives() -> None:
    target = np.zeros((2, 1, 4, 4), dtype=np.bool_)
    target[:, :, :2] = True
    shown = target.astype(np.float32)
    frames = frames_of({"clean": shown, "silence": shown, "unseen": 0 * shown}, target)
    strict = get_protocol("strict")
    assert dataset_score(frames, strict).g_miou is None
    score = dataset_score(frames, strict, negatives=("unseen",))
    assert (score.g_miou, score.missing, score.columns()["unseen_mIoU"]) == (1, (), 0)
    assert dataset_score(frames, strict, negatives=("silence", "unseen")).miou_negative == 0.5
