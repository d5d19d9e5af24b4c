"""A worker for Stepping-Stones (GeWu-Lab/Stepping-Stones, ECCV 2024), which ships a changed copy of transformers 4.35.

It runs in an environment of its own, next to the user's own checkout and checkpoint; ``--adapter stepping_stones`` starts it.
Python 3.8 or later with torch, numpy, pillow, scipy, safetensors, regex, requests, tqdm, pyyaml, "tokenizers>=0.14,<0.19" and
"huggingface-hub<1".

    --option repo=PATH       the checkout                      --checkpoint FILE   the authors', or what their train.py saved
    --option config=FILE     a configuration of your own; by default .models/config.json of the checkout
    --option masks=DIR       AVSS: first-stage masks, DIR/<condition>[/<level>][/draw<k>]/<v1s, v1m or v2>/<uid>/<frame>.png

S4 and MS3 (2 classes) run the code below avs/, AVSS (71) that below avss/; the checkpoint says which. The backbone's own file of
weights, which the released code starts from, is not needed: the checkpoint holds everything.
"""

import json
import sys
from pathlib import Path

import avsrobust_worker
import numpy as np

# avs/dataset.py, avss/dataset.py: the size of masks, whatever the frame's.
MASK_SIZE = (224, 224)
CLASSES = {3: "avs", 72: "avss"}
# What a constructor fills in; published files may lack it.
COMPUTED = ("relative_position_index", "criterion.empty_weight")


class SteppingStones:
    """Adaptive AVS for S4, MS3 and AVSS, called as its own evaluation calls it: one clip at a time."""

    audio = "embedding"

    def __init__(self, checkpoint, device, options):
        import torch

        if checkpoint is None or "repo" not in options:
            raise ValueError("needs --option repo=PATH (a checkout of Stepping-Stones) and --checkpoint FILE")
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = {name[len("module.") :] if name.startswith("module.") else name: weights[name] for name in weights}
        head = weights.get("model.class_predictor.bias")
        if head is None or len(head) not in CLASSES:
            raise ValueError(
                "--checkpoint holds no model.class_predictor.bias of 2 or 71 classes and none: not this model's"
            )
        self.semantic = len(head) == 72
        self.needs_clips = self.semantic
        root = find(Path(options["repo"]), CLASSES[len(head)])
        self.masks = None
        if self.semantic:
            self.masks = Path(options.get("masks", ""))
            if "masks" not in options or not self.masks.is_dir():
                raise ValueError("AVSS needs --option masks=DIR, first-stage masks in a folder per condition")
        self.network, self.audio_proj, self.processor = build(root, options.get("config"), weights, device)
        self.device = device

    def encode_frames(self, frames, *clips):
        """Return, per clip, its pictures as the network takes them and the features of its pixel-level module."""
        import torch

        encoded = []
        for clip in frames:
            pictures = self.processor.preprocess(list(clip), return_tensors="pt")["pixel_values"].to(self.device)
            with torch.no_grad():
                features = self.network.model.pixel_level_module(pixel_values=pictures, output_hidden_states=True)
            encoded.append((pictures, features))
        return encoded

    def segment(self, encoded, audio, clips=()):
        """Return foreground scores with the mask apart, or the class ids of AVSS, [B, T, 224, 224]."""
        import torch

        answers = []
        for index, (pictures, features) in enumerate(encoded):
            sound = torch.from_numpy(np.array(audio[index])).to(self.device)
            more = {}
            if self.semantic:
                more["audio_boost_mask"] = self.first_stage(clips[index], len(pictures))
            with torch.no_grad():
                outputs = self.run(pictures, features, sound, **more)
                answers.append(torch.stack(self.post_process(outputs, len(pictures))).cpu())
        stacked = torch.stack(answers)
        if self.semantic:
            return stacked.numpy()
        # avs/utils/utility.py: IoU of the argmax, F of sigmoid(2 b - a).
        scores = torch.sigmoid(2 * stacked[:, :, 1] - stacked[:, :, 0])
        return avsrobust_worker.Segmentation(scores.numpy(), mask=stacked.argmax(2).numpy() == 1)

    def run(self, pictures, features, sound, **more):
        """Run the network's own forward pass, with the features in place of its pixel-level module."""
        module = self.network.model.pixel_level_module
        module.forward = lambda **_named: features
        try:
            prompts = self.audio_proj(sound.view(1, -1, 128))
            return self.network(pixel_values=pictures, prompt_features_projected=prompts, **more)
        finally:
            # The class's own forward comes back.
            del module.forward

    def post_process(self, outputs, count):
        """Return the answers of the frames by the checkout's own processor: two scores, or class ids."""
        if self.semantic:
            return self.processor.post_process_semantic_segmentation(outputs, target_sizes=MASK_SIZE)
        return self.processor.post_process_binary_segmentation(outputs, target_sizes=[MASK_SIZE] * count)

    def first_stage(self, clip, count):
        """Return the first-stage masks of a clip under its condition, float32 [T, h, w] in 0..1, as its `load_mask` does."""
        import torch
        from PIL import Image

        folder = self.masks / clip.condition
        if clip.level is not None:
            folder = folder / f"{clip.level:g}"
        if clip.draw:
            folder = folder / f"draw{clip.draw}"
        paths = [folder / clip.clip_id / f"{frame}.png" for frame in range(count)]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise ValueError(f"{missing[0]}: not found; expected the first-stage mask made of this condition's sound")
        pictures = [np.asarray(Image.open(path).convert("L")) for path in paths]
        return torch.from_numpy(np.stack([(picture / 255).astype(np.float32) for picture in pictures])).to(self.device)


def find(repo, folder):
    """Return the folder of the code: the checkout's, or the one that was named."""
    for root in (repo / folder, repo):
        if root.name == folder and (root / "transformers/models/mask2former").is_dir():
            return root
    raise ValueError(f"--option repo={repo}: holds no {folder}/transformers; expected a checkout of Stepping-Stones")


def build(root, config, weights, device):
    """Return network, projection of the audio and processor, with the weights of a checkpoint."""
    import torch

    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True
    import transformers

    if root.resolve() not in Path(transformers.__file__).resolve().parents:
        raise ValueError(f"{transformers.__file__} was imported; expected the changed copy in {root}")
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

    path = Path(config) if config else root / ".models/config.json"
    settings = Mask2FormerConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    processing = json.loads((root / ".models/preprocessor_config.json").read_text(encoding="utf-8"))
    processing.pop("image_processor_type", None)
    whole = torch.nn.Module()
    # Named as in its avs_model.py.
    whole.model = Mask2FormerForUniversalSegmentation(settings)
    whole.audio_proj = torch.nn.Sequential(torch.nn.Linear(128, 512), torch.nn.ReLU(), torch.nn.Linear(512, 256))
    missing, unknown = whole.load_state_dict(weights, strict=False)
    wrong = [name for name in (*missing, *unknown) if not name.endswith(COMPUTED)]
    if wrong:
        raise ValueError(
            f"--checkpoint does not fit {path}: {len(wrong)} tensors missing or unknown, first {', '.join(sorted(wrong)[:4])}"
        )
    whole.eval().to(device)
    return whole.model, whole.audio_proj, Mask2FormerImageProcessor(**processing)


if __name__ == "__main__":
    avsrobust_worker.serve(SteppingStones)
