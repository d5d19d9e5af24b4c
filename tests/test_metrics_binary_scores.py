from pathlib import Path

import numpy as np
import pytest
import torch

from avsrobust.errors import MetricInputError
from avsrobust.metrics import f_measure, false_positive_rate, mask_iou
from avsrobust.metrics.binary.thresholds import at_least, histograms, thresholds

GOLDEN = Path(__file__).parent / "golden" / "metrics_binary.npz"
TOLERANCE = 1e-6
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        arrays = {name: file[name] for name in file.files}
    # The references apply torch's sigmoid to logits; its float32 rounding is part of their numbers.
    for seed in SEEDS:
        arrays[f"s{seed}_pred"] = torch.sigmoid(torch.from_numpy(arrays[f"s{seed}_logits"])).numpy()
    return arrays


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_agree_with_avsbench_robust(golden: dict[str, np.ndarray], seed: int) -> None:
    for video, (pred, target) in enumerate(zip(golden[f"s{seed}_pred"], golden[f"s{seed}_gt"], strict=True)):
        assert mask_iou(pred, target) == pytest.approx(golden[f"s{seed}_frame_mask_iou"][video], abs=TOLERANCE)
        assert false_positive_rate(pred) == pytest.approx(golden[f"s{seed}_frame_fpr"][video], abs=TOLERANCE)
        f = [f_measure(pred[frame : frame + 1], target[frame : frame + 1]) for frame in range(len(pred))]
        assert f == pytest.approx(golden[f"s{seed}_frame_fmeasure"][video], abs=TOLERANCE)


@pytest.mark.parametrize("seed", SEEDS)
def test_videos_agree_with_avsbench_robust(golden: dict[str, np.ndarray], seed: int) -> None:
    for video, (pred, target) in enumerate(zip(golden[f"s{seed}_pred"], golden[f"s{seed}_gt"], strict=True)):
        found = [mask_iou(pred, target).mean(), f_measure(pred, target), false_positive_rate(pred).mean()]
        assert found == pytest.approx(golden[f"s{seed}_bs1_batches_miou_F_FPR"][video], abs=TOLERANCE)


@pytest.mark.parametrize("seed", SEEDS)
def test_videos_agree_with_bias_in_avs(golden: dict[str, np.ndarray], seed: int) -> None:
    for video, (pred, target) in enumerate(zip(golden[f"s{seed}_pred"], golden[f"s{seed}_gt"], strict=True)):
        iou = mask_iou(pred, target, threshold=0.4)
        assert iou == pytest.approx(golden[f"s{seed}_bias_in_avs_frame_mask_iou"][video], abs=TOLERANCE)
        found = [iou.mean(), f_measure(pred, target, beta2=0.1)]
        assert found == pytest.approx(golden[f"s{seed}_bias_in_avs_videos_miou_F"][video], abs=TOLERANCE)


@pytest.mark.parametrize("seed", SEEDS)
def test_precision_and_recall_at_every_threshold_agree(golden: dict[str, np.ndarray], seed: int) -> None:
    for row, video in enumerate((0, 3)):
        pred, target = golden[f"s{seed}_pred"][video], golden[f"s{seed}_gt"][video]
        inside, outside = (at_least(histogram) for histogram in histograms(pred, target, thresholds()))
        precision = inside / np.maximum(inside + outside, 1)
        recall = inside / np.maximum(target.sum(axis=(1, 2)), 1)[:, None]
        expected = golden[f"s{seed}_eval_pr_prec_recall_videos_0_3"][row]
        assert np.abs(np.stack([precision, recall], axis=1) - expected).max() < TOLERANCE


def test_thresholds_of_masks_are_exclusive_as_in_torch() -> None:
    """The papers write ``torch.sigmoid(x) > 0.4``: float32 against a Python float, compared in float32."""
    for threshold in (0.4, 0.5):
        exact = np.float32(threshold)
        values = np.array([np.nextafter(exact, np.float32(0)), exact, np.nextafter(exact, np.float32(1))])
        pred = values.reshape(3, 1, 1)
        expected = (torch.from_numpy(values) > threshold).numpy().astype(float)
        assert np.array_equal(false_positive_rate(pred, threshold), expected)
        assert np.array_equal(expected, [0, 0, 1])


def blank(shape: tuple[int, ...] = (2, 3, 4)) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)


def test_perfect_prediction() -> None:
    pred, target = blank()
    target[:, 1] = True
    pred[target] = 1
    assert mask_iou(pred, target).tolist() == [1, 1]
    assert f_measure(pred, target) == 1
    assert false_positive_rate(pred).tolist() == [1 / 3, 1 / 3]


def test_empty_prediction_of_a_visible_object_keeps_the_floor_of_threshold_zero() -> None:
    pred, target = blank()
    target[:, 1] = True
    assert mask_iou(pred, target).tolist() == [0, 0]
    # At threshold 0 everything is activated: P = 1/3, R = 1.
    assert f_measure(pred, target) == pytest.approx(1.3 / 3 / (0.3 / 3 + 1))


def test_empty_target() -> None:
    pred, target = blank()
    pred[0, 0, 0] = 0.9
    assert mask_iou(pred, target).tolist() == [11 / 12, 1]
    assert f_measure(pred, target) == 0


def test_full_prediction_of_full_and_of_empty_targets() -> None:
    pred, target = blank()
    pred[:] = 1
    target[0] = True
    assert mask_iou(pred, target).tolist() == [1, 0]
    assert f_measure(pred, target) == 1
    assert false_positive_rate(pred).tolist() == [1, 1]


@pytest.mark.parametrize(("value", "hit", "iou", "f"), [(1, True, 1, 1), (1, False, 0, 0), (0, True, 0, 1)])
def test_one_pixel(value: float, hit: bool, iou: float, f: float) -> None:
    pred, target = np.full((1, 1, 1), value, dtype=np.float32), np.full((1, 1, 1), hit)
    assert mask_iou(pred, target).tolist() == [iou]
    assert f_measure(pred, target) == f
    assert false_positive_rate(pred).tolist() == [value]


def test_the_largest_f_is_taken_after_the_mean_over_frames() -> None:
    """Each frame alone is perfect at its own threshold; no threshold is perfect for both."""
    pred = np.array([[[0.9, 0.6]], [[0.4, 0.1]]], dtype=np.float32)
    target = np.array([[[True, False]], [[True, False]]])
    assert [f_measure(pred[frame : frame + 1], target[frame : frame + 1]) for frame in range(2)] == [1, 1]
    half = 1.3 * 0.5 / (0.3 * 0.5 + 1)
    assert f_measure(pred, target) == pytest.approx((half + 1) / 2)


def test_fewer_thresholds_find_no_larger_maximum() -> None:
    generator = np.random.default_rng(5)
    pred, target = generator.random((2, 8, 8), dtype=np.float32), generator.random((2, 8, 8)) < 0.4
    assert f_measure(pred, target, num_thresholds=2) <= f_measure(pred, target, num_thresholds=255)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_the_range_are_refused(threshold: float) -> None:
    pred, target = blank()
    with pytest.raises(MetricInputError, match=f"threshold: found {threshold}; expected a probability"):
        mask_iou(pred, target, threshold)
    with pytest.raises(MetricInputError, match=f"threshold: found {threshold}; expected a probability"):
        false_positive_rate(pred, threshold)


@pytest.mark.parametrize("beta2", [0, -0.3, float("inf"), float("nan")])
def test_beta2_that_is_not_positive_is_refused(beta2: float) -> None:
    pred, target = blank()
    with pytest.raises(MetricInputError, match=f"beta2: found {beta2}; expected a positive number"):
        f_measure(pred, target, beta2=beta2)
