"""Remake audio_front_ends.npz: ``python make_audio_front_ends.py AVSBENCH AVSBENCH_ROBUST [--output FILE]``.

The sounds are those of the committed file. All but the short one are stored cut to 1.1 s, so what is remade from them is the
first example (0.96 s) or part (1 s); the committed values come from the whole sounds.
"""

from __future__ import annotations

import tempfile
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import published
import soundfile
import torch

GOLDEN = "audio_front_ends.npz"
CUT = ("s0_stereo44k", "s1_mono16k", "s1_mono44k", "s2_mono48k")
SHORT = "s0_short3p1s44k"
PREPROCESSING = ("imageio", "moviepy", "moviepy.editor", "cv2", "tqdm")
NOISE_SEED = 0


def main() -> None:
    """Run both front ends and VGGish on the sounds of the committed file."""
    arguments = published.parse_arguments(GOLDEN, "AVSBENCH", "AVSBENCH_ROBUST")
    scripts = arguments.AVSBENCH / "avs_scripts" / "avs_s4"
    vggish_input = published.load_package_module(scripts, "torchvggish.vggish_input")
    vggish = published.load_package_module(scripts, "torchvggish.vggish")
    preprocess = published.load_module(
        arguments.AVSBENCH / "preprocess_scripts" / "preprocess_s4.py", missing=PREPROCESSING
    )
    robust = published.load_module(arguments.AVSBENCH_ROBUST / "dataset_generation" / "audio_processing.py")
    inputs = published.read_arrays(GOLDEN)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sound in (*CUT, SHORT):
            samples, rate = inputs[f"{sound}_int16"], inputs[f"{sound}_rate"]
            found |= {f"{sound}_int16": samples, f"{sound}_rate": rate}
            path = folder / f"{sound}.wav"
            soundfile.write(path, samples, int(rate), subtype="PCM_16")
            log_mel = robust.extract_log_mel_features(str(path)).numpy()
            if sound == SHORT:
                found[f"{sound}_vggish_padded"] = pickled(preprocess, path)
                found[f"{sound}_robust"] = log_mel
            else:
                found[f"{sound}_vggish_example0"] = examples(vggish_input, path)[0]
                found[f"{sound}_robust_part0"] = log_mel[0]
        np.random.seed(NOISE_SEED)  # noqa: NPY002
        made = {
            f"noise_s{NOISE_SEED}": robust.generate_noise_audio(duration_ms=5000),
            "silent": robust.generate_silent_audio(duration_ms=5000),
        }
        for sound, segment in made.items():
            path = folder / f"{sound}.wav"
            segment.export(path, format="wav").close()
            kept = 1 if sound == "silent" else 5
            found[f"{sound}_vggish"] = examples(vggish_input, path)[:kept]
            found[f"{sound}_robust"] = robust.extract_log_mel_features(str(path)).numpy()
    for postprocess, kind in ((False, "embedding"), (True, "quantised")):
        network = seeded_vggish(vggish, postprocess)
        with torch.no_grad(), published.silence():
            found[f"noise_s{NOISE_SEED}_{kind}"] = network(
                torch.from_numpy(found[f"noise_s{NOISE_SEED}_vggish"])
            ).numpy()
            example = torch.from_numpy(found["s1_mono44k_vggish_example0"])[None]
            found[f"s1_mono44k_{kind}0"] = network(example).numpy().reshape(-1)
    published.write_arrays(arguments.output, {key: found[key] for key in inputs})


def examples(vggish_input: Any, path: Path) -> np.ndarray:
    """VGGish's log-mels of a whole sound, float32 [n, 1, 96, 64]."""
    log_mels: torch.Tensor = vggish_input.wavfile_to_examples(str(path))
    return log_mels.detach().numpy()


def pickled(preprocess: Any, path: Path) -> np.ndarray:
    """Return what AVSBench's preprocessing keeps of a sound, caught before it is pickled: float32 [5, 1, 96, 64]."""
    kept: list[torch.Tensor] = []
    preprocess.pickle = types.SimpleNamespace(dump=lambda value, file: kept.append(value))
    place = path.parent / "test" / "category"
    place.mkdir(parents=True)
    (place / path.name).write_bytes(path.read_bytes())
    with published.silence():
        preprocess.extract_one_log_mel(str(path.parent), str(path.parent / "kept"), [path.stem, 0, "category", "test"])
    return kept[0].detach().numpy()


def seeded_vggish(vggish: Any, postprocess: bool) -> Any:
    """AVSBench's network on the CPU with weights that depend on their names only."""
    train = types.SimpleNamespace(
        FREEZE_AUDIO_EXTRACTOR=False, PREPROCESS_AUDIO_TO_LOG_MEL=False, POSTPROCESS_LOG_MEL_WITH_PCA=postprocess
    )
    network = vggish.VGGish(types.SimpleNamespace(TRAIN=train), torch.device("cpu"))
    state = {name: seeded_weight(name, tuple(value.shape)) for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


def seeded_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Normal values seeded by the name, scaled by kind, drawn in float64 and rounded to float32."""
    normal = np.random.Generator(np.random.PCG64([0, zlib.crc32(name.encode())])).standard_normal(shape)
    if name == "pproc.pca_eigen_vectors":
        scale = 0.6 / np.sqrt(128)
    elif name == "pproc.pca_means":
        scale = 0.5
    else:
        scale = 0.05 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy((normal * scale).astype(np.float32))


if __name__ == "__main__":
    main()
