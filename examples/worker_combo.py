"""A worker for COMBO-AVS (github.com/yannqi/COMBO-AVS) and VCT (github.com/spyflying/VCT_AVS), which share code and detectron2.

docs/worker_combo.md says how to set it up. It runs in the model's own environment (Python 3.7 or later, detectron2), next to the
user's own checkout and checkpoint.

    --option repo=PATH       the checkout                            --checkpoint FILE   its model_best.pth
    --option config=FILE     below the checkout; by default that of S4 with PVT-v2-B5
    --option frames=DIR      where the frames lie, and
    --option maskiges=DIR    where their pictures for the Siam encoder lie, below the same sub-folders (COMBO's pre_SAM_mask)
    --option size=N          side of the network's pictures: 224 (default) for COMBO, 384 for VCT

COMBO reads a "maskige" with every frame: a colouring of the frame's segments that Semantic-SAM made without sound. A worker
gets pixels and not file names, so the maskige is found by the pixels of its frame. Configurations with USE_PRE_SAM: False
need neither folder.
"""

import hashlib
import sys
from pathlib import Path

import avsrobust_worker
import numpy as np
from PIL import Image

# COMBO's loaders pad to this and cannot take anything larger; VCT's frames are made in 384.
SIZE = "224"
DEFAULT_CONFIG = "configs/avs_s4/Test_COMBO_PVTV2B5_bs8_90k.yaml"
# The classes are background and object (models/data/datasets/register_avss4_sem.py).
OBJECT = 1


class Combo:
    """COMBO or VCT for S4 and MS3, called as their own evaluation calls them."""

    audio = "log_mel"

    def __init__(self, checkpoint, device, options):
        if checkpoint is None or "repo" not in options:
            raise ValueError(
                "needs --option repo=PATH (a checkout of COMBO-AVS) and --checkpoint FILE (model_best.pth)"
            )
        self.size = int(options.get("size", SIZE))
        sys.path.insert(0, options["repo"])
        self.network = build(Path(options["repo"], options.get("config", DEFAULT_CONFIG)), checkpoint, device)
        self.maskiges = None
        if self.network.use_pre_sam:
            if "frames" not in options or "maskiges" not in options:
                raise ValueError(
                    "this configuration reads maskiges: needs --option frames=DIR and --option maskiges=DIR"
                )
            self.maskiges = find_maskiges(Path(options["frames"]), Path(options["maskiges"]), self.size)

    def encode_frames(self, frames):
        """Return the pictures that the network takes, uint8 [T, 3, size, size] per clip, with their maskiges."""
        import torch

        clips = []
        for clip in frames:
            pictures = [to_network(frame.transpose(1, 2, 0), self.size) for frame in clip]
            # VCT looks the category up for its loss, which is not computed here.
            entry = {"images": torch.from_numpy(np.stack(pictures)), "category_label": 0}
            if self.maskiges is not None:
                segments = [to_network(self.maskige_of(picture), self.size) for picture in pictures]
                entry["pre_masks"] = torch.from_numpy(np.stack(segments))
            clips.append(entry)
        return clips

    def segment(self, encoded, audio):
        """Return probabilities [B, T, 224, 224]; the network sees one clip at a time, as in its own evaluation."""
        import torch

        answers = []
        for index, clip in enumerate(encoded):
            with torch.no_grad():
                results = self.network([dict(clip, audio_log_mel=torch.from_numpy(audio[index]))])
            scores = torch.stack([result["sem_seg"] for result in results])
            # COMBO's evaluator takes the softmax of sums of probabilities (evaluation/sem_seg_evaluation.py).
            answers.append(scores.softmax(dim=1)[:, OBJECT].cpu().numpy())
        return np.stack(answers)

    def maskige_of(self, picture):
        """Return the maskige, uint8 [H, W, 3], of a frame of the network's size."""
        path = self.maskiges.get(fingerprint(picture))
        if path is None:
            raise ValueError(
                "a frame is not among those below --option frames; does the folder belong to this data set?"
            )
        return np.asarray(Image.open(path).convert("RGB"))


def build(config, checkpoint, device):
    """Return the network with the weights of a checkpoint, as the checkout's pred.py does."""
    import torch
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.projects.deeplab import add_deeplab_config
    from models import add_audio_config, add_fuse_config, add_maskformer2_config

    cfg = get_cfg()
    for add in (add_deeplab_config, add_audio_config, add_fuse_config, add_maskformer2_config):
        add(cfg)
    cfg.merge_from_file(str(config))
    # The checkpoint holds VGGish, so that its own file is not needed.
    cfg.merge_from_list(["MODEL.AUDIO.FREEZE_AUDIO_EXTRACTOR", False, "MODEL.DEVICE", device])
    network = build_model(cfg)
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_state_dict(content.get("model", content))
    return network.eval()


def find_maskiges(frames, maskiges, size):
    """Return the maskige's path for the fingerprint of every frame, at the network's size, that has one."""
    found = {}
    for path in sorted(frames.rglob("*.png")):
        maskige = maskiges / path.relative_to(frames).with_name(f"{path.stem}_mask_color.png")
        if maskige.exists():
            found[fingerprint(to_network(np.asarray(Image.open(path).convert("RGB")), size))] = maskige
    if not found:
        raise ValueError(f"no frame below {frames} has a maskige below {maskiges}")
    sys.stderr.write(f"{len(found)} maskiges found\n")
    return found


def fingerprint(picture):
    """Return the key by which a picture is found, for its pixels, uint8 [3, size, size]."""
    return hashlib.sha256(str(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def to_network(picture, size):
    """Return a picture, uint8 [H, W, 3], as uint8 [3, size, size]. AVSBench's S4 and MS3 have 224 pixels already."""
    if picture.shape[:2] != (size, size):
        picture = np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((size, size), Image.BILINEAR))
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


if __name__ == "__main__":
    avsrobust_worker.serve(Combo)
