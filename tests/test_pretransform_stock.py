"""AST, HuBERT and CLAP from checkpoint folders of tiny networks with random weights, laid out as their owners do."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tokenizers
import torch
import transformers
from tiny_m2f import TINY as SMALLEST
from torch import Tensor

from avsrobust.cli.main import invoke
from avsrobust.errors import OptionError
from avsrobust.manifest import Manifest
from avsrobust.pretransform.base import Encoder, windows
from avsrobust.pretransform.encoders import load_encoder
from model_adapters.m2f.adapter import M2F
from model_adapters.m2f.checkpoint import save_bundle
from model_adapters.m2f.network import M2FNetwork
from model_adapters.m2f.queries import read_indices

CPU = torch.device("cpu")
RATE = 16000
AST_LABELS = ("Bark", "Meow", "Piano", "Speech, male", "Engine", "Rain")
WORDS = ("this", "is", "a", "sound", "of", "dog", "cat", "playing", "piano", "barking", ".")


def write_ast(folder: Path, seed: int = 0, *, classes: bool = True) -> Path:
    torch.manual_seed(seed)
    config = transformers.ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=128,
        num_mel_bins=32,
        id2label=dict(enumerate(AST_LABELS)),
        label2id={label: number for number, label in enumerate(AST_LABELS)},
    )
    kind = transformers.ASTForAudioClassification if classes else transformers.ASTModel
    network = kind(config)
    if classes:
        # Random weights hear the same in everything; these differ from sound to sound, on both sides of the threshold.
        with torch.no_grad():
            network.classifier.dense.weight.mul_(60)
    network.save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32).save_pretrained(folder)
    return folder


def write_hubert(folder: Path, seed: int = 0, layers: int = 2) -> Path:
    torch.manual_seed(seed)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    transformers.HubertModel(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def write_clap(folder: Path, seed: int = 0, *, tokenizer: bool = True, fusion: bool = False) -> Path:
    torch.manual_seed(seed)
    text = transformers.ClapTextConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        projection_dim=8,
    )
    audio = transformers.ClapAudioConfig(
        window_size=4,
        num_mel_bins=16,
        spec_size=64,
        patch_embeds_hidden_size=8,
        hidden_size=16,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        projection_dim=8,
        patch_size=4,
        patch_stride=[4, 4],
        num_classes=4,
        enable_fusion=fusion,
        enable_patch_layer_norm=True,
        fusion_num_hidden_layers=2,
    )
    config = transformers.ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=8)
    transformers.ClapModel(config).save_pretrained(folder)
    truncation = "fusion" if fusion else "rand_trunc"
    transformers.ClapFeatureExtractor(
        feature_size=16, max_length_s=2, sampling_rate=16000, fft_window_size=512, truncation=truncation
    ).save_pretrained(folder)
    if tokenizer:
        _tokenizer().save_pretrained(folder)
    return folder


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    special = ("<s>", "<pad>", "</s>", "<unk>")
    vocabulary = {word: number for number, word in enumerate((*special, *WORDS))}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")


def load(name: str, folder: Path, *, classes: bool = False, vocabulary: tuple[str, ...] = ()) -> Encoder:
    return load_encoder(name, folder, CPU, classes=classes, vocabulary=vocabulary)


def sound(seconds: int = 3, seed: int = 0) -> Tensor:
    """Noise of one loudness per second."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.logspace(-3, -1, seconds).repeat_interleave(RATE)
    return torch.randn(seconds * RATE, generator=generator) * loudness


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        "ast": write_ast(root / "ast"),
        "hubert": write_hubert(root / "hubert"),
        "clap": write_clap(root / "clap"),
        "fusion": write_clap(root / "fusion", tokenizer=False, fusion=True),
    }


def test_ast_gives_its_own_scores(folders: dict[str, Path]) -> None:
    encoder = load("ast", folders["ast"], classes=True)
    assert encoder.labels == AST_LABELS
    assert encoder.audio.sample_rate == RATE
    found = encoder.encode(sound())
    network = transformers.ASTForAudioClassification.from_pretrained(folders["ast"]).eval()
    extractor = transformers.ASTFeatureExtractor.from_pretrained(folders["ast"])
    values = extractor(windows(sound(), RATE), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        expected = torch.sigmoid(network(**values).logits)
    np.testing.assert_allclose(found.scores, expected.numpy(), atol=1e-5)
    assert found.embeddings.shape == (3, 16)
    assert found.embeddings.dtype == np.float32


def test_ast_without_classes_has_the_same_embeddings(folders: dict[str, Path]) -> None:
    named, plain = load("ast", folders["ast"], classes=True), load("ast", folders["ast"])
    assert plain.labels == ()
    assert plain.encode(sound()).scores.shape == (3, 0)
    np.testing.assert_allclose(plain.encode(sound()).embeddings, named.encode(sound()).embeddings, atol=1e-5)


def test_hubert_is_pooled_over_time(folders: dict[str, Path]) -> None:
    found = load("hubert", folders["hubert"]).encode(sound())
    network = transformers.HubertModel.from_pretrained(folders["hubert"]).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folders["hubert"])
    values = extractor(windows(sound(), RATE), sampling_rate=RATE, return_tensors="pt")["input_values"]
    with torch.no_grad():
        # Two layers: the last stands for the 7th.
        expected = network(values).last_hidden_state.mean(dim=1)
    np.testing.assert_allclose(found.embeddings, expected.numpy(), atol=1e-5)


def test_hubert_takes_the_seventh_layer(tmp_path: Path) -> None:
    folder = write_hubert(tmp_path, layers=9)
    found = load("hubert", folder).encode(sound(1))
    network = transformers.HubertModel.from_pretrained(folder).eval()
    network.encoder.layers = network.encoder.layers[:7]
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    values = extractor(windows(sound(1), RATE), sampling_rate=RATE, return_tensors="pt")["input_values"]
    with torch.no_grad():
        expected = network(values).last_hidden_state.mean(dim=1)
    np.testing.assert_allclose(found.embeddings, expected.numpy(), atol=1e-5)


def test_clap_embeddings_have_unit_length_and_need_no_text_tower(folders: dict[str, Path]) -> None:
    found = load("clap", folders["clap"]).encode(sound())
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    named = load("clap", folders["clap"], classes=True, vocabulary=("cat", "playing_piano")).encode(sound())
    np.testing.assert_allclose(named.embeddings, found.embeddings, atol=1e-5)


def test_clap_names_what_it_is_told_to(folders: dict[str, Path]) -> None:
    names = ("dog_barking", "cat", "playing_piano")
    encoder = load("clap", folders["clap"], classes=True, vocabulary=names)
    assert encoder.labels == names
    scores = encoder.encode(sound()).scores
    network = transformers.ClapModel.from_pretrained(folders["clap"]).eval()
    tokens = _tokenizer()(
        ["This is a sound of dog barking.", "This is a sound of cat.", "This is a sound of playing piano."],
        padding=True,
        return_tensors="pt",
    )
    features = transformers.ClapFeatureExtractor.from_pretrained(folders["clap"])(
        windows(sound(), RATE), sampling_rate=RATE, return_tensors="pt"
    )
    with torch.no_grad():
        answer = network(**features, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    np.testing.assert_allclose(scores, answer.logits_per_audio.softmax(dim=-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["ast", "hubert", "clap", "fusion"])
def test_a_second_depends_on_itself_alone(folders: dict[str, Path], name: str) -> None:
    """Whatever stands beside it in the batch, and whatever numpy's global generator has drawn before."""
    encoder = load("clap" if name == "fusion" else name, folders[name])
    whole = encoder.encode(sound()).embeddings
    for second in range(3):
        alone = encoder.encode(sound()[second * RATE : (second + 1) * RATE]).embeddings
        np.testing.assert_allclose(alone[0], whole[second], atol=1e-5)
    assert np.abs(np.diff(whole, axis=0)).max() > 1e-4


def test_identity_is_that_of_the_files(folders: dict[str, Path], tmp_path: Path) -> None:
    assert load("ast", write_ast(tmp_path / "same")).checksum == load("ast", folders["ast"]).checksum
    assert load("ast", write_ast(tmp_path / "other", seed=1)).checksum != load("ast", folders["ast"]).checksum


def test_loading_is_silent(folders: dict[str, Path], capfd: pytest.CaptureFixture[str], recwarn: object) -> None:
    load("clap", folders["clap"])
    load("ast", folders["ast"])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list(recwarn) == []  # type: ignore[call-overload]


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def _no_extractor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def _narrower(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 8}))


class Code:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (eval, ("open('ran', 'w')",))


def _code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_config, "found no readable config.json in it; expected a transformers checkpoint folder"),
        (_no_weights, "cannot be loaded as ASTForAudioClassification"),
        (_truncated, "cannot be loaded as ASTForAudioClassification"),
        (_narrower, "cannot be loaded as ASTForAudioClassification"),
        (_code, "cannot be loaded as ASTForAudioClassification"),
        (_no_extractor, r"found no usable feature extractor \(preprocessor_config\.json\)"),
    ],
)
def test_damaged_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(write_ast(tmp_path / "ast"))
    with pytest.raises(OptionError, match=message) as caught:
        load("ast", tmp_path / "ast", classes=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("config.json", "hidden_size", 10**9, r"hidden_size: found 1,000,000,000 as a number"),
        ("config.json", "num_hidden_layers", 10**6, r"num_hidden_layers: found 1,000,000 layers; expected at most 500"),
        ("config.json", "intermediate_size", 10**6, r"config.json asks for a network of 34,085,448,006 numbers"),
        ("config.json", "hidden_size", 16.5, "cannot be loaded as ASTForAudioClassification"),
        ("config.json", "hidden_size", "16", "cannot be loaded as ASTForAudioClassification"),
        ("preprocessor_config.json", "num_mel_bins", 10**6, r"num_mel_bins: found 1,000,000 bands"),
        ("preprocessor_config.json", "sampling_rate", float("inf"), "cannot be read as JSON"),
    ],
)
def test_configurations_of_other_networks(tmp_path: Path, name: str, key: str, value: object, message: str) -> None:
    folder = write_ast(tmp_path / "ast")
    if key == "intermediate_size":
        # Beyond what is harmless only as a whole.
        content = {
            **json.loads((folder / name).read_text()),
            "hidden_size": 1000,
            "num_attention_heads": 4,
            "num_hidden_layers": 17,
        }
    else:
        content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, key: value}))
    with pytest.raises(OptionError, match=message) as caught:
        load("ast", folder, classes=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "notes.txt"])
def test_only_regular_files_of_a_folder_are_opened(tmp_path: Path, name: str) -> None:
    folder = write_ast(tmp_path / "ast")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(OptionError, match=r"no readable config.json|is a pipe, not a regular file"):
        load("ast", folder)


def test_folders_of_other_models(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"found a model of type hubert; expected .*; take --encoder hubert"):
        load("ast", folders["hubert"])
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(OptionError, match=r"found a model of type bert; expected .*; name another folder"):
        load("clap", tmp_path)
    with pytest.raises(OptionError, match=r"found no folder; expected .* nothing is downloaded"):
        load("ast", Path("MIT/ast-finetuned-audioset-10-10-0.4593"))
    with pytest.raises(
        OptionError, match="--checkpoint: not given; expected a transformers checkpoint folder of hubert"
    ):
        load_encoder("hubert", None, CPU, classes=False)


def test_weights_that_are_not_there_are_not_drawn(tmp_path: Path) -> None:
    folder = write_ast(tmp_path / "ast", classes=False)
    assert load("ast", folder).encode(sound(1)).embeddings.shape == (1, 16)
    with pytest.raises(OptionError, match=r"lacks 4 weights of ASTForAudioClassification, for example classifier\."):
        load("ast", folder, classes=True)


def test_clap_without_tokenizer_names_no_classes(folders: dict[str, Path]) -> None:
    with pytest.raises(OptionError, match=r"found no tokenizer .*, which --classes needs"):
        load("clap", folders["fusion"], classes=True, vocabulary=("cat",))


def test_clap_that_would_cut_seconds_at_random(tmp_path: Path) -> None:
    folder = write_clap(tmp_path / "clap", tokenizer=False)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_length_s": 0.5, "nb_max_samples": 8000}))
    with pytest.raises(OptionError, match=r"takes 0\.5 s at a time and would cut windows at random"):
        load("clap", folder)


TINY = replace(SMALLEST, num_queries=12)


def test_from_sounds_to_gated_masks(
    folders: dict[str, Path],
    tmp_path: Path,
    tiny_build: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The commands of the README: class files of every row, then masks that are gated by them."""
    monkeypatch.chdir(tmp_path)
    build = ["--manifest", str(tiny_build.path)]
    made = ["pretransform", *build, "--encoder", "ast", "--checkpoint", str(folders["ast"])]
    assert invoke([*made, "--fit-split", "test", "--clusters", "4", "--queries", "12", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "classes/s4-seed42-ast\n"
    classes = tmp_path / captured.out.strip()
    mapped = json.loads((classes / "classes.json").read_text())
    assert list(mapped.values()) == list(range(len(mapped)))
    assert set(mapped) < set(AST_LABELS)
    clusters = set()
    for row in tiny_build.rows:
        for frame in read_indices(classes / row.condition / f"{row.clip_id}.pth", row.num_frames, 12):
            assert all(index < len(mapped) for index in frame[:-1])
            clusters.add(frame[-1] - len(mapped))
    assert clusters <= set(range(4))
    assert len(clusters) > 1
    bundle = tmp_path / "tiny.safetensors"
    save_bundle(bundle, M2FNetwork.seeded(TINY, 0), {}, torch.float32)
    tables = []
    for name, options in (("gated", ["queries=classes", f"classes={classes}"]), ("open", ["queries=all"])):
        asked = [part for option in options for part in ("--option", option)]
        run = [
            "evaluate",
            "--adapter",
            "model_adapters.m2f.adapter:M2F",
            *build,
            "--checkpoint",
            str(bundle),
            "--output",
            name,
            "--device",
            "cpu",
        ]
        assert invoke([*run, *asked]) == 0
        tables.append(pd.read_parquet(capsys.readouterr().out.strip()))
    assert len(tables[0]) == len(tables[1]) == len(tiny_build.rows) * 5
    gated, ungated = (np.stack(table["outside"].to_list()) for table in tables)
    assert (gated != ungated).any()
    files = M2F.load(bundle, CPU, classes=str(classes))._files
    assert files is not None
    gates = {row.condition: files.gate(row.clip_id, row.condition, None, 5, 12) for row in tiny_build.rows[:4]}
    assert not torch.equal(gates["clean"], gates["noise"])


def test_wrong_folder_is_one_line(
    folders: dict[str, Path], tiny_build: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ["pretransform", "--manifest", str(tiny_build.path), "--encoder", "ast", "--output", str(tmp_path / "out")]
    assert invoke([*made, "--fit-split", "test", "--checkpoint", str(folders["clap"])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: --checkpoint ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
