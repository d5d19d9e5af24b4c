"""Remake metrics_binary.npz: ``python make_metrics_binary.py AVSBENCH_ROBUST BIAS_IN_AVS [--output FILE]``.

Inputs (logits and masks) are those of the committed file. Changed in the published code: `_eval_pr` of AVSBench-Robust is
called with ``cuda_flag=False``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import published
import torch
from torch import Tensor

GOLDEN = "metrics_binary.npz"
SEEDS = (0, 1, 2)
DRAWING = ("cv2", "torchvision", "torchvision.transforms", "matplotlib", "matplotlib.pyplot", "PIL", "pandas")
RUNNING = ("mmengine", "mmengine.config", "utils", "utils.pyutils", "utils.logger", "utility", "model", "dataloader")
Scores = Callable[[Tensor, Tensor], tuple[float, ...]]


def main() -> None:
    """Run both repositories' metrics on the inputs of the committed file."""
    arguments = published.parse_arguments(GOLDEN, "AVSBENCH_ROBUST", "BIAS_IN_AVS")
    code = arguments.AVSBENCH_ROBUST / "training_evaluation" / "code" / "AVSegFormer"
    theirs = arguments.BIAS_IN_AVS / "AVS" / "utils" / "v1m"
    robust = published.load_module(code / "scripts" / "s4" / "utility.py", missing=DRAWING)
    robust._eval_pr = functools.partial(robust._eval_pr, cuda_flag=False)
    fpr = published.load_module(code / "scripts" / "s4" / "test.py", missing=RUNNING).calculate_FPR
    meter = published.load_module(code / "utils" / "pyutils.py").AverageMeter
    bias = published.load_module(theirs / "utility.py", missing=DRAWING)
    bias_meter = published.load_module(theirs / "pyutils.py").AverageMeter

    inputs = published.read_arrays(GOLDEN)
    found: dict[str, object] = {"thresholds_f32": torch.linspace(0, 1 - 1e-10, 255).numpy()}
    for seed in SEEDS:
        logits, gt = (torch.from_numpy(inputs[f"s{seed}_{name}"]) for name in ("logits", "gt"))
        masks = gt.float()
        found |= {f"s{seed}_logits": logits.numpy(), f"s{seed}_gt": gt.numpy()}
        found[f"s{seed}_frame_mask_iou"] = each_frame(lambda p, t: robust.mask_iou(p, t), logits, masks)
        found[f"s{seed}_frame_fpr"] = each_frame(lambda p, _: fpr(p), logits, masks)
        found[f"s{seed}_frame_fmeasure"] = each_frame(lambda p, t: robust.Eval_Fmeasure(p, t), logits, masks)

        def scores(pred: Tensor, target: Tensor) -> tuple[float, ...]:
            return robust.mask_iou(pred, target), robust.Eval_Fmeasure(pred, target), fpr(pred)

        batches, dataset = each_video(scores, meter, logits, masks)
        found |= {f"s{seed}_bs1_batches_miou_F_FPR": batches, f"s{seed}_bs1_dataset_miou_F_FPR": dataset}
        found[f"s{seed}_eval_pr_prec_recall_videos_0_3"] = np.stack(
            [curves(robust._eval_pr, logits[video], masks[video]) for video in (0, 3)]
        )

        def bias_scores(pred: Tensor, target: Tensor) -> tuple[float, ...]:
            iou = bias.mask_iou(pred.unsqueeze(1), target.unsqueeze(1))
            return iou, bias.Eval_Fmeasure(pred, target, "./logger", device="cpu")

        batches, dataset = each_video(bias_scores, bias_meter, logits, masks)
        found |= {f"s{seed}_bias_in_avs_videos_miou_F": batches, f"s{seed}_bias_in_avs_dataset_miou_F": dataset}
        found[f"s{seed}_bias_in_avs_frame_mask_iou"] = each_frame(
            lambda p, t: bias.mask_iou(p[None], t[None]), logits, masks
        )
    published.write_arrays(arguments.output, found)


def each_frame(function: Callable[[Tensor, Tensor], object], logits: Tensor, masks: Tensor) -> np.ndarray:
    """Call ``function`` with each frame alone, [1, H, W] -> float64 [videos, frames]."""
    with published.silence():
        rows = [
            [float(function(p[None], t[None])) for p, t in zip(*video, strict=True)]
            for video in zip(logits, masks, strict=True)
        ]
    return np.array(rows)


def each_video(function: Scores, meter: type, logits: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Call ``function`` with each video as a batch; return its values per video and the meter's mean of each."""
    with published.silence():
        rows = [function(pred, target) for pred, target in zip(logits, masks, strict=True)]
    means = []
    for column in zip(*rows, strict=True):
        average = meter("value")
        for value in column:
            average.add({"value": value})
        means.append(float(average.pop("value")))
    return np.array([[float(value) for value in row] for row in rows]), np.array(means)


def curves(function: Callable[..., tuple[Tensor, Tensor]], logits: Tensor, masks: Tensor) -> np.ndarray:
    """Precision and recall at 255 thresholds, float32 [frames, 2, 255]."""
    pairs = [function(torch.sigmoid(pred), target, 255) for pred, target in zip(logits, masks, strict=True)]
    return np.stack([torch.stack(pair).numpy() for pair in pairs])


if __name__ == "__main__":
    main()
