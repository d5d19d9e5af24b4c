"""The adapters behind the benchmark's interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_m2f import TINY
from torch import Tensor

from avsrobust.adapters.base import ClipView
from avsrobust.adapters.calling import AdapterCaller
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.manifest import Manifest
from avsrobust.testing import check_adapter
from model_adapters.m2f import adapter as adapter_module
from model_adapters.m2f.adapter import M2F, M2FDebias, M2FRobust
from model_adapters.m2f.checkpoint import save_bundle
from model_adapters.m2f.config import M2FConfig
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.readout import class_scores, resize
from model_adapters.m2f.settings import parse_options, strategy

GOLDEN = Path(__file__).parent / "golden"
FORK = GOLDEN / "m2f_fork.safetensors"
CPU = torch.device("cpu")


def bundle(folder: Path, config: M2FConfig = TINY, seed: int = 0, **info: str) -> Path:
    path = folder / f"{config.readout}-{config.query_gate}-{seed}.safetensors"
    save_bundle(path, M2FNetwork.seeded(config, seed), info, torch.float32)
    return path


def row(seed: int = 1, clip_id: str = "group/clip0", condition: str = "clean", frames: int = 5) -> ClipView:
    return ClipView("s4", "test", clip_id, condition, None, 0, seed, (), None, frames, 16_000)


def clips(count: int = 2, frames: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, frames, 3, 40, 56), dtype=torch.uint8, generator=generator)
    return pictures, torch.randn(count, frames, 1, 96, 64, generator=generator)


@pytest.mark.parametrize("adapter", [M2F, M2FDebias, M2FRobust])
def test_contract(tmp_path: Path, adapter: type[M2F]) -> None:
    check = check_adapter(adapter, checkpoint=bundle(tmp_path))
    assert check.passed, str(check)


def test_contract_of_a_published_checkpoint() -> None:
    check = check_adapter(M2F, checkpoint=FORK, image_size="96")
    assert check.passed, str(check)


def test_audio_is_what_the_checkpoint_hears(tmp_path: Path) -> None:
    assert M2F.load(bundle(tmp_path), CPU).audio.kind == "log_mel"
    assert M2F.load(FORK, CPU).audio.kind == "embedding"
    assert M2F.audio.kind == "log_mel"


def test_probabilities_of_the_networks_size(tmp_path: Path) -> None:
    adapter = M2F.load(bundle(tmp_path), CPU)
    pictures, sound = clips()
    masks = adapter.segment(adapter.encode_frames(pictures), sound, [row(), row(2)])
    assert masks.shape == (2, 5, 64, 64)
    assert 0 <= float(masks.min()) < float(masks.max()) <= 1
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(pictures), sound), masks)


def test_debiasing_depends_on_the_rows_seed_and_on_nothing_else_of_it(tmp_path: Path) -> None:
    adapter = M2FDebias.load(bundle(tmp_path), CPU)
    pictures, sound = clips(1)
    encoded = adapter.encode_frames(pictures)
    first = adapter.segment(encoded, sound, [row(1)])
    torch.manual_seed(3)
    other = replace(row(1), clip_id="x", condition="noise")
    assert torch.equal(adapter.segment(encoded, sound, [other]), first)
    assert not torch.equal(adapter.segment(encoded, sound, [row(2)]), first)
    plain = M2FDebias.load(bundle(tmp_path), CPU, debias="none")
    assert not torch.allclose(plain.segment(encoded, sound, [row(1)]), first, atol=1e-4)
    with pytest.raises(AdapterError, match="need clips; hand them to segment"):
        adapter.segment(encoded, sound)


def test_no_noise_is_no_debiasing(tmp_path: Path) -> None:
    """At step 0 almost all of the signal is left: the two branches hear nearly the same."""
    path = bundle(tmp_path)
    pictures, sound = clips(1)
    plain, early, late = (
        M2FDebias.load(path, CPU, **options) for options in ({"debias": "none"}, {"timestep": "0"}, {"timestep": "99"})
    )
    encoded = plain.encode_frames(pictures)
    masks = [adapter.segment(encoded, sound, [row()]) for adapter in (plain, early, late)]
    assert (masks[1] - masks[0]).abs().mean() < 0.2 * (masks[2] - masks[0]).abs().mean()


def test_bundle_says_how_to_debias_and_only_the_debiased_adapter_listens(tmp_path: Path) -> None:
    config = replace(TINY, query_gate="learned")
    path = bundle(tmp_path, config, debias="all_queries")
    pictures, sound = clips(1)
    debiased, plain = M2FDebias.load(path, CPU), M2F.load(path, CPU)
    encoded = plain.encode_frames(pictures)
    gated = plain.segment(encoded, sound)
    opened = M2F.load(path, CPU, queries="all").segment(encoded, sound, [row()])
    contrasted = torch.logit(debiased.segment(encoded, sound))
    torch.testing.assert_close(contrasted, 2 * torch.logit(gated) - torch.logit(opened), atol=1e-2, rtol=1e-2)
    assert not torch.allclose(gated, opened, atol=1e-3)


def test_the_visual_only_network_runs_once_per_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = bundle(tmp_path), bundle(tmp_path, seed=5)
    pictures, sound = clips(1)
    adapter = M2FDebias.load(path, CPU, visual_only=str(other))
    encoded = adapter.encode_frames(pictures)
    assert encoded.visual_only is not None
    assert encoded.visual_only.shape == (5, 16, 16)
    monkeypatch.setattr(M2F, "_visual_only_logits", lambda *_: pytest.fail("run again"))
    plain = torch.logit(M2F.load(path, CPU).segment(encoded, sound))
    found = torch.logit(adapter.segment(encoded, sound))
    expected = 2 * plain - torch.nn.functional.interpolate(encoded.visual_only[None], (64, 64), mode="bilinear")
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)


def test_class_files_gate_the_queries(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    for condition, indices in (("clean", [0, 1]), ("noise", [5])):
        (tmp_path / "classes" / condition).mkdir(parents=True)
        torch.save([indices] * 5, tmp_path / "classes" / condition / "clip0.pth")
    adapter = M2F.load(path, CPU, classes=str(tmp_path / "classes"))
    pictures, sound = clips(1)
    encoded = adapter.encode_frames(pictures)
    clean = adapter.segment(encoded, sound, [row()])
    noise = adapter.segment(encoded, sound, [row(condition="noise")])
    assert not torch.allclose(clean, noise, atol=1e-3)
    with pytest.raises(AdapterError, match="found no class file of clip group/clip0 under silence sound"):
        adapter.segment(encoded, sound, [row(condition="silence")])
    torch.save([[6]] * 5, tmp_path / "classes" / "noise" / "clip0.pth")
    with pytest.raises(AdapterError, match=r"clip0\.pth: found query index 6; expected 0 to 5"):
        adapter.segment(encoded, sound, [row(condition="noise")])


def test_semantic_scores(tmp_path: Path) -> None:
    config = replace(TINY, num_labels=71, readout="semantic", readout_labels=71)
    path = bundle(tmp_path, config)
    pictures, sound = clips(1)
    adapter = M2F.load(path, CPU)
    encoded = adapter.encode_frames(pictures)
    scores = adapter.segment(encoded, sound)
    assert scores.shape == (1, 5, 71, 16, 16)
    assert float(scores.min()) >= 0
    reference = M2F.load(path, CPU, behaviour="reference").segment(encoded, sound)
    assert reference.shape == (1, 5, 71, 64, 64)
    network = adapter.network
    with torch.inference_mode():
        queries, _ = network.decode_queries(encoded.frames, network.embed_audio(sound[0]))
        expected = class_scores(queries[0].classes, resize(queries[0].masks, (64, 64)), None, 71)
    torch.testing.assert_close(reference[0], expected, atol=1e-5, rtol=1e-4)


def test_reference_behaviour_gives_the_published_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: class files, the noise as stored, frames as published; probabilities of golden debiased maps."""
    with np.load(GOLDEN / "m2f_fork_io.npz") as archive:
        stored = {key: torch.from_numpy(archive[key]) for key in archive.files if key.startswith("B_s0_")}
    lists = [[int(index) for index in torch.nonzero(frame > 0.5)] for frame in stored["B_s0_class_emb_used"]]
    torch.save(lists, tmp_path / "clip0.pth")
    monkeypatch.setattr(adapter_module, "row_noise", lambda *_: stored["B_s0_eps"][:, 0])
    adapter = M2FDebias.load(FORK, CPU, behaviour="reference", classes=str(tmp_path))
    frames = stored["B_s0_image_u8_64"].repeat_interleave(6, dim=-2).repeat_interleave(6, dim=-1)
    # The published post-processing first takes the maps to the size of the frame on disk, 72 x 128 there.
    encoded = replace(adapter.encode_frames(frames[None]), size=(72, 128))
    masks = adapter.segment(encoded, stored["B_s0_audio"], [row()])
    assert masks.shape == (1, 5, 256, 256)
    expected = torch.sigmoid(stored["B_s0_debiased_256_every8th"])
    torch.testing.assert_close(masks[0, :, ::8, ::8], expected, atol=1e-3, rtol=0)


def test_bfloat16_stays_near(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    pictures, sound = clips(1)
    exact, rounded = (M2F.load(path, CPU, precision=precision) for precision in ("float32", "bfloat16"))
    masks = [adapter.segment(adapter.encode_frames(pictures), sound) for adapter in (exact, rounded)]
    assert masks[1].dtype == torch.float32
    assert float((masks[0] - masks[1]).abs().mean()) < 0.05


def test_bundled_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_module, "WEIGHTS", tmp_path)
    with pytest.raises(AdapterError, match=r"--option weights=m2f_debias: no such weights .*\(found: none\)"):
        M2FDebias.load(None, CPU)
    bundle(tmp_path).rename(tmp_path / "m2f_debias.safetensors")
    assert M2FDebias.load(None, CPU).network.config == TINY
    assert M2F.load(None, CPU, weights="m2f_debias").network.config == TINY
    with pytest.raises(AdapterError, match=r"--option weights=other: .*\(found: m2f_debias\)"):
        M2F.load(None, CPU, weights="other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"debais": "none"}, "--option debais: unknown; did you mean 'debias'"),
        ({"debias": "nois"}, "--option debias=nois: expected none or noise .*did you mean 'noise'"),
        ({"behaviour": "published"}, "--option behaviour=published: expected paper or reference"),
        ({"timestep": "100"}, "--option timestep=100: expected a whole number from 0 to 99"),
        ({"timestep": "-1"}, "--option timestep=-1: expected a whole number"),
        ({"image_size": "big"}, "--option image_size=big: expected a whole number from 32 to 4096"),
        ({"config": "none.json"}, "--option config=none.json: no such file"),
        ({"classes": "nowhere"}, "--option classes=nowhere: no such folder"),
        ({"queries": "classes"}, "--option queries=classes: needs the class files"),
        ({"queries": "all", "classes": "."}, "--option classes=.: has no part in queries=all"),
        ({"debias": "visual_only"}, "--option debias=visual_only: needs the weights of the network without audio"),
        ({"debias": "noise", "visual_only": str(FORK)}, "has no part in debias=noise"),
        ({"debias": "all_queries"}, "all queries are active already"),
        ({"behaviour": "reference", "visual_only": str(FORK)}, "the published code has no such branch"),
        (
            {"head": "semantic", "visual_only": str(FORK)},
            "reads 22 classes as foreground; expected the head of the checkpoint, 71",
        ),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, str], message: str) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        M2F.load(FORK, CPU, **options)
    assert "\n" not in str(caught.value)


def test_the_old_name_of_visual_only_is_read(tmp_path: Path) -> None:
    other = bundle(tmp_path, seed=5)
    assert parse_options({"debias": "deaf", "deaf": str(other)}) == parse_options(
        {"debias": "visual_only", "visual_only": str(other)}
    )
    # As bundles of earlier releases say it.
    assert strategy(parse_options({}), "deaf") == "visual_only"


def test_bundle_with_an_unknown_strategy(tmp_path: Path) -> None:
    path = bundle(tmp_path, debias="magic")
    with pytest.raises(AdapterError, match="the checkpoint names debias=magic; expected none or noise"):
        M2FDebias.load(path, CPU)
    assert M2F.load(path, CPU).network.config == TINY


def test_configuration_file_overrules_the_shapes(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"image_size": 96, "num_queries": 50}))
    with pytest.raises(
        AdapterError, match=r"2 of another shape \(.*queries_embedder\.weight: \[100, 32\] found, \[50, 32\]"
    ):
        M2F.load(FORK, CPU, config=str(config))


@pytest.mark.parametrize("at_once", [1, 8])
def test_scores_are_the_same_bytes_for_conditions_together_and_apart(
    tmp_path: Path, make_build: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """One call of the decoder for all conditions, or one each as for an adapter without `segment_many`."""
    build, checkpoint = make_build(clips=2), bundle(tmp_path)
    together = evaluate(build, M2FDebias.load(checkpoint, CPU), name="m2f", output=tmp_path / "together")

    class Apart(M2FDebias):
        def segment(self, encoded: Any, audio: Tensor, clips: Sequence[ClipView] = ()) -> Tensor:
            return super().segment(encoded, audio, clips)

    assert AdapterCaller(M2FDebias.load(checkpoint, CPU), "m2f", CPU).segments_many
    assert not AdapterCaller(Apart.load(checkpoint, CPU), "m2f", CPU).segments_many
    if at_once == 1:
        # Memory for one condition at a time.
        monkeypatch.setattr(adapter_module, "_DECODER_BYTES", 1)
        apart = evaluate(build, M2FDebias.load(checkpoint, CPU), name="m2f", output=tmp_path / "apart")
    else:
        apart = evaluate(build, Apart.load(checkpoint, CPU), name="m2f", output=tmp_path / "apart")
    assert together.failed == apart.failed == ()
    first, second = (pd.read_parquet(report.scores) for report in (together, apart))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_evaluation_is_the_same_again(tmp_path: Path, make_build: Callable[..., Manifest]) -> None:
    """The noise of debiasing comes from the rows: neither torch's generator nor the clips before have a say."""
    build = make_build(clips=2)
    adapter = M2FDebias.load(bundle(tmp_path), CPU)
    scores = []
    for number, conditions in enumerate((None, None, ["clean", "noise"])):
        torch.manual_seed(number)
        report = evaluate(build, adapter, name="m2f", output=tmp_path / str(number), conditions=conditions)
        assert report.failed == ()
        table = pd.read_parquet(report.scores)
        scores.append(table[table["condition"].isin(["clean", "noise"])].reset_index(drop=True))
    pd.testing.assert_frame_equal(scores[0], scores[1])
    pd.testing.assert_frame_equal(scores[0], scores[2])
