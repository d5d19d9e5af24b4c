from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsrobust.datasets.dataset import DataSet
from avsrobust.datasets.read import read_dataset
from avsrobust.datasets.sound_contents import SHORTEST_S
from avsrobust.manifest_values import COLUMNS

DATA = "Single-source/s4_data"
FRAME = f"{DATA}/visual_frames/test/dog_barking/b_1/b_1_3.png"
MASK = f"{DATA}/gt_masks/test/dog_barking/b_1/b_1_3.png"
SOUND = f"{DATA}/audio_wav/test/dog_barking/b_1.wav"


def picture(size: tuple[int, int], mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    return stream.getvalue()


def only_b_1_is_out(data: DataSet) -> None:
    assert {finding.clip_id for finding in data.findings} == {"dog_barking/b_1"}
    assert [clip.clip_id for clip in data.clips] == ["playing_piano/a_1", "male_speech/d_1", "helicopter/c_1"]


@pytest.mark.parametrize("path", [FRAME, MASK, SOUND])
def test_a_missing_file_is_told_from_a_broken_one(s4_root: Any, path: str) -> None:
    (s4_root.root / path).unlink()
    missing = read_dataset("s4", s4_root.root)
    only_b_1_is_out(missing)
    assert [(finding.path, finding.found) for finding in missing.findings] == [(path, "no file")]
    (s4_root.root / path).write_bytes(b"")
    empty = read_dataset("s4", s4_root.root)
    only_b_1_is_out(empty)
    assert [(finding.path, finding.found) for finding in empty.findings] == [(path, "an empty file (0 bytes)")]


@pytest.mark.parametrize("path", [FRAME, MASK])
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:-12], "a PNG file without its end (truncated)"),
        (lambda content: content[:20], "a damaged picture"),
        (lambda content: b"<html>not here</html>", "a web page"),
        (lambda content: content[:12] + b"XXXX" + content[16:], "cut off in its header"),
    ],
    ids=["truncated", "cut in the header", "html", "broken chunk"],
)
def test_broken_pictures_are_found_without_decoding(
    s4_root: Any, path: str, damage: Callable[[bytes], bytes], found: str
) -> None:
    file = s4_root.root / path
    file.write_bytes(damage(file.read_bytes()))
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    (finding,) = data.findings
    assert finding.path == path
    assert found in finding.found
    assert finding.expected.startswith("a whole PNG or JPEG picture")


def test_a_truncated_jpeg_is_found(avsbench: Any) -> None:
    avsbench.semantic([("a_0_5000", "dog", "test", "v1m")])
    frame = avsbench.root / "AVSBench_semantic/v1m/a_0_5000/frames/2.jpg"
    frame.write_bytes(frame.read_bytes()[:-2])
    (finding,) = read_dataset("avss", avsbench.root).findings
    assert finding.found == "a JPEG file without its end (truncated)"


def test_bytes_after_a_pictures_end_do_no_harm(s4_root: Any) -> None:
    with (s4_root.root / FRAME).open("ab") as stream:
        stream.write(b"\0" * 100)
    assert read_dataset("s4", s4_root.root).findings == ()


def test_a_mask_of_another_size_than_its_frame(s4_root: Any) -> None:
    s4_root.write(MASK, picture((12, 16), "L"))
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert str(data.findings[0]) == f"{MASK}: found a mask of 12x16 pixels; expected its frame's size, 16x12"


def test_frames_of_different_sizes(s4_root: Any) -> None:
    s4_root.write(FRAME, picture((8, 8)))
    s4_root.write(MASK, picture((8, 8), "L"))
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert [finding.found for finding in data.findings] == ["frames of the sizes 16x12, 8x8"]


@pytest.mark.parametrize("extra", ["b_1_6.png", "b_1_0.png"])
def test_more_frames_than_expected(s4_root: Any, extra: str) -> None:
    s4_root.write(f"{DATA}/visual_frames/test/dog_barking/b_1/{extra}", picture((16, 12)))
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert [(finding.found, finding.expected) for finding in data.findings] == [("6 frames", "5")]


@pytest.mark.parametrize("extra", ["Thumbs.db", "._b_1_1.png", "b_1_x.png", "other_1.png", "b_1_1.txt"])
def test_other_files_beside_the_frames_do_no_harm(s4_root: Any, extra: str) -> None:
    s4_root.write(f"{DATA}/visual_frames/test/dog_barking/b_1/{extra}", b"x")
    assert read_dataset("s4", s4_root.root).findings == ()


@pytest.mark.parametrize(("folder", "count"), [("visual_frames", 5), ("gt_masks", 5)])
def test_a_missing_folder_is_one_finding(s4_root: Any, folder: str, count: int) -> None:
    shutil.rmtree(s4_root.root / DATA / folder / "test/dog_barking/b_1")
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    what = "frames" if folder == "visual_frames" else "masks"
    assert [(finding.found, finding.expected) for finding in data.findings] == [("no folder", f"{count} {what} in it")]


def test_a_clip_that_is_not_there_at_all_is_one_finding(s4_root: Any) -> None:
    for folder in ("visual_frames", "gt_masks"):
        shutil.rmtree(s4_root.root / DATA / folder / "test/dog_barking")
    (s4_root.root / SOUND).unlink()
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert [finding.found for finding in data.findings] == ["nothing of this clip (missing)"]


def test_a_sound_of_the_wrong_kind_is_told_with_what_is_expected(s4_root: Any) -> None:
    s4_root.write(SOUND, b"ID3 this is an mp3" * 10)
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    (finding,) = data.findings
    assert finding.path == SOUND
    assert finding.found == "an MP3 file, or one with an ID3 tag in front"
    assert finding.expected.startswith("RIFF/WAVE, 16-bit PCM")


def test_a_folder_in_place_of_a_sound(s4_root: Any) -> None:
    (s4_root.root / SOUND).unlink()
    (s4_root.root / SOUND).mkdir()
    (finding,) = read_dataset("s4", s4_root.root).findings
    assert str(finding).startswith(f"{SOUND}: found a file that cannot be read (Is a directory); expected a wav file")


def test_a_sound_shorter_than_manifests_hold_is_a_finding(s4_root: Any) -> None:
    soundfile.write(s4_root.root / SOUND, np.ones(44, np.int16), 44100, subtype="PCM_16")
    (finding,) = read_dataset("s4", s4_root.root).findings
    assert (finding.found, finding.expected) == ("44 samples at 44100 Hz", "a recording of at least 0.001 s")
    soundfile.write(s4_root.root / SOUND, np.ones(45, np.int16), 44100, subtype="PCM_16")
    data = read_dataset("s4", s4_root.root)
    assert data.findings == ()
    assert COLUMNS["duration_s"].low == SHORTEST_S


def test_a_missing_picture_of_almost_the_name_is_named(s4_root: Any) -> None:
    (s4_root.root / MASK).rename(s4_root.root / MASK.replace("_3.png", "_3.PNG"))
    (finding,) = read_dataset("s4", s4_root.root).findings
    assert str(finding) == f"{MASK}: found no file; expected mask 3 of 5; did you mean 'b_1_3.PNG'?"


def test_a_sound_without_samples(s4_root: Any) -> None:
    from wave import open as open_wave

    with (s4_root.root / SOUND).open("wb") as stream, open_wave(stream, "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert data.findings[0].found == "0 samples"


def test_a_short_sound_is_noted_but_fine(s4_root: Any) -> None:
    from wave import open as open_wave

    with (s4_root.root / SOUND).open("wb") as stream, open_wave(stream, "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(bytes(2 * 16000))
    data = read_dataset("s4", s4_root.root)
    assert data.findings == ()
    assert "1 clips have a sound shorter than their frames last" in data.notes


def test_a_folder_in_a_files_place_is_a_finding(s4_root: Any) -> None:
    (s4_root.root / FRAME).unlink()
    (s4_root.root / FRAME).mkdir()
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert data.findings[0].found == "a file that cannot be read (Is a directory)"


def test_a_link_to_nothing_is_missing(s4_root: Any) -> None:
    (s4_root.root / FRAME).unlink()
    (s4_root.root / FRAME).symlink_to("nowhere.png")
    data = read_dataset("s4", s4_root.root)
    only_b_1_is_out(data)
    assert data.findings[0].found == "no file"


def test_a_name_too_long_for_the_file_system_is_a_finding(s4_root: Any) -> None:
    rows = [("x" * 300, 0, "dog_barking", "test"), ("a_1", 0, "playing_piano", "test")]
    s4_root.csv("Single-source/s4_meta_data.csv", ("name", "start", "category", "split"), rows)
    data = read_dataset("s4", s4_root.root)
    assert [clip.clip_id for clip in data.clips] == ["playing_piano/a_1"]
    (finding,) = data.findings
    assert finding.found.startswith(f"the name '{'x' * 80}")


def test_every_problem_is_reported_in_one_pass_whatever_the_number_of_workers(s4_root: Any) -> None:
    (s4_root.root / FRAME).unlink()
    (s4_root.root / MASK).write_bytes(b"")
    (s4_root.root / SOUND).write_bytes(b"RIFF")
    (s4_root.root / f"{DATA}/audio_wav/train/male_speech/d_1.wav").unlink()
    with (s4_root.root / "Single-source/s4_meta_data.csv").open("a") as stream:
        stream.write("e_1,0,dog_barking,tset\n")
    data = read_dataset("s4", s4_root.root)
    assert [finding.path.rpartition("/")[2] for finding in data.findings] == [
        "s4_meta_data.csv:6",
        "b_1_3.png",
        "b_1_3.png",
        "b_1.wav",
        "d_1.wav",
    ]
    assert [clip.clip_id for clip in data.clips] == ["playing_piano/a_1", "helicopter/c_1"]
    assert read_dataset("s4", s4_root.root, workers=3) == data


def test_messages_are_relative_to_the_data_root(s4_root: Any) -> None:
    (s4_root.root / FRAME).write_bytes(b"")
    (s4_root.root / SOUND).write_bytes(b"")
    text = "\n".join(map(str, read_dataset("s4", s4_root.root).findings))
    assert str(s4_root.root) not in text
