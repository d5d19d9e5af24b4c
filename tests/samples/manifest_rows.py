"""Rows and metadata of a small manifest, for tests that write one."""

from __future__ import annotations

from dataclasses import replace

from avsrobust.manifest import ManifestInfo, Row, Skipped

CLEAN = Row(
    dataset="s4",
    split="test",
    clip_id="dog_barking/a_1",
    labels=("dog_barking",),
    broad=("animal",),
    condition="clean",
    polarity="positive",
    level=None,
    source_clip_id=None,
    source_labels=None,
    seed=2**64 - 1,
    audio="data:s4/a.wav",
    audio_sha256="0" * 64,
    log_mel="log_mel/test.npy",
    log_mel_row=0,
    frames=("s4/a_1.png", "s4/a_2.png"),
    masks=("s4/m_1.png", None),
    num_frames=2,
    sample_rate=44_100,
    duration_s=2.0,
)
NOISE = replace(CLEAN, condition="noise", polarity="negative", audio="audio/noise.wav", log_mel_row=1, level=3.0)
OFFSCREEN = replace(CLEAN, condition="offscreen", polarity="negative", source_clip_id="b", source_labels=("cat", "man"))
INFO = ManifestInfo("s4", 42, {"name": "standard"}, {"test": "x"}, (Skipped("c", None, "no sound"),), ("a note",))
