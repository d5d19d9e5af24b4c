"""A model that only writes pictures: a program that knows nothing of avsrobust but the path of the manifest.

    python examples/png_model/predict.py robust/s4-seed42/manifest.parquet data masks
    avsrobust evaluate --adapter predictions --option masks=masks

One PNG per row and frame: masks/<condition>[/<level>]/<clip_id>/<frame>.png, 0..255 being 0..100 % probability (other names and
modes are read too: page "Your model" of the documentation). Frames without a mask file are not scored and need no picture. The
"model" marks the brightest part of a picture, the more of it the louder the sound.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from PIL import Image


def main(manifest: Path, data_root: Path, masks: Path) -> None:
    """Write the masks of every row of the test split."""
    table = pd.read_parquet(manifest)
    for row in table[table["split"] == "test"].itertuples():
        level = [] if pd.isna(row.level) else [f"{row.level:g}"]
        folder = masks.joinpath(row.condition, *level, row.clip_id)
        folder.mkdir(parents=True, exist_ok=True)
        loudness = loudness_of_frames(row.audio, manifest.parent, data_root, row.num_frames)
        for frame, (picture, mask) in enumerate(zip(row.frames, row.masks, strict=True)):
            if mask is not None:
                probability = segment(Image.open(data_root / picture), loudness[frame])
                Image.fromarray(np.rint(probability * 255).astype(np.uint8)).save(folder / f"{frame}.png")


def loudness_of_frames(audio: str, build: Path, data_root: Path, num_frames: int) -> list[float]:
    """Return the loudness of each frame's share of the sound, 0 to 1."""
    # Sounds that the data set holds already are not stored twice.
    path = data_root / audio.removeprefix("data:") if audio.startswith("data:") else build / audio
    samples, _ = soundfile.read(path, always_2d=True)
    return [min(1.0, float(np.sqrt((part**2).mean())) * 4) for part in np.array_split(samples, num_frames)]


def segment(picture: Image.Image, loudness: float) -> np.ndarray:
    """Return probabilities [height, width]."""
    brightness = np.asarray(picture.convert("L"), np.float32) / 255
    return np.clip(0.5 + 2 * (brightness - np.quantile(brightness, 0.8)), 0, 1) * loudness


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
