"""The small audio encoder."""

from __future__ import annotations

import torch

from model_adapters.m2f.audio_encoder import LogMelEncoder


@torch.inference_mode()
def test_shape_and_independence_of_the_batch() -> None:
    torch.manual_seed(0)
    encoder = LogMelEncoder().eval()
    log_mel = torch.randn(4, 1, 96, 64)
    embedding = encoder(log_mel)
    assert embedding.shape == (4, 128)
    torch.testing.assert_close(encoder(log_mel[2:3]), embedding[2:3], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_bands_are_told_apart_and_silence_is_finite() -> None:
    torch.manual_seed(0)
    encoder = LogMelEncoder().eval()
    silence = torch.full((1, 1, 96, 64), -4.605)
    low, high = silence.clone(), silence.clone()
    low[..., :16] = 2.0
    high[..., 48:] = 2.0
    embeddings = encoder(torch.cat((silence, low, high)))
    assert torch.isfinite(embeddings).all()
    assert float((embeddings[1] - embeddings[2]).norm()) > 0.5
    assert float((embeddings[0] - embeddings[1]).norm()) > 0.5
