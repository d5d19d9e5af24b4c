import numpy as np
import pytest

from avsrobust.errors import MetricInputError
from avsrobust.metrics import f_measure, false_positive_rate, frame_statistics, mask_iou
from avsrobust.metrics.inputs import checked_pair, checked_prediction

HALF = np.full((2, 3, 4), 0.5, dtype=np.float32)
MASK = np.zeros((2, 3, 4), dtype=bool)


def changed(value: float, dtype: str = "float32") -> np.ndarray:
    pred = HALF.astype(dtype)
    pred[1, 2, 3] = value
    return pred


@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (changed(np.nan), r"found 1 NaN and 0 infinite values among 24; expected probabilities in \[0, 1\]"),
        (changed(np.inf), "found 0 NaN and 1 infinite values"),
        (changed(-np.inf), "found 0 NaN and 1 infinite values"),
        (changed(-3.5), r"found values from -3\.5 to 0\.5; .* logits\? apply the sigmoid first"),
        (changed(-1e-7), "found values from -1e-07 to 0.5"),
        (changed(255.0), "found values from 0.5 to 255.0; .* 8-bit grey values"),
        (changed(1.5), "found values from 0.5 to 1.5; .*logits"),
        (
            changed(float(np.nextafter(np.float32(1), np.float32(2)))),
            r"found values from 0\.5 to 1\.0000001; .*rounding errors of a resize",
        ),
        (changed(1 + 1e-9, "float64"), r"found values from 0\.5 to 1\.000000001; "),
        (changed(1e300, "float64"), r"found values from 0.5 to 1e\+300"),
        (MASK, "found dtype bool; .*swapped"),
        (HALF.astype(np.uint8), "found dtype uint8; .*/ 255"),
        (HALF.astype(np.int64), "found dtype int64; .*class ids"),
        (HALF.astype(np.complex64), "found dtype complex64; .*float32"),
        (HALF[0], r"found shape \(3, 4\); expected \[N, H, W\]; .*array\[None\]"),
        (HALF[None], r"found shape \(1, 2, 3, 4\); .*squeeze\(1\)"),
        (HALF.ravel(), r"found shape \(24,\); .*stack the frames"),
        (HALF[:0], r"found shape \(0, 3, 4\), which holds no pixel"),
        (HALF[:, :0], r"found shape \(2, 0, 4\), which holds no pixel"),
        (HALF[:, :, :0], r"found shape \(2, 3, 0\), which holds no pixel"),
        (HALF.tolist(), r"found builtins\.list; expected a numpy array"),
    ],
)
def test_bad_predictions_are_refused(pred: np.ndarray, message: str) -> None:
    with pytest.raises(MetricInputError, match=f"^pred: {message}"):
        checked_prediction(pred)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (MASK.astype(np.uint8), "found dtype uint8; expected bool; .*target != 0"),
        (MASK.astype(np.float32), "found dtype float32; expected bool"),
        (MASK[:, :2], r"found shape \(2, 2, 4\) next to pred \(2, 3, 4\); expected the same shape"),
        (MASK[:1], r"found shape \(1, 3, 4\) next to pred \(2, 3, 4\)"),
        (MASK.tolist(), r"found builtins\.list; expected a numpy array"),
    ],
)
def test_bad_targets_are_refused(target: np.ndarray, message: str) -> None:
    with pytest.raises(MetricInputError, match=f"^target: {message}"):
        checked_pair(HALF, target)


def test_torch_tensors_get_the_hint() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(MetricInputError, match=r"found torch\.Tensor; .*\.cpu\(\)\.numpy\(\)"):
        checked_prediction(torch.zeros(1, 2, 2))


@pytest.mark.parametrize("function", [mask_iou, f_measure, frame_statistics])
def test_every_public_function_checks(function: object) -> None:
    with pytest.raises(MetricInputError, match="1 NaN"):
        function(changed(np.nan), MASK)  # type: ignore[operator]
    with pytest.raises(MetricInputError, match="target: found dtype"):
        function(HALF, MASK.astype(int))  # type: ignore[operator]


def test_false_positive_rate_checks() -> None:
    with pytest.raises(MetricInputError, match="1 NaN"):
        false_positive_rate(changed(np.nan))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_any_float_type_is_compared_as_float32(dtype: str) -> None:
    pred = np.array([[[0.5, 0.25, 0.75, 1.0]]], dtype=dtype)
    assert checked_prediction(pred).dtype == np.float32
    assert false_positive_rate(pred) == 0.5


def test_float64_is_rounded_before_the_comparison() -> None:
    just_above = np.full((1, 1, 1), 0.5 + 1e-12)
    assert false_positive_rate(just_above) == 0.0


def test_a_float32_prediction_is_not_copied_or_changed() -> None:
    pred = HALF.copy()
    assert checked_prediction(pred) is pred
    frame_statistics(pred, MASK)
    assert np.array_equal(pred, HALF)
