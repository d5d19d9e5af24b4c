"""The one gate through which predictions and targets enter the metrics.

Conventions
    `pred` is a numpy array of floats [N, H, W], probabilities in [0, 1]; `target` is bool of the same shape; N, H, W >= 1.
    Any float type is accepted and converted to float32, in which every comparison with a threshold is made, as in the
    papers' code: a float64 value is rounded first.
    Every refusal is a `MetricInputError` that guesses what went wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from avsrobust.errors import MetricInputError

Probabilities = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_LARGEST_GREY_VALUE = 255


def checked_prediction(pred: npt.NDArray[np.floating]) -> Probabilities:
    """Return a prediction as float32.

    Args:
        pred: Probabilities in [0, 1], any float type [N, H, W].

    Raises:
        MetricInputError: `pred` is anything else.

    >>> import numpy as np
    >>> checked_prediction(np.full((1, 1, 1), 1.5))
    Traceback (most recent call last):
    ...
    avsrobust.errors.MetricInputError: pred: found values from 1.5 to 1.5; expected probabilities in [0, 1]; ...
    """
    _require_array("pred", pred)
    if not np.issubdtype(pred.dtype, np.floating):
        raise MetricInputError(_wrong_prediction_type(pred))
    _require_frames("pred", pred)
    low, high = pred.min(), pred.max()
    # NaN makes both comparisons false, so one test refuses it too.
    if not (low >= 0 and high <= 1):
        raise MetricInputError(_wrong_range(pred))
    return pred.astype(np.float32, copy=False)


def checked_pair(pred: npt.NDArray[np.floating], target: Mask) -> tuple[Probabilities, Mask]:
    """Return a prediction as float32, and its target.

    Args:
        pred: Probabilities in [0, 1], any float type [N, H, W].
        target: bool [N, H, W].

    Raises:
        MetricInputError: One of the two is anything else, or their shapes differ.
    """
    _require_array("target", target)
    if target.dtype != np.bool_:
        raise MetricInputError(
            f"target: found dtype {target.dtype}; expected bool; a mask of numbers becomes one with 'target != 0'"
        )
    prediction = checked_prediction(pred)
    if prediction.shape != target.shape:
        raise MetricInputError(
            f"target: found shape {target.shape} next to pred {prediction.shape}; expected the same shape [N, H, W]; "
            "resize the probabilities to the size of the mask, and score only frames that have one"
        )
    return prediction, target


def _require_array(name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        kind = type(value)
        raise MetricInputError(
            f"{name}: found {kind.__module__}.{kind.__qualname__}; expected a numpy array [N, H, W]; "
            "a torch tensor becomes one with '.cpu().numpy()'"
        )


def _require_frames(name: str, array: npt.NDArray[np.floating]) -> None:
    if array.ndim != 3:
        hint = {
            2: "a single frame becomes a stack with 'array[None]'",
            4: "drop the channel axis with 'array.squeeze(1)', or join clips with 'array.reshape(-1, H, W)'",
        }.get(array.ndim, "stack the frames along the first axis")
        raise MetricInputError(f"{name}: found shape {array.shape}; expected [N, H, W]; {hint}")
    if array.size == 0:
        raise MetricInputError(
            f"{name}: found shape {array.shape}, which holds no pixel; expected at least one frame of at least one pixel; "
            "skip clips without a mask"
        )


def _wrong_prediction_type(pred: npt.NDArray[np.floating]) -> str:
    hint = {
        "b": "a binary mask becomes probabilities with 'pred.astype(np.float32)'; or were pred and target swapped?",
        "u": "grey values become probabilities with 'pred.astype(np.float32) / 255'",
        "i": "class ids are no probabilities; a binary mask becomes some with '(pred != 0).astype(np.float32)'",
    }.get(pred.dtype.kind, "convert it to float32")
    return f"pred: found dtype {pred.dtype}; expected probabilities as float32; {hint}"


def _wrong_range(pred: npt.NDArray[np.floating]) -> str:
    not_finite = int(pred.size - np.count_nonzero(np.isfinite(pred)))
    if not_finite:
        nan = int(np.count_nonzero(np.isnan(pred)))
        return (
            f"pred: found {nan} NaN and {not_finite - nan} infinite values among {pred.size}; expected probabilities in "
            "[0, 1]; check the model's output (overflow in half precision?)"
        )
    low, high = pred.min(), pred.max()
    if low < 0:
        hint = "are these logits? apply the sigmoid first"
    elif 2 < high <= _LARGEST_GREY_VALUE:
        hint = "are these 8-bit grey values? divide by 255"
    else:
        hint = "are these logits (apply the sigmoid) or rounding errors of a resize (clip to [0, 1])?"
    return f"pred: found values from {low!s} to {high!s}; expected probabilities in [0, 1]; {hint}"
