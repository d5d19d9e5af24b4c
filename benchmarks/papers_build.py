"""Survey, build and verify, and how much less CPU time they take than the papers' procedure restated: ratios of one run.

    python benchmarks/papers_build.py [--clips 120] [--repeat 2]

Toy clips of s4 (5 s at 44.1 kHz, five frames and masks of 224 x 224), one process. The papers' procedure, clip by clip:
AVSBench's script makes the log-mel of the clean sound (preprocess_scripts/preprocess_s4.py `extract_one_log_mel`: resampy,
VGGish); AVSBench-Robust's writes a wav of noise and one of an off-screen sound, and the features of each
(dataset_generation/audio_processing.py `save_audio_and_features`: pydub, then librosa reads the wav back, resamples it and makes
mel spectra). It is restated as released, and with VGGish's front end for the negatives too, which is what a build by avsrobust
holds. Neither looks at pictures and masks, takes checksums or writes a manifest; avsrobust does. Features must agree, or there is
no ratio.
CPU time is that of all processes, after a small build that does not count; best of --repeat. Rates are by the clock, with the
files dropped from the page cache before each step.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import resampy
import soundfile
import torch
from probes import drop_cached
from pydub import AudioSegment

from avsrobust.audio.features import librosa_log_mel
from avsrobust.audio.front_ends import log_mel_of_file
from avsrobust.building.build import build
from avsrobust.building.verify import verify
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import list_dataset
from avsrobust.toy.write import write_toy

FRAMES = 5
TREE = "Single-source/s4_data/audio_wav"
WARM_UP_CLIPS = 2
# Resampling by products of matrices rounds otherwise than resampy's loop.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Taken:
    """CPU seconds of all processes, seconds by the clock."""

    cpu_s: float
    clock_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="avsrobust-build-") as name:
        folder = Path(name)
        write_toy(folder / "warm", "s4", clips=WARM_UP_CLIPS)
        measure(folder / "warm", folder / "warm-out")
        write_toy(folder / "data", "s4", clips=options.clips)
        runs = [measure(folder / "data", folder / f"out-{number}") for number in range(options.repeat)]
        best = {step: min((run[step] for run in runs), key=lambda taken: taken.cpu_s) for step in runs[0]}
        output = folder / "out-0" / "build"
        check_agreement(folder / "data", folder / "out-0" / "released", folder / "out-0" / "one front end")
        data, sounds, made = size_mb(folder / "data"), size_mb(folder / "data" / TREE), size_mb(output)
    show(best, options.clips, {"survey": data, "build": sounds + made, "verify": data + made})


def measure(data: Path, output: Path) -> dict[str, Taken]:
    """Take every step once: the two forms of the papers' procedure, and ours."""
    wavs = sorted((data / TREE).rglob("*.wav"))
    found = {}

    def step(name: str, call: Callable[[], object], *more: Path) -> None:
        drop_cached(path for root in (data, *more) for path in root.rglob("*") if path.is_file())
        found[name] = timed(call)

    step("released", lambda: papers(wavs, data / TREE, output / "released", released=True))
    step("one front end", lambda: papers(wavs, data / TREE, output / "one front end", released=False))
    surveyed = []
    step("survey", lambda: surveyed.append(list_dataset("s4", data).checked(whole_sounds=True)))
    recipe = load_recipe("standard")
    step("build", lambda: build(surveyed[0], recipe, 42, output / "build"))

    def check() -> None:
        report = verify(output / "build", data)
        if report.problems:
            raise SystemExit(f"the build does not verify: {report.problems[0]}")

    step("verify", check, output / "build")
    return found


def timed(call: Callable[[], object]) -> Taken:
    before, start = os.times(), time.perf_counter()
    call()
    clock, after = time.perf_counter() - start, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return Taken(cpu, clock)


def show(best: dict[str, Taken], clips: int, megabytes: dict[str, float]) -> None:
    ours = best["survey"].cpu_s + best["build"].cpu_s
    print(f"{clips} clips of s4, one process; CPU time a clip")
    print(f"  the papers' procedure, as released        {best['released'].cpu_s / clips * 1e3:8.1f} ms")
    print(f"  the papers' procedure, one front end      {best['one front end'].cpu_s / clips * 1e3:8.1f} ms")
    print(f"  avsrobust, survey and build               {ours / clips * 1e3:8.1f} ms")
    print(f"  avsrobust, build alone                    {best['build'].cpu_s / clips * 1e3:8.1f} ms")
    print(f"ratio, as released against survey and build   {best['released'].cpu_s / ours:6.1f}")
    print(f"ratio, one front end against survey and build {best['one front end'].cpu_s / ours:6.1f}")
    print(f"ratio, one front end against build alone      {best['one front end'].cpu_s / best['build'].cpu_s:6.1f}")
    for name, size in megabytes.items():
        taken = best[name]
        print(f"{name}: {taken.clock_s:.3f} s by the clock, {size:.1f} MB read and written, {taken.cpu_s:.3f} s of CPU")


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def check_agreement(data: Path, released: Path, one: Path) -> None:
    """Raise `SystemExit` where the restated features are others than avsrobust's front ends make of the same wavs."""
    for wav in sorted((data / TREE).rglob("*.wav"))[:3]:
        part = wav.relative_to(data / TREE).with_suffix("")
        pairs = {
            "VGGish, clean": (_load(released / "clean" / part), log_mel_of_file("vggish", wav, FRAMES)),
            "librosa, off-screen": (
                _load(released / "misaligned" / part),
                librosa_log_mel(released / "misaligned" / part.with_suffix(".wav")),
            ),
            "VGGish, noise": (
                _load(one / "noise" / part),
                log_mel_of_file("vggish", one / "noise" / part.with_suffix(".wav"), FRAMES),
            ),
        }
        for name, (theirs, ours) in pairs.items():
            apart = float(np.abs(theirs - ours).max())
            if not apart <= TOLERANCE:
                raise SystemExit(
                    f"{wav.name}: {name}: features differ by {apart:.1e}; expected at most {TOLERANCE:.0e}"
                )


def _load(path: Path) -> np.ndarray:
    # Written by this process a moment ago.
    tensor: torch.Tensor = pickle.loads(path.with_suffix(".pkl").read_bytes())
    return tensor.detach().numpy()


# The papers' procedure


def papers(wavs: list[Path], tree: Path, output: Path, *, released: bool) -> None:
    """Make features of the clean sounds, and wavs and features of silence, noise and off-screen sounds."""
    negatives = librosa_features if released else vggish_features
    random.seed(42)
    np.random.seed(42)  # noqa: NPY002
    save(AudioSegment.silent(duration=5000), output / "silent.wav", negatives)
    categories: dict[Path, list[Path]] = {}
    for wav in wavs:
        categories.setdefault(wav.parent, []).append(wav)
    for wav in wavs:
        part = wav.relative_to(tree)
        write_features(vggish_features(wav), output / "clean" / part)
        others = [one for one in categories if one.parent == wav.parent.parent and one != wav.parent]
        borrowed = random.choice(categories[random.choice(others or list(categories))])
        save(AudioSegment.from_wav(borrowed), output / "misaligned" / part, negatives)
        save(noise(released), output / "noise" / part, negatives)


def noise(released: bool) -> AudioSegment:
    samples = np.random.uniform(-1, 1, 5 * 44100)  # noqa: NPY002
    # As released, the bytes of float64 are taken for 16-bit samples: 20 s, of which the features use five.
    content = samples.tobytes() if released else (samples * 32767).astype(np.int16).tobytes()
    return AudioSegment(content, frame_rate=44100, sample_width=2, channels=1)


def save(segment: AudioSegment, path: Path, features: Callable[[Path], torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    segment.export(path, format="wav").close()
    write_features(features(path), path)


def write_features(features: torch.Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".pkl").open("wb") as file:
        pickle.dump(features, file)


def librosa_features(path: Path) -> torch.Tensor:
    """AVSBench-Robust's `extract_log_mel_features`: five parts of five seconds at 22050 Hz, each normalised."""
    y, rate = librosa.load(path, duration=FRAMES)
    if len(y) < rate * FRAMES:
        y = np.pad(y, (0, int(rate * FRAMES) - len(y)))
    parts = []
    for segment in np.array_split(y, FRAMES):
        mel = librosa.feature.melspectrogram(y=segment, sr=rate, n_mels=64, n_fft=1024, hop_length=512)
        log_mel = librosa.power_to_db(mel)
        if log_mel.std() > 0:
            log_mel = (log_mel - log_mel.mean()) / log_mel.std()
        parts.append(np.pad(log_mel, ((0, 0), (0, max(0, 96 - log_mel.shape[1]))))[:, :96])
    return torch.from_numpy(np.stack(parts)).float().permute(0, 2, 1).unsqueeze(1)


def vggish_features(path: Path) -> torch.Tensor:
    """AVSBench's `wavfile_to_examples`: resampled to 16 kHz by resampy, windows of 25 ms, 64 mel bands, the logarithm."""
    stored, rate = soundfile.read(path, dtype="int16")
    samples = stored / 32768.0
    if samples.ndim > 1:
        samples = samples.mean(axis=1)
    if rate != 16000:
        samples = resampy.resample(samples, rate, 16000)
    windows = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    log_mel = np.log(np.abs(np.fft.rfft(windows * hann, 512)) @ mel_matrix() + 0.01)
    count = len(log_mel) // 96
    examples = torch.tensor(log_mel[: count * 96].reshape(count, 1, 96, 64)).float()
    if count >= FRAMES:
        return examples[:FRAMES]
    return torch.cat([examples, examples[-1:].expand(FRAMES - count, -1, -1, -1)])


def mel_matrix() -> np.ndarray:
    """torchvggish's `spectrogram_to_mel_matrix`, made anew for every sound, as there: triangles on the HTK scale."""
    bins = 1127.0 * np.log(1.0 + np.linspace(0.0, 8000.0, 257) / 700.0)
    low, high = (1127.0 * np.log(1.0 + hertz / 700.0) for hertz in (125.0, 7500.0))
    edges = np.linspace(low, high, 66)
    matrix = np.empty((257, 64))
    for band in range(64):
        lower, center, upper = edges[band : band + 3]
        rising, falling = (bins - lower) / (center - lower), (upper - bins) / (upper - center)
        matrix[:, band] = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix


if __name__ == "__main__":
    main()
