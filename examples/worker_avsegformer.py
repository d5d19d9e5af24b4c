"""A worker for AVSegFormer and AVSegFormer_robust in the environment that their authors name: an old Python and torch, the CUDA
extension built. Where avsrobust itself is installed next to the model, ``--adapter avsegformer`` needs none of this.

    avsrobust evaluate --adapter worker --checkpoint S4_best.pth
        --option command="conda run -n avsegformer python examples/worker_avsegformer.py"
        --option repo=/code/AVSegFormer --option config=config/s4/AVSegFormer_pvt2_s4.py
        [--option type=AVSegFormer_robust] [--option size=224]        224 for AVSS

``repo`` is the folder that holds ``model/``: of AVSBench-Robust, training_evaluation/code/AVSegFormer. ``config`` lies below it.
"""

import runpy
import sys
from pathlib import Path

import avsrobust_worker
import numpy as np
import torch
from PIL import Image

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class AVSegFormer:
    """The network, called as its own test.py calls it."""

    audio = "log_mel"

    def __init__(self, checkpoint, device, options):
        if checkpoint is None or not {"repo", "config"} <= set(options):
            raise ValueError(
                "needs --checkpoint FILE, --option repo=PATH (it holds model/) and --option config=FILE below it"
            )
        sys.path.insert(0, options["repo"])
        from model import build_model

        settings = runpy.run_path(str(Path(options["repo"], options["config"])))["model"]
        settings["type"] = options.get("type", settings["type"])
        # The checkpoint holds the backbone and VGGish; the sound comes as log-mel.
        settings["backbone"]["init_weights_path"] = None
        settings["vggish"].update(freeze_audio_extractor=False, preprocess_audio_to_log_mel=False)
        network = build_model(**settings)
        network.load_state_dict(read(checkpoint))
        self.network, self.device = network.to(device).eval(), device
        self.size = int(options.get("size", 512))
        self.similarity = None

    @torch.no_grad()
    def encode_frames(self, frames):
        """Return the backbone's features, and how many clips they are of."""
        pictures = [self.load(frame) for clip in frames for frame in clip]
        return self.network.extract_feat(torch.stack(pictures).to(self.device)), len(frames)

    @torch.no_grad()
    def segment(self, encoded, audio):
        """Return probabilities [B, T, h, w], or class logits [B, T, 71, h, w] for AVSS."""
        features, clips = encoded
        # Its forward pass would run the backbone once more for every sound.
        self.network.extract_feat = lambda _: list(features)
        sound = torch.from_numpy(audio).to(self.device).flatten(0, 1)
        scores, _, *similarity = self.network(sound, None)
        del self.network.extract_feat
        self.similarity = similarity[0].reshape(clips, -1).cpu().numpy() if similarity else None
        scores = scores.reshape(clips, -1, *scores.shape[1:])
        return (scores[:, :, 0].sigmoid() if scores.shape[2] == 1 else scores).cpu().numpy()

    def extras(self):
        """Return the similarity of sound and picture where the network has one; it is kept next to the scores."""
        return {} if self.similarity is None else {"similarity": self.similarity}

    def load(self, frame):
        """Return a frame, uint8 [3, H, W], as the network takes it."""
        picture = Image.fromarray(frame.transpose(1, 2, 0)).resize((self.size, self.size), Image.BILINEAR)
        scaled = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def read(checkpoint):
    """Return the named tensors of a checkpoint, without running anything in it.

    torch before 1.13 cannot do that with its own files: there, give it the same tensors as .npz.
    """
    if checkpoint.endswith(".npz"):
        with np.load(checkpoint, allow_pickle=False) as archive:
            weights = {name: torch.from_numpy(array) for name, array in archive.items()}
    else:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return {name[len("module.") :] if name.startswith("module.") else name: value for name, value in weights.items()}


if __name__ == "__main__":
    avsrobust_worker.serve(AVSegFormer)
