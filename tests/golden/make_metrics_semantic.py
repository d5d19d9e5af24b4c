"""Remake metrics_semantic.npz: ``python make_metrics_semantic.py AVSBENCH [--output FILE]``.

Inputs (quantised logits and masks) are those of the committed file. The sums over batches, which the published test script
keeps inside its main block, are written out here around the published functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import published
import torch
from torch import Tensor

GOLDEN = "metrics_semantic.npz"
SEEDS = (0, 1, 2)
FRAMES = 10
DRAWING = ("cv2", "torchvision", "torchvision.transforms", "tqdm")


def main() -> None:
    """Run the AVSS metrics on the inputs of the committed file."""
    arguments = published.parse_arguments(GOLDEN, "AVSBENCH")
    folder = arguments.AVSBENCH / "avs_scripts" / "avss" / "utils"
    metrics = published.load_module(folder / "compute_color_metrics.py", missing=DRAWING)
    inputs = published.read_arrays(GOLDEN)
    found: dict[str, Any] = {}
    for seed in SEEDS:
        quantised, target = inputs[f"s{seed}_logits_q_int8"], inputs[f"s{seed}_gt_uint8"]
        logits, masks = torch.from_numpy(quantised * np.float32(0.25)), torch.from_numpy(target.astype(np.int64))
        one = Totals(metrics, logits, masks, FRAMES)
        both = Totals(metrics, logits, masks, 2 * FRAMES)
        found |= {f"s{seed}_logits_q_int8": quantised, f"s{seed}_gt_uint8": target}
        found |= {f"s{seed}_sum_iou_per_class": one.iou.numpy(), f"s{seed}_sum_f_per_class": one.f.numpy()}
        found |= {f"s{seed}_count_per_class": one.count.numpy()}
        iou, f = one.per_class()
        found |= {f"s{seed}_final_iou_per_class": iou.numpy(), f"s{seed}_final_f_per_class": f.numpy()}
        found[f"s{seed}_final_miou_miouNoBg_F_FNoBg_nPresent_nanIou_nanF"] = one.logged()
        found[f"s{seed}_final_same_with_batch_of_2_clips"] = both.logged()
        found[f"s{seed}_running_per_iter_iou_F_nclasses"] = np.array(one.printed)
        found[f"s{seed}_vid_miou_list_per_frame"] = np.array(one.frames, np.float32)
        found[f"s{seed}_binary_miou"] = np.float64(metrics.calc_binary_miou(logits, masks))
    published.write_arrays(arguments.output, found)


class Totals:
    """Sums per class over batches of clips, as the published test script keeps them."""

    def __init__(self, metrics: Any, logits: Tensor, masks: Tensor, batch: int) -> None:
        self.iou = torch.zeros(logits.shape[1])
        self.f = torch.zeros(logits.shape[1])
        self.count = torch.zeros(logits.shape[1])
        self.printed: list[list[float]] = []
        self.frames: list[float] = []
        for start in range(0, len(logits), batch):
            part = slice(start, start + batch)
            iou, f, count, frames = metrics.calc_color_miou_fscore(logits[part], masks[part])
            self.iou += iou
            self.f += f
            self.count += count
            self.frames += [float(value) for value in frames]
            present = torch.sum(self.count != 0)
            running = [float(torch.nan_to_num(total / self.count).sum() / present) for total in (self.iou, self.f)]
            self.printed.append([*running, float(present)])

    def per_class(self) -> tuple[Tensor, Tensor]:
        """IoU and F of each class, 0 where the class is in no frame."""
        return torch.nan_to_num(self.iou / self.count), torch.nan_to_num(self.f / self.count)

    def logged(self) -> np.ndarray:
        """The numbers that the published test script logs at its end; background is its last class."""
        missing = [int(torch.isnan(total / self.count).sum()) for total in (self.iou, self.f)]
        means = [value for each in self.per_class() for value in (each.mean().item(), each[:-1].mean().item())]
        return np.array([*means, int((self.count != 0).sum()), *missing], np.float64)


if __name__ == "__main__":
    main()
