"""A network as it might be before avsrobust comes in: plain torch, and nothing of ours. It is not trained."""

import torch
from torch import nn


class SmallNetwork(nn.Module):
    """Marks the pixels that fit the sound: features of the picture, weighted by features of the sound."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.audio = nn.Linear(64, 8)

    def look(self, frames):
        """Return features [B, T, 8, h, w] of frames, uint8 [B, T, 3, H, W]."""
        features = self.visual(frames.flatten(0, 1).float() / 255)
        return features.unflatten(0, frames.shape[:2])

    def mark(self, features, log_mel):
        """Return logits [B, T, h, w] for features and the sound's log-mel, [B, T, 1, 96, 64]."""
        weights = self.audio(log_mel.mean(dim=(2, 3)))
        return (features * weights[..., None, None]).sum(2)


def make_network(checkpoint=None):
    """Return the network with the weights of a file, or with random ones, the same every time."""
    torch.manual_seed(0)
    network = SmallNetwork()
    if checkpoint is not None:
        network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.eval()
