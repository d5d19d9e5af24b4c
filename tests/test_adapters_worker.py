"""The adapter `worker`: a model behind a pipe, and everything that can go wrong there."""

from __future__ import annotations

import ast
import io
import json
import runpy
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avsrobust.adapters.base import Adapter, AudioInput
from avsrobust.adapters.pipes import WORKER_FILE
from avsrobust.adapters.remote import avsrobust_worker as protocol
from avsrobust.adapters.worker import Worker
from avsrobust.errors import AdapterError
from avsrobust.evaluation.runner import evaluate
from avsrobust.limits import Limit
from avsrobust.manifest import Manifest
from avsrobust.results import read_scores

CPU = torch.device("cpu")
PROGRAM = """
import os, sys, time
import numpy as np
import avsrobust_worker

class Model:
    audio = {audio!r}
    def __init__(self, checkpoint, device, options):
        self.options = options
        print("a model may print", checkpoint, device)
    def encode_frames(self, frames):
        return frames.astype("float32").mean(2) / 255
    def segment(self, encoded, audio):
        mode = self.options.get("mode", "")
        if audio.max() > 0.5:  # the bad clip
            if mode == "exit":
                print("giving up", file=sys.stderr)
                os._exit(3)
            if mode == "hang":
                time.sleep(60)
            if mode == "garbage":
                for descriptor in range(3, 20):
                    try:
                        os.write(descriptor, b"garbage" * 10)
                    except OSError:
                        pass
            if mode == "raise":
                raise ValueError("this clip is too loud")
        return encoded * 0.5 + audio.mean()

avsrobust_worker.serve(Model)
"""


def _command(folder: Path, program: str = "", audio: object = "log_mel", python: str = sys.executable) -> str:
    path = folder / "my worker.py"
    path.write_text(program or PROGRAM.format(audio=audio))
    return f"'{python}' '{path}'"


def _clip(clips: int = 1, loud: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(clips)
    frames = torch.randint(0, 256, (clips, 5, 3, 12, 20), dtype=torch.uint8, generator=generator)
    return frames, torch.full((clips, 5, 1, 96, 64), 1.0 if loud else 0.25)


def _expected(frames: torch.Tensor) -> torch.Tensor:
    return frames.float().mean(2) / 255 * 0.5 + 0.25


@pytest.mark.parametrize("workers", ["1", "2"])
def test_answers_are_those_of_the_model(tmp_path: Path, workers: str) -> None:
    adapter = Worker.load(None, CPU, command=_command(tmp_path), workers=workers)
    assert adapter.audio == AudioInput.log_mel()
    for clips in (1, 2, 3):
        frames, audio = _clip(clips)
        encoded = adapter.encode_frames(frames)
        other = adapter.encode_frames(frames.flip(0))
        torch.testing.assert_close(adapter.segment(encoded, audio), _expected(frames))
        torch.testing.assert_close(adapter.segment(other, audio), _expected(frames.flip(0)))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_values_next_to_the_masks_come_too(tmp_path: Path, workers: str) -> None:
    program = PROGRAM.format(audio="log_mel").replace(
        "    def segment(", "    def extras(self):\n        return {'loud': self.loud}\n    def segment("
    )
    program = program.replace("        mode =", "        self.loud = audio.mean((2, 3, 4))\n        mode =")
    adapter = Worker.load(None, CPU, command=_command(tmp_path, program), workers=workers)
    assert adapter.extras() == {}
    frames, audio = _clip(3)
    audio *= torch.arange(1, 4)[:, None, None, None, None] / 2
    adapter.segment(adapter.encode_frames(frames), audio)
    torch.testing.assert_close(adapter.extras()["loud"], audio.mean(dim=(2, 3, 4)))


CLASSES = """
import sys
import numpy as np

class Classes:
    audio = "log_mel"
    def __init__(self, checkpoint, device, options):
        self.kind = options["kind"]
    def encode_frames(self, frames):
        return frames[..., ::4, ::4].astype("float32") / 255
    def segment(self, encoded, audio):
        logits = np.zeros((*encoded.shape[:2], 71, *encoded.shape[-2:]), "float32")
        for place, class_id in enumerate((0, 21, 70)):
            logits[:, :, class_id] = 8 * encoded[:, :, place] + 4 * audio[:, :, 0, :1, :1] * place
        return logits if self.kind == "logits" else logits.argmax(2).astype(self.kind)

if __name__ == "__main__":
    import avsrobust_worker
    avsrobust_worker.serve(Classes)
"""


@pytest.mark.parametrize("kind", ["logits", "uint8", "int16", "int64"])
def test_a_model_of_classes_scores_as_in_process(
    make_build: Callable[..., Manifest], tmp_path: Path, kind: str
) -> None:
    build = make_build(clips=3, dataset="avss")
    command = _command(tmp_path, CLASSES)
    model = runpy.run_path(str(tmp_path / "my worker.py"))["Classes"](None, "cpu", {"kind": kind})

    class InProcess(Adapter):
        def encode_frames(self, frames: torch.Tensor) -> object:
            return model.encode_frames(frames.numpy())

        def segment(self, encoded: object, audio: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(model.segment(encoded, audio.numpy()))

    expected = evaluate(build, InProcess(), name="model", output=tmp_path / "here")
    classes = read_scores(expected.scores).classes
    assert classes is not None
    assert set(classes.class_id[classes.predicted > 0].tolist()) == {0, 21, 70}
    for workers in ("1", "2"):
        worker = Worker.load(None, CPU, command=command, workers=workers, kind=kind)
        found = evaluate(build, worker, name="model", output=tmp_path / workers, batch_size=2)
        assert found.failed == ()
        # The files name their models, which differ; all else is the same.
        assert pq.read_table(found.scores).equals(pq.read_table(expected.scores))


def test_audio_is_what_the_class_asks_for(tmp_path: Path) -> None:
    assert Worker.load(None, CPU, command=_command(tmp_path, audio=("waveform", 8000))).audio == AudioInput.waveform(
        8000
    )
    with pytest.raises(AdapterError, match="its class has audio = 'smell'"):
        Worker.load(None, CPU, command=_command(tmp_path, audio="smell"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("exit", r"ended while it worked on 'segment' \(exit status 3\); its stderr ends: .*giving up"),
        ("hang", "gave no answer to 'segment' within 2 s"),
        ("garbage", "something else than messages"),
        ("raise", "ValueError: this clip is too loud"),
    ],
)
def test_a_failure_is_one_clips_error_and_the_next_clip_works(tmp_path: Path, mode: str, message: str) -> None:
    adapter = Worker.load(None, CPU, command=_command(tmp_path), mode=mode, timeout="2")
    frames, loud = _clip(loud=True)
    with pytest.raises(AdapterError, match=message):
        adapter.segment(adapter.encode_frames(frames), loud)
    frames, audio = _clip()
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; sys.exit('no CUDA here')", "while starting: .*no CUDA here"),
        (
            "quit()",
            r"while starting: ended before it was ready \(exit status 0\); expected a program that calls avsrobust_worker",
        ),
        ("import nothing_like_it", "while starting: .*nothing_like_it"),
        ("import time; time.sleep(60)", "while starting: gave no answer to 'hello' within 2 s"),
        (
            "import avsrobust_worker\nclass M:\n def __init__(s, c, d, o): raise ValueError(c)\navsrobust_worker.serve(M)",
            "ValueError",
        ),
    ],
)
def test_a_worker_that_cannot_start_says_why(tmp_path: Path, program: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        Worker.load(None, CPU, command=_command(tmp_path, program), timeout="2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs --option command="),
        ({"command": "/nowhere/python x.py"}, "cannot be started"),
        ({"command": "'unbalanced"}, "cannot be started"),
        ({"command": "x", "workers": "0"}, "workers=0: expected a whole number above 0"),
        ({"command": "x", "workers": "1000"}, "workers=1000: expected a whole number above 0, up to 64"),
        ({"command": "x", "timeout": "soon"}, "timeout=soon: expected a number above 0"),
        ({"command": "x", "timeout": "inf"}, "timeout=inf: expected a number above 0, up to 1000000000"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        Worker.load(None, CPU, **options)


ENTRY = """#!{python}
import os, sys
os.write(1, {banner!r})
os.execv({python!r}, [{python!r}, {program!r}])
"""


def _behind_a_banner(folder: Path, banner: bytes) -> str:
    """A command that prints `banner` and then becomes the worker, as a container's entry point does."""
    _command(folder)
    entry = folder / "entry"
    entry.write_text(ENTRY.format(python=sys.executable, banner=banner, program=str(folder / "my worker.py")))
    entry.chmod(0o755)
    return f"'{entry}'"


@pytest.mark.parametrize(
    "banner",
    [
        b"\n==========\n== PyTorch ==\n\n",
        b"no newline at its end",
        b"AVSR model AVSR",
        b"AVSR\x10\x00\x00\x00 no object",
        b"A" + b"AV" * 5 + b"AVS",
        bytes(range(256)) * 40,
        b"x" * 1_000_000,
    ],
    ids=lambda banner: repr(banner[:12]),
)
def test_what_is_printed_before_the_first_message_is_skipped(
    tmp_path: Path, banner: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = Worker.load(None, CPU, command=_behind_a_banner(tmp_path, banner))
    frames, audio = _clip(2)
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert set(captured.err) <= {"\n", *filter(str.isprintable, captured.err)}


def test_banners_are_shown_without_what_moves_a_cursor(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Worker.load(None, CPU, command=_behind_a_banner(tmp_path, b"\x1b[31mCUDA 12\x07\n\x1b]0;title\x07two\n"))
    assert "\\x1b[31mCUDA 12\\x07\n\\x1b]0;title\\x07two\n" in capfd.readouterr().err


def test_prints_of_imports_before_the_worker_is_served_are_skipped(tmp_path: Path) -> None:
    program = "print('apex is not installed', flush=True)\nimport os; os.system('echo from a child')\n"
    program += PROGRAM.format(audio="log_mel")
    adapter = Worker.load(None, CPU, command=_command(tmp_path, program))
    frames, audio = _clip()
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))


def test_prints_of_c_code_and_children_while_it_is_served_do_no_harm(tmp_path: Path) -> None:
    program = PROGRAM.format(audio="log_mel").replace(
        "        mode =",
        "        os.write(1, b'from C'); os.system('echo child; head -c 4'); sys.stdin.read()\n        mode =",
    )
    adapter = Worker.load(None, CPU, command=_command(tmp_path, program), timeout="20")
    frames, audio = _clip()
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "print('usage: \\x1b[1m serve')",
            r"wrote something else than .*\('usage: \\x1b\[1m serve'; expected a program.*ended .*status 0",
        ),
        (
            "import os, time; os.write(1, b'y\\n' * 600_000); time.sleep(99)",
            r"1\d{6} bytes and no message; expected a program",
        ),
        (
            "print('AVSR' * 9, flush=True); import time; time.sleep(99)",
            r"\('AVSRAVSR.*gave no answer to 'hello' within 4 s",
        ),
        ("print('hello', flush=True); import time; time.sleep(99)", r"wrote something else than .*\('hello'; expected"),
    ],
)
def test_a_program_that_is_no_worker_is_quoted(tmp_path: Path, program: str, message: str) -> None:
    # Those that sleep are waited for in full; the others end, however slow the machine is.
    timeout = "4" if "sleep(99)" in program and "600_000" not in program else "12"
    with pytest.raises(AdapterError, match=f"while starting: .*{message}") as caught:
        Worker.load(None, CPU, command=_command(tmp_path, program), timeout=timeout)
    assert str(caught.value).isprintable()


HOSTILE = """
import json, os, struct, sys, time
def send(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    os.write(1, b"AVSR" + struct.pack("<I", len(raw)) + raw + body)
send({{"type": "ready", "version": 1, "audio": {audio}, "arrays": []}})
os.read(0, 1 << 20)
send({{"type": "encoded", "arrays": []}})
send({answer})
time.sleep(9)
"""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            '{"type": "segmented", "arrays": [["<f8", [1 << 30, 1]]]}',
            "a message of 8589934592 bytes; at most 2147483648",
        ),
        (
            '{"type": "segmented", "arrays": [["<f8", [1 << 31, 1 << 31, 4]]]}',
            "a message of 147573952589676412928 bytes",
        ),
        ('{"type": "segmented", "arrays": [["<f8", [1 << 64]]]}', "array of dtype"),
        ('{"type": "segmented", "arrays": [["<f8", [True]]]}', "array of dtype"),
        ('{"type": "segmented", "arrays": [["<f8", [1] * 9]]}', "array of dtype"),
        ('{"type": "segmented", "arrays": [["|O", [1]]]}', "array of dtype"),
        ('{"type": "segmented", "arrays": [["<f4", [1]]] * 65}', "65 arrays in a message"),
        ('{"type": 3, "arrays": []}', "a type that is no text"),
        ('b"[" * 100_000', "unreadable header"),
        ('b"{}"', "unreadable header"),
        ('{"type": "error", "arrays": [], "message": "\\x1b[2J" + "boo" * 2000}', r"\\x1b\[2Jbooboo"),
    ],
)
def test_messages_are_bounded_and_inert(tmp_path: Path, answer: str, message: str) -> None:
    command = _command(tmp_path, HOSTILE.format(audio='["log_mel", None]', answer=answer))
    adapter = Worker.load(None, CPU, command=command, timeout="60")
    frames, audio = _clip()
    encoded = adapter.encode_frames(frames)
    with pytest.raises(AdapterError, match=message) as caught:
        adapter.segment(encoded, audio)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 4000


def test_an_array_without_values_and_of_no_possible_shape_is_refused() -> None:
    assert protocol.as_array(bytearray(), "<f4", [0, 1 << 31]).shape == (0, 1 << 31)
    with pytest.raises(protocol.ProtocolError, match="array of shape"):
        protocol.as_array(bytearray(), "<f8", [0, 1 << 31, 1 << 31, 4])


def test_an_array_without_values_needs_no_memory(tmp_path: Path) -> None:
    answer = '{"type": "segmented", "arrays": [["<f4", [0, 1 << 31]]]}'
    command = _command(tmp_path, HOSTILE.format(audio='["log_mel", None]', answer=answer))
    adapter = Worker.load(None, CPU, command=command, timeout="60")
    frames, audio = _clip()
    assert list(adapter.segment(adapter.encode_frames(frames), audio).shape) == [0, 1 << 31]


@pytest.mark.parametrize("audio", ["'waveform'", "['waveform', 10 ** 12]", "['waveform', True]", "[1, 2, 3]", "None"])
def test_a_worker_that_asks_for_no_known_audio_is_refused(tmp_path: Path, audio: str) -> None:
    command = _command(tmp_path, HOSTILE.format(audio=audio, answer="{}"))
    with pytest.raises(AdapterError, match="its class has audio = "):
        Worker.load(None, CPU, command=command, timeout="60")


def test_a_request_of_too_many_bytes_is_refused_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Worker.load(None, CPU, command=_command(tmp_path))
    monkeypatch.setattr("avsrobust.adapters.pipes.MESSAGE_BYTES", Limit(1000, "bytes", "a test"))
    with pytest.raises(AdapterError, match=r"'encode': found [\d,]+ bytes; expected at most 1,000"):
        adapter.encode_frames(_clip()[0])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["<f4", "|u1", "|b1", "ready"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=6,
)
_ARRAY = st.tuples(st.sampled_from(["<f4", "|u1", "|b1", "<i8"]), st.lists(st.integers(-1, 1 << 31), max_size=4))
_SHAPES = st.lists(_ARRAY, max_size=3)


@given(
    st.fixed_dictionaries({"type": _JSON, "arrays": _JSON | _SHAPES}) | _JSON,
    st.binary(max_size=64),
    st.binary(max_size=8),
)
def test_any_frame_is_a_message_or_refused(header: object, body: bytes, noise: bytes) -> None:
    raw = json.dumps(header).encode()
    for content in (b"AVSR" + struct.pack("<I", len(raw)) + raw + body, noise + raw + body):
        try:
            _, arrays = protocol.read_message(io.BytesIO(content))
        except (protocol.ProtocolError, EOFError):
            continue
        assert sum(array.nbytes for array in arrays) <= len(body)


FIRST_WORKER = (Path(__file__).parent / "golden" / "avsrobust_worker_v1.txt").read_text()


def test_the_first_release_of_the_workers_file_still_serves(tmp_path: Path) -> None:
    # Copies of it lie beside models in other environments; it is not to be changed.
    (tmp_path / "avsrobust_worker.py").write_text(FIRST_WORKER)
    adapter = Worker.load(None, CPU, command=_command(tmp_path))
    frames, audio = _clip(3)
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))


FAKE_CONDA = """#!{python}
import subprocess, sys
arguments = sys.argv[1:]
assert arguments.pop(0) == "run"
live = "--no-capture-output" in arguments and not arguments.remove("--no-capture-output")
assert arguments[:2] == ["-n", "old"]
streams = {{}} if live else {{"stdin": subprocess.DEVNULL, "capture_output": True}}
sys.exit(subprocess.run(arguments[2:], **streams).returncode)
"""


def test_conda_run_passes_the_pipe_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    conda.write_text(FAKE_CONDA.format(python=sys.executable))
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", str(conda.parent))
    adapter = Worker.load(None, CPU, command=f"conda run -n old {_command(tmp_path)}")
    frames, audio = _clip()
    torch.testing.assert_close(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames))


def test_processes_end_with_the_adapter(tmp_path: Path) -> None:
    adapter = Worker.load(None, CPU, command=_command(tmp_path))
    process = adapter._workers[0]._process
    assert process is not None
    assert process.alive
    del adapter
    assert not process.alive


def test_the_file_for_the_other_side_is_python_37() -> None:
    ast.parse(WORKER_FILE.read_text(), feature_version=(3, 7))


def test_an_old_python_serves(tmp_path: Path) -> None:
    old = next((path for path in Path("/root/.pyenv/versions").glob("3.7*/bin/python")), None) or shutil.which(
        "python3.7"
    )
    if old is None:
        pytest.skip("no Python 3.7 on this machine")
    subprocess.run([str(old), "-m", "venv", str(tmp_path / "old")], check=True)
    python = tmp_path / "old" / "bin" / "python"
    if subprocess.run([str(python), "-m", "pip", "install", "-q", "numpy"], capture_output=True).returncode:
        pytest.skip("no numpy to be had for Python 3.7")
    adapter = Worker.load(None, CPU, command=_command(tmp_path, python=str(python)))
    frames, audio = _clip(2)
    np.testing.assert_allclose(adapter.segment(adapter.encode_frames(frames), audio), _expected(frames), atol=1e-6)
