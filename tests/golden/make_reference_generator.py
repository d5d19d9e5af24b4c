"""Remake reference_generator.json: ``python make_reference_generator.py AVSBENCH_ROBUST [--output FILE]``.

The listings of files and the table of metadata are those of the committed file. Changed in the published code: folders are
listed in sorted order (the published order is the file system's), the path of the table is the committed table, sounds are
not read or written but recorded.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import published

GOLDEN = "reference_generator.json"
SINGLE, MULTIPLE = "Single-source/s4_data/audio_wav", "Multi-sources/ms3_data/audio_wav"


def main() -> None:
    """Run the generator on the listings of the committed file."""
    arguments = published.parse_arguments(GOLDEN, "AVSBENCH_ROBUST")
    script = arguments.AVSBENCH_ROBUST / "dataset_generation" / "audio_processing.py"
    committed = published.read_json(GOLDEN)
    found = {
        "source": committed["source"],
        "how": committed["how"],
        "runs": [rerun(script, run) for run in committed["runs"]],
        "noise": {seed: noise(script, int(seed)) for seed in committed["noise"]},
        "silent": silent(script),
    }
    arguments.output.write_text(json.dumps(found, separators=(",", ":")) + "\n")


def rerun(script: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Let the generator choose the source clips of one run, for s4 and for ms3."""
    s4, s4_noises = choose(script, "s4", run)
    ms3, ms3_noises = choose(script, "ms3", run)
    without = {
        split: [stem for stem in stems if stem not in ms3.get(split, {})]
        for split, stems in run["ms3_wav_stems_per_split"].items()
    }
    inputs = ("tree_seed", "random_seed", "s4_tree", "ms3_metadata", "ms3_wav_stems_per_split")
    return {
        **{key: run[key] for key in inputs},
        "s4_misaligned_source": s4,
        "ms3_misaligned_source": ms3,
        "ms3_clips_that_got_no_misaligned_source": without,
        "noise_clips_written": {"s4": s4_noises, "ms3": ms3_noises},
    }


def choose(script: Path, kind: str, run: dict[str, Any]) -> tuple[dict[str, dict[str, str]], int]:
    """Run ``process_dataset`` on empty files; return the source of each clip per split, and how many noises it made."""
    generator = published.load_module(script)
    chosen: dict[str, dict[str, str]] = {}
    noises = 0
    with tempfile.TemporaryDirectory() as name:
        folder, output = Path(name, "data"), Path(name, "out")
        plant(folder, run)
        root = folder / (SINGLE if kind == "s4" else MULTIPLE)
        target = output / (SINGLE if kind == "s4" else MULTIPLE).replace("audio_wav", "audio_wav_misaligned")

        def record(segment: Path | str, save_path: str, feature_save_path: str) -> None:
            nonlocal noises
            if segment == "noise":
                noises += 1
            elif segment != "silence":
                split, *clip = Path(save_path).relative_to(target).with_suffix("").parts
                source = Path(segment).relative_to(root / split).with_suffix("")
                chosen.setdefault(split, {})["/".join(clip)] = source.as_posix()

        table = pd.DataFrame(run["ms3_metadata"])
        generator.pd = types.SimpleNamespace(read_csv=lambda path: table.copy())
        generator.AudioSegment = types.SimpleNamespace(from_wav=lambda path: path)
        generator.save_audio_and_features = record
        generator.generate_silent_audio = lambda **options: "silence"
        generator.generate_noise_audio = lambda **options: "noise"
        listing = generator.os.listdir
        generator.os.listdir = lambda path: sorted(listing(path))
        random.seed(run["random_seed"])
        np.random.seed(run["random_seed"])  # noqa: NPY002
        try:
            with published.silence():
                generator.process_dataset(kind, str(folder), str(output))
        finally:
            generator.os.listdir = listing
    return chosen, noises


def plant(folder: Path, run: dict[str, Any]) -> None:
    """Make an empty wav file for each name of the run."""
    for split, tree in run["s4_tree"].items():
        for category, stems in tree.items():
            _touch(folder / SINGLE / split / category, stems)
    for split, stems in run["ms3_wav_stems_per_split"].items():
        _touch(folder / MULTIPLE / split, stems)


def _touch(folder: Path, stems: list[str]) -> None:
    folder.mkdir(parents=True)
    for stem in stems:
        (folder / f"{stem}.wav").touch()


def noise(script: Path, seed: int) -> dict[str, Any]:
    """Describe the generator's noise for one seed."""
    np.random.seed(seed)  # noqa: NPY002
    segment = published.load_module(script).generate_noise_audio(duration_ms=5000)
    samples = np.frombuffer(segment.raw_data, "<i2")
    phases = [
        {
            "phase": phase,
            "mean": float(part.mean()),
            "std": float(part.std()),
            "min": float(part.min()),
            "max": float(part.max()),
            "distinct_values": len(np.unique(part)),
        }
        for phase, part in ((phase, samples[phase::4].astype(np.float64)) for phase in range(4))
    ]
    return {
        "frame_rate": segment.frame_rate,
        "channels": segment.channels,
        "sample_width": segment.sample_width,
        "n_int16_samples": len(samples),
        "sha256_raw": hashlib.sha256(segment.raw_data).hexdigest(),
        "wav_bytes": wav_bytes(segment),
        "per_phase_mod4": phases,
    }


def silent(script: Path) -> dict[str, Any]:
    """Describe the generator's silence."""
    segment = published.load_module(script).generate_silent_audio(duration_ms=5000)
    return {
        "frame_rate": segment.frame_rate,
        "channels": segment.channels,
        "sample_width": segment.sample_width,
        "n_samples": int(segment.frame_count()),
        "wav_bytes": wav_bytes(segment),
    }


def wav_bytes(segment: Any) -> int:
    """Size of the file that the generator exports."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "sound.wav")
        segment.export(path, format="wav").close()
        return path.stat().st_size


if __name__ == "__main__":
    main()
