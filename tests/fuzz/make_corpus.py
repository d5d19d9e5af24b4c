"""Write the corpus: a few small, good files for every reader. Run it where a format changes.

PYTHONPATH=tests/samples python tests/fuzz/make_corpus.py
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import manifest_rows as rows
import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image
from safetensors.torch import save

from avsrobust.adapters.remote import avsrobust_worker as protocol
from avsrobust.bundled import recipes_folder
from avsrobust.datasets.taxonomy import AVSS_CLASSES
from avsrobust.manifest import write_manifest
from avsrobust.metrics import concatenate, frame_statistics
from avsrobust.pretransform.layout import QueryLayout
from avsrobust.results import INDEX_COLUMNS, FailedClip, Run, ScoreInfo, Scores, write_run, write_scores
from avsrobust.rle import encode_masks
from avsrobust.seal import SEAL_NAME
from avsrobust.stored_masks import masks_table, write_masks
from model_adapters.m2f.config import PUBLISHED, M2FConfig

CORPUS = Path(__file__).parent / "corpus"
GENERATOR = np.random.default_rng(8)
MASKS = GENERATOR.random((3, 6, 8)) > 0.5

S4_TABLE = 'name,start,category,split\r\nabc_1,0,dog_barking,test\r\n-a_b,5,"cat_meowing",train\r\n\r\n'
AVSS_TABLE = (
    "\ufeffvid,uid,s_min,s_sec,a_obj,split,label\nv,v_0_5000,0,5,dog_man,test,v1s\n"
    'w,w_0_10000,0,10,"guitar, ""x""",val,v2\n'
)

OFFSCREEN = replace(rows.OFFSCREEN, level=3.0)
INFO = replace(rows.INFO, recipe={"name": "standard", "conditions": {"clean": {}}}, fingerprints={"test": "0" * 64})


def put(name: str, content: bytes | str) -> Path:
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts() -> None:
    put("tables/s4_meta_data.csv", S4_TABLE)
    put("tables/metadata.csv", AVSS_TABLE)
    recipes = recipes_folder()
    put("build_recipes/standard.yaml", (recipes / "standard.yaml").read_bytes())
    put("build_recipes/reference.yaml", (recipes / "reference.yaml").read_bytes())
    put("train_recipes/toy.yaml", (recipes / "m2f_debias_toy.yaml").read_bytes())
    put("train_recipes/avss.yaml", (recipes / "m2f_avss.yaml").read_bytes())
    put("class_maps/map.yaml", "Bark: 0\nMeow: 1\n'Piano': 3\n")
    put("class_maps/map.json", '{"Bark": 0, "Piano": 2}')
    put("label_index/label2idx.json", json.dumps({name: index for index, name in enumerate(AVSS_CLASSES, start=1)}))
    put("m2f_configs/own.json", M2FConfig().to_json())
    put("m2f_configs/hugging_face.json", json.dumps(hugging_face()))


def hugging_face() -> dict[str, object]:
    backbone = {
        **{
            key: getattr(PUBLISHED, key)
            for key in ("image_size", "embed_dim", "depths", "num_heads", "window_size", "mlp_ratio")
        },
        "model_type": "swin",
    }
    own = {key: getattr(PUBLISHED, key) for key in ("hidden_dim", "encoder_layers", "decoder_layers", "num_queries")}
    names = {str(label): "?" for label in range(150)}
    return {"backbone_config": backbone, "dim_feedforward": 2048, "num_attention_heads": 8, "id2label": names, **own}


def sounds() -> None:
    samples = (GENERATOR.uniform(-0.5, 0.5, (400, 2)) * 32768).astype(np.int16)
    plain = io.BytesIO()
    with wave.open(plain, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(samples[:, 0].tobytes())
    put("sounds/plain.wav", plain.getvalue())
    put("sounds/stream.wav", plain.getvalue()[:40] + struct.pack("<L", 2**32 - 1) + plain.getvalue()[44:])
    for name, options in {
        "float": {"subtype": "FLOAT"},
        "extensible": {"subtype": "PCM_16", "format": "WAVEX"},
    }.items():
        stream = io.BytesIO()
        soundfile.write(stream, samples / 32768, 44_100, **{"format": "WAV", **options})
        put(f"sounds/{name}.wav", stream.getvalue())


def pictures() -> None:
    colours = Image.fromarray(GENERATOR.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    for name, picture, options in (
        ("frames/frame.png", colours, {"format": "PNG"}),
        ("frames/frame.jpg", colours, {"format": "JPEG"}),
        ("frames/progressive.jpg", colours, {"format": "JPEG", "progressive": True}),
        ("binary_masks/grey.png", Image.fromarray(MASKS[0].astype(np.uint8) * 255), {"format": "PNG"}),
        ("binary_masks/bits.png", Image.fromarray(MASKS[0]), {"format": "PNG"}),
        ("binary_masks/palette.png", Image.fromarray(MASKS[0].astype(np.uint8)).convert("P"), {"format": "PNG"}),
        ("binary_masks/alpha.png", colours.convert("RGBA"), {"format": "PNG"}),
        ("class_masks/ids.png", Image.fromarray(MASKS[0].astype(np.uint8) * 21), {"format": "PNG"}),
    ):
        stream = io.BytesIO()
        picture.save(stream, **options)
        put(name, stream.getvalue())


def arrays() -> None:
    np.save(put("npy/masks.npy", b""), MASKS.astype(np.float32))
    np.savez(put("npz/plain.npz", b""), masks=MASKS)
    np.savez_compressed(put("npz/packed.npz", b""), masks=MASKS.astype(np.float16), other=np.arange(5))
    # Without the hour in it: the same bytes every time.
    for path in (CORPUS / "npz").iterdir():
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: (archive.read(member), member.compress_type) for member in archive.infolist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, (content, compression) in members.items():
                archive.writestr(zipfile.ZipInfo(name), content, compression)


def weights() -> None:
    tensors = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.bias": torch.zeros(2, dtype=torch.float16),
        "n": torch.tensor(3),
    }
    torch.save(tensors, put("weights/zip.pth", b""))
    torch.save({"state_dict": tensors, "epoch": 3}, put("weights/older.pth", b""), _use_new_zipfile_serialization=False)
    put("weights/plain.safetensors", save(tensors, {"format": "avsrobust.m2f", "config": M2FConfig().to_json()}))
    torch.save([[0, 3], [1, 3]], put("class_files/lists.pth", b""))
    torch.save([torch.tensor([0, 2]), torch.tensor([1])], put("class_files/tensors.pth", b""))
    layout = QueryLayout("ast", None, ("Bark", "Meow"), {"Bark": 0}, 0.1, np.eye(2, 4, dtype=np.float32), {"clips": 3})
    put("layouts/clusters.safetensors", layout.to_bytes())


def masks() -> None:
    counts = encode_masks(MASKS)
    put("rle/masks.txt", "".join(f"6 8 {string}\n" for string in counts))
    size = [6, 8]
    entries = [{"size": size, "counts": counts[0]}, {"segmentation": {"size": size, "counts": [10, 20, 18]}}]
    put("mask_json/clip.json", json.dumps(entries))
    records = [{"clip_id": "a/b", "condition": "clean", "frame": 0, "level": -3.0, "split": "test", **entries[0]}]
    put("mask_json/records.json", json.dumps({"annotations": records}))
    write_masks(
        put("mask_tables/masks.parquet", b""), [masks_table(rows.CLEAN, MASKS[:2]), masks_table(OFFSCREEN, MASKS[1:])]
    )


def tables() -> None:
    write_manifest(put("manifests/manifest.parquet", b""), [rows.CLEAN, OFFSCREEN], INFO)
    # The seal would find every change before the manifest is read.
    (CORPUS / "manifests" / SEAL_NAME).unlink()
    statistics = concatenate([frame_statistics(mask[None].astype(np.float32), MASKS[:1]) for mask in MASKS[:2]])
    records = {
        "split": ["test"] * 2,
        "clip_id": ["a"] * 2,
        "labels": [["dog"]] * 2,
        "condition": ["clean", "noise"],
        "polarity": ["positive", "negative"],
        "level": [None, 3.0],
        "frame": [0, 0],
    }
    index = pd.DataFrame({name: records.get(name, [None] * 2) for name in INDEX_COLUMNS})
    info = ScoreInfo("oracle", "s4", 42, (FailedClip("test", "b", "no"),), "standard")
    write_scores(put("scores/scores.parquet", b""), Scores(info, index, statistics))
    write_run(put("runs/run.json", b""), Run("oracle", "s4", {"options": {"a": 1}, "wall_time_s": 1.5}))


def messages() -> None:
    ready = {"audio": ["waveform", 16000], "version": protocol.PROTOCOL_VERSION}
    put("messages/ready.bin", b"".join(map(bytes, protocol.encode_message("ready", ready))))
    answer = [MASKS.astype(np.float32)[None], MASKS.astype(np.uint8)]
    put("messages/masks.bin", b"".join(map(bytes, protocol.encode_message("masks", {"names": ["a"]}, answer))))


def main() -> None:
    shutil.rmtree(CORPUS, ignore_errors=True)
    for make in (texts, sounds, pictures, arrays, weights, masks, tables, messages):
        make()
    sizes = {path: path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()}
    sys.stdout.write(f"{len(sizes)} files, {sum(sizes.values()):,} bytes, at most {max(sizes.values()):,}\n")


if __name__ == "__main__":
    main()
