"""`stepping_stones`, on a miniature checkout of our own in a process of its own, and on the real one where it is.

The real one: ``AVSROBUST_CHECKOUTS=DIR`` with Stepping-Stones/ and environments/Stepping-Stones/ in it; on the media of
``AVSROBUST_DATA`` where that is set. Its network is made of fewer, thinner layers there, everything else as released.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from avsrobust.adapter_inputs import RealClip
from avsrobust.adapters.base import Segmentation
from avsrobust.adapters.baselines import Oracle
from avsrobust.adapters.lookup import load_adapter
from avsrobust.building.build import build
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.masks import read_frame
from avsrobust.datasets.read import read_dataset
from avsrobust.errors import AdapterError, ClipError
from avsrobust.evaluation.clip_views import ClipViewer
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest, load_manifest
from avsrobust.testing import check_adapter
from avsrobust.toy.write import write_toy
from model_adapters.stepping_stones import SteppingStones

CPU = torch.device("cpu")
# A changed transformers of our own: its classes, what they take, and who calls whom.
TRANSFORMERS = """
import types
import numpy as np
import torch
from torch import nn

class Mask2FormerConfig(types.SimpleNamespace):
    @classmethod
    def from_dict(cls, settings):
        return cls(**settings)

class PixelLevel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, pixel_values, output_hidden_states=False):
        assert output_hidden_states
        return self.encoder(pixel_values)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.pixel_level_module = PixelLevel()
        self.prompt = nn.Linear(256, 4)

    def forward(self, pixel_values, prompts, boost):
        features = self.pixel_level_module(pixel_values=pixel_values, output_hidden_states=True)
        if boost is not None:
            features = features + nn.functional.interpolate(boost[:, None], size=features.shape[-2:], mode="bilinear")
        return features, self.prompt(prompts)[0]

class Mask2FormerForUniversalSegmentation(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.model = Model()
        self.class_predictor = nn.Linear(4, config.labels + 1)
        self.criterion = nn.Module()
        self.criterion.register_buffer("empty_weight", torch.ones(config.labels + 1))

    def forward(self, pixel_values, prompt_features_projected=None, AVSS_ARGUMENT):
        features, prompt = self.model(pixel_values, prompt_features_projected, BOOST)
        classes = self.class_predictor((features * prompt[:, :, None, None]).permute(0, 2, 3, 1))
        return types.SimpleNamespace(scores=classes.permute(0, 3, 1, 2)[:, :-1])

class Mask2FormerImageProcessor:
    def __init__(self, size, **settings):
        self.size = size["height"]

    def preprocess(self, images, return_tensors):
        pictures = torch.from_numpy(np.stack(images)).float() / 255 - 0.5
        return {"pixel_values": nn.functional.interpolate(pictures, size=self.size)}

    def _resized(self, outputs, size):
        return nn.functional.interpolate(outputs.scores, size=size, mode="bilinear")

    def post_process_binary_segmentation(self, outputs, target_sizes):
        return list(self._resized(outputs, target_sizes[0]))

    def post_process_semantic_segmentation(self, outputs, target_sizes):
        return list(self._resized(outputs, target_sizes).argmax(1))
"""
FOLDERS = {
    "avs": {"AVSS_ARGUMENT": "pixel_mask=None", "BOOST": "None"},
    "avss": {"AVSS_ARGUMENT": "audio_boost_mask=None", "BOOST": "audio_boost_mask"},
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("Stepping-Stones")
    for folder, changes in FOLDERS.items():
        text = TRANSFORMERS
        for name, value in changes.items():
            text = text.replace(name, value)
        package = root / folder / "transformers"
        (package / "models" / "mask2former").mkdir(parents=True)
        (package / "__init__.py").write_text(text)
        models = root / folder / ".models"
        models.mkdir()
        (models / "config.json").write_text(json.dumps({"labels": 2 if folder == "avs" else 71}))
        processing = {"image_processor_type": "x", "size": {"height": 64, "width": 64}}
        (models / "preprocessor_config.json").write_text(json.dumps(processing))
    return root


def weights(folder: Path, labels: int) -> Path:
    """A checkpoint as train.py saves it, and without what the constructor computes."""
    generator = torch.Generator().manual_seed(labels)
    shapes = {
        "model.model.pixel_level_module.encoder": (4, 3, 8, 8),
        "model.model.prompt": (4, 256),
        "model.class_predictor": (labels + 1, 4),
        "audio_proj.0": (512, 128),
        "audio_proj.2": (256, 512),
    }
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
        state[f"{name}.bias"] = torch.zeros(shape[0])
    path = folder / f"{labels}.pth"
    torch.save(state, path)
    return path


def load(repo: Path | str, checkpoint: Path, **options: str) -> SteppingStones:
    chosen = {"repo": str(repo), "python": f"'{sys.executable}'", **options}
    adapter = load_adapter("stepping_stones", checkpoint=checkpoint, device=CPU, options=chosen)
    assert isinstance(adapter, SteppingStones)
    return adapter


def inputs(frames: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    pictures = torch.randint(0, 256, (2, frames, 3, 72, 96), generator=generator, dtype=torch.uint8)
    return pictures, torch.randn(2, frames, 128, generator=generator)


def own_scores(checkpoint: Path, pictures: Tensor, sound: Tensor) -> Tensor:
    """The miniature's scores [T, 2, 224, 224] for one clip, written out."""
    state = torch.load(checkpoint, weights_only=True)
    functional = torch.nn.functional

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    shrunk = functional.interpolate(pictures.float() / 255 - 0.5, size=64)
    encoder = "model.model.pixel_level_module.encoder"
    features = functional.conv2d(shrunk, state[f"{encoder}.weight"], state[f"{encoder}.bias"], stride=8)
    prompts = linear("model.model.prompt", linear("audio_proj.2", linear("audio_proj.0", sound).relu()))
    mixed = (features * prompts[:, :, None, None]).permute(0, 2, 3, 1)
    scores = linear("model.class_predictor", mixed).permute(0, 3, 1, 2)[:, :-1]
    return functional.interpolate(scores, size=(224, 224), mode="bilinear")


def test_mask_by_argmax_and_score_by_its_own_formula(repo: Path, tmp_path: Path) -> None:
    checkpoint = weights(tmp_path, 2)
    adapter = load(repo, checkpoint)
    assert not adapter.needs_clips
    pictures, sounds = inputs()
    answer = adapter.segment(adapter.encode_frames(pictures), sounds)
    assert isinstance(answer, Segmentation)
    assert answer.mask is not None
    for index in range(2):
        own = own_scores(checkpoint, pictures[index], sounds[index])
        certain = (own[:, 1] - own[:, 0]).abs() > 1e-5
        assert torch.equal(answer.mask[index][certain], (own[:, 1] > own[:, 0])[certain])
        expected = torch.sigmoid(2 * own[:, 1] - own[:, 0])
        torch.testing.assert_close(answer.probabilities[index], expected, atol=1e-5, rtol=0)
    assert 0.01 < answer.mask.float().mean() < 0.99
    # The two differ where 2 b - a and b - a have other signs.
    assert not torch.equal(answer.mask, answer.probabilities > 0.5)


def test_it_keeps_the_contract(repo: Path, tmp_path: Path) -> None:
    check_adapter(load(repo, weights(tmp_path, 2))).raise_if_failed()


@pytest.fixture(scope="module")
def semantic(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("avss")
    write_toy(folder / "data", "avss", clips=24, seed=4)
    table = read_dataset("avss", folder / "data", splits=["test"])
    return load_manifest(build(table, load_recipe("standard"), 42, folder / "build").manifest)


def test_avss_reads_first_stage_masks_of_each_condition(repo: Path, semantic: Manifest, tmp_path: Path) -> None:
    stage = evaluate(semantic, Oracle(), name="oracle", output=tmp_path, save_masks=True, score_size="224")
    adapter = load(repo, weights(tmp_path, 71), masks=str(stage.masks))
    assert adapter.needs_clips
    viewer = ClipViewer(semantic, semantic.data_root())
    clip_id = semantic.rows[0].clip_id
    rows = {row.condition: row for row in semantic.rows if row.clip_id == clip_id}
    pictures, sounds = inputs(len(rows["clean"].frames))
    encoded = adapter.encode_frames(pictures[:1], [viewer.of_row(rows["clean"])])
    answers = {name: adapter.segment(encoded, sounds[:1], [viewer.of_row(rows[name])]) for name in ("clean", "silence")}
    assert isinstance(answers["clean"], Tensor)
    assert answers["clean"].dtype == torch.int64
    # Under silence the first stage, here an oracle, found nothing; sound and pictures are the same.
    assert not torch.equal(answers["clean"], answers["silence"])
    report = check_adapter(adapter, build=semantic)
    assert report.passed, str(report)
    assert not report.warnings


def test_a_first_stage_of_other_clips_fails_the_clip(repo: Path, semantic: Manifest, tmp_path: Path) -> None:
    stage = evaluate(semantic, Oracle(), name="oracle", conditions=["clean"], output=tmp_path, save_masks=True)
    adapter = load(repo, weights(tmp_path, 71), masks=str(stage.masks))
    row = next(row for row in semantic.rows if row.condition == "noise")
    view = ClipViewer(semantic, semantic.data_root()).of_row(row)
    pictures, sounds = inputs(len(row.frames))
    encoded = adapter.encode_frames(pictures[:1], [view])
    with pytest.raises(ClipError, match=f"holds 0 of {len(row.frames)} masks of {row.clip_id} under noise"):
        adapter.segment(encoded, sounds[:1], [view])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (2, {"python": "no-such-python"}, "no-such-python"),
        (2, {"repo": "nowhere"}, "holds no avs/transformers"),
        (71, {}, "AVSS needs --option masks=DIR"),
        (71, {"masks": "nowhere.parquet"}, "nowhere.parquet: not found; expected masks.parquet of a first stage"),
        (5, {}, "holds no model.class_predictor.bias of 2 or 71 classes"),
        (2, {"colour": "red"}, "--option colour: unknown to stepping_stones"),
    ],
)
def test_unusable_options_are_refused(
    repo: Path, tmp_path: Path, labels: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        load(**{"repo": repo, "checkpoint": weights(tmp_path, labels), **options})


def test_options_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"found no --option python; expected .* tokenizers>=0.14,<0.19"):
        SteppingStones.load(weights(tmp_path, 2), CPU, repo=str(tmp_path))


def test_another_transformers_is_not_taken_for_the_changed_one(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "avs" / "transformers" / "models" / "mask2former").mkdir(parents=True)
    (tmp_path / "avs" / ".models").symlink_to(repo / "avs" / ".models")
    site = tmp_path / "site" / "transformers"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("")
    # A folder without __init__.py comes behind an installed package.
    monkeypatch.setenv("PYTHONPATH", str(site.parent))
    with pytest.raises(AdapterError, match="expected the changed copy"):
        load(tmp_path, weights(tmp_path, 2))


def test_a_checkpoint_of_another_network_is_refused(repo: Path, tmp_path: Path) -> None:
    state = torch.load(weights(tmp_path, 2), weights_only=True)
    state["extra.weight"] = state.pop("model.model.prompt.bias")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        AdapterError, match=r"2 tensors missing or unknown, first extra.weight, model.model.prompt.bias"
    ):
        load(repo, tmp_path / "other.pth")


# The real one


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "subset"), [("avs", "v1s"), ("avs", "v1m"), ("avss", "v2")])
def test_real_masks_are_those_of_its_own_loaders_and_forward_pass(
    folder: str,
    subset: str,
    published_checkout: Callable[[str], Path],
    published_environment: Callable[[str], Path],
    media: Callable[[str], Path],
    lay_out: Callable[..., dict[str, str]],
    embed: Callable[[Tensor], Tensor],
    tmp_path: Path,
) -> None:
    root, python = published_checkout("Stepping-Stones"), published_environment("Stepping-Stones")
    table = read_dataset("avss", media("avss"), splits=["test"])
    whole = load_manifest(build(table, load_recipe("standard"), 42, tmp_path / "build").manifest)
    clip_id = next(row.clip_id for row in whole.rows if row.clip_id.startswith(f"{subset}/"))
    rows = {row.condition: row for row in whole.rows if row.clip_id == clip_id}
    trees = lay_out(whole, tmp_path / "trees", [clip_id])
    sounds = {
        name: embed(torch.from_numpy(np.load(whole.log_mel_path(row))[row.log_mel_row])) for name, row in rows.items()
    }
    name = clip_id.rpartition("/")[2]
    np.savez(tmp_path / "sounds.npz", **{f"{key}|{name}": value.numpy() for key, value in sounds.items()})
    if folder == "avss":
        # Of this clip, and of the one that the adapter's check takes.
        asked = {clip_id, RealClip.of(whole).clean.clip_id}
        for row in (row for row in whole.rows if row.clip_id in asked):
            seed = list(rows).index(row.condition)
            write_first_stage(tmp_path / "masks" / row.condition / row.clip_id, len(row.frames), seed)
    job = {
        "root": str(root / folder),
        "subsets": [subset],
        "trees": trees,
        "embeddings": str(tmp_path / "sounds.npz"),
        "masks": str(tmp_path / "masks") if folder == "avss" else "",
        "cache": str(tmp_path / "cache"),
        "config": str(tmp_path / "config.json"),
        "checkpoint": str(tmp_path / "weights.pth"),
        "answers": str(tmp_path / "answers.npz"),
        "seed": 3,
        "backbone": {"depths": [1, 1, 1, 1], "embed_dim": 32, "num_heads": [1, 2, 4, 8], "hidden_size": 256},
        "settings": {"encoder_layers": 1, "decoder_layers": 3},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("stepping_stones_own.py")
    command = [str(python), "-B", "-W", "ignore", str(script), str(tmp_path / "job.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    options = {"config": str(tmp_path / "config.json"), "python": f"'{python}'"}
    if folder == "avss":
        options["masks"] = str(tmp_path / "masks")
    adapter = load(root, tmp_path / "weights.pth", **options)
    viewer = ClipViewer(whole, whole.data_root())
    frames = np.stack([read_frame(whole.picture_path(path, whole.data_root())) for path in rows["clean"].frames])
    pictures = torch.from_numpy(frames)[None]
    with np.load(tmp_path / "answers.npz") as archive:
        own = {key.partition("|")[0]: archive[key] for key in archive}
    assert own.keys() == rows.keys()
    for condition, row in rows.items():
        more = ([viewer.of_row(row)],) if adapter.needs_clips else ()
        answer = adapter.segment(adapter.encode_frames(pictures, *more), sounds[condition][None], *more)
        if isinstance(answer, Segmentation):
            background, foreground = own[condition][:, 0], own[condition][:, 1]
            assert answer.mask is not None
            assert np.array_equal(answer.mask[0].numpy(), own[condition].argmax(1) == 1)
            expected = 1 / (1 + np.exp(background - 2 * foreground))
            np.testing.assert_allclose(answer.probabilities[0], expected, atol=1e-6)
        else:
            assert np.array_equal(answer[0].numpy(), own[condition])
    assert len({array.tobytes() for array in own.values()}) > 1
    check_adapter(adapter, build=whole).raise_if_failed()


def write_first_stage(folder: Path, frames: int, seed: int) -> None:
    """Write masks of a rectangle, another one for each seed, as the first stage's save_mask.py does."""
    folder.mkdir(parents=True)
    for frame in range(frames):
        mask = np.zeros((224, 224), np.uint8)
        mask[20 * seed : 20 * seed + 90, 10 * frame : 10 * frame + 100] = 255
        Image.fromarray(mask).save(folder / f"{frame}.png")
