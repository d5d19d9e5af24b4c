"""A worker: a model in an environment of its own, which needs no avsrobust, only its ``avsrobust_worker.py`` and numpy.

    avsrobust adapters --worker-file > avsrobust_worker.py       where the command's own copy cannot be imported: a container
    avsrobust evaluate --adapter worker --option command="/path/to/that/env/bin/python examples/worker_model.py"

``--checkpoint FILE`` and further ``--option name=value`` arrive in the constructor; ``--option workers=2`` starts two of them.
"""

import avsrobust_worker
import torch
from small_network import make_network


class Model:
    """The network of ``small_network.py``, arrays in and arrays out."""

    audio = "log_mel"

    def __init__(self, checkpoint, device, options):
        self.device = device
        self.network = make_network(checkpoint).to(device)

    @torch.no_grad()
    def encode_frames(self, frames):
        """Return the encoding of frames, uint8 [B, T, 3, H, W], of any type: it stays on this side."""
        return self.network.look(torch.from_numpy(frames).to(self.device))

    @torch.no_grad()
    def segment(self, encoded, audio):
        """Return probabilities [B, T, h, w]."""
        return self.network.mark(encoded, torch.from_numpy(audio).to(self.device)).sigmoid().cpu().numpy()


avsrobust_worker.serve(Model)
