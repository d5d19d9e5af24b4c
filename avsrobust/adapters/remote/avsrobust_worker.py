"""The other end of avsrobust's `worker` adapter: serve a model from its own environment.

Copy this one file beside your model. It needs Python 3.7 or later and numpy, nothing else.

    import avsrobust_worker

    class MyModel:
        audio = "log_mel"                      # or ("waveform", 16000), or "embedding"

        def __init__(self, checkpoint, device, options):
            ...                                # a path or None, "cpu" or "cuda:0", a dict of strings

        def encode_frames(self, frames):       # uint8 [B, T, 3, H, W], RGB
            return frames                      # whatever segment needs; it stays on this side

        def segment(self, encoded, audio):     # float32 [B, T, 1, 96, 64], [B, samples] or [B, T, 128]
            return probabilities               # see below

        def extras(self):                      # may be left out: further values of the last segment,
            return {"similarity": values}      # float [B, T] by name, kept beside the scores

    avsrobust_worker.serve(MyModel)

Conventions
    `segment` returns one of three, of any h and w; the array's type and shape say which:
    probabilities, floating point [B, T, h, w] in [0, 1], that a pixel belongs to a sounding object;
    class logits, floating point [B, T, C, h, w], class 0 background, C = 71 on avss; or
    class ids, integers [B, T, h, w] in 0..70, 0 background. A binary mask must not be returned as integers, nor as bool.
    Classes are AVSBench-semantic's 71, in its order. The arrays are numpy's, on the CPU.
    A message is 4 bytes ``AVSR``, the length of its header as a little-endian uint32, the header as JSON, then the bytes of its
    arrays one after the other, in C order. The header holds ``type``, fields, and ``arrays``: a list of [dtype, shape].
    Requests come on stdin, answers go to stdout; whatever the model prints goes to stderr. No pickle anywhere.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
from typing import Any

import numpy as np

PROTOCOL_VERSION = 1
MAGIC = b"AVSR"
MAX_HEADER = 1 << 20
DTYPES = ("|u1", "|b1", "<f2", "<f4", "<f8", "<i4", "<i8")


class ProtocolError(Exception):
    """The other side sent something that is no message of this protocol."""


def read_exactly(stream: Any, count: int) -> bytearray:
    """Read `count` bytes from a raw stream; raise EOFError where it ends before."""
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        received = stream.readinto(view[done:])
        if not received:
            raise EOFError(f"the pipe was closed after {done} of {count} bytes")
        done += received
    return buffer


def parse_header(raw: bytes | bytearray) -> dict[str, Any]:
    """Return the header dict of its JSON bytes; raise ProtocolError where it is none."""
    try:
        header: dict[str, Any] = json.loads(bytes(raw).decode("utf-8"))
        for dtype, shape in header["arrays"]:
            if dtype not in DTYPES or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ProtocolError(f"array of dtype {dtype!r} and shape {shape!r}")
        header["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"unreadable header ({error})") from error
    return header


def array_bytes(dtype: str, shape: list[int]) -> int:
    """Return how many bytes an array takes."""
    count = int(np.dtype(dtype).itemsize)
    for size in shape:
        count *= size
    return count


def read_message(stream: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return (header, arrays) of the next message; raise EOFError at the end, ProtocolError for anything else."""
    start = bytes(read_exactly(stream, 8))
    if start[:4] != MAGIC:
        raise ProtocolError(f"expected {MAGIC!r}, got {start!r}")
    (length,) = struct.unpack("<I", start[4:])
    if length > MAX_HEADER:
        raise ProtocolError(f"a header of {length} bytes")
    header = parse_header(read_exactly(stream, length))
    arrays = []
    for dtype, shape in header["arrays"]:
        raw = read_exactly(stream, array_bytes(dtype, shape))
        arrays.append(np.frombuffer(raw, dtype=dtype).reshape(shape))
    return header, arrays


def encode_message(kind: str, fields: Any = None, arrays: Any = ()) -> list[Any]:
    """Return the parts (bytes-like) of a message."""
    plain = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in arrays]
    for array in plain:
        if array.dtype.str not in DTYPES:
            raise ProtocolError(f"cannot send arrays of dtype {array.dtype}; expected one of {', '.join(DTYPES)}")
    header = dict(fields or {}, type=kind, arrays=[[array.dtype.str, list(array.shape)] for array in plain])
    raw = json.dumps(header).encode("utf-8")
    parts: list[Any] = [MAGIC + struct.pack("<I", len(raw)) + raw]
    parts.extend(array.data.cast("B") for array in plain if array.size)
    return parts


def write_parts(stream: Any, parts: list[Any]) -> None:
    """Write the parts of a message to a raw, unbuffered stream."""
    for part in parts:
        view = memoryview(part)
        while len(view):
            view = view[stream.write(view) :]


def write_message(stream: Any, kind: str, fields: Any = None, arrays: Any = ()) -> None:
    """Write one message to a raw, unbuffered stream."""
    write_parts(stream, encode_message(kind, fields, arrays))


def _audio_of(model: Any) -> list[Any]:
    audio = model.audio
    if isinstance(audio, str):
        return [audio, None]
    return [str(audio[0]), int(audio[1])]


def _answer(
    model: Any, encoded: dict[int, Any], header: dict[str, Any], arrays: list[Any]
) -> tuple[str, dict[str, Any], list[Any]]:
    kind = header["type"]
    for handle in header.get("release", ()):
        encoded.pop(handle, None)
    if kind == "encode":
        encoded[header["handle"]] = model.encode_frames(arrays[0])
        return "encoded", {}, []
    if kind == "segment":
        masks = _sendable(np.asarray(model.segment(encoded[header["handle"]], arrays[0])))
        extras = model.extras() if hasattr(model, "extras") else {}
        return "segmented", {"extras": list(extras)}, [masks] + [np.asarray(value) for value in extras.values()]
    raise ProtocolError(f"unknown request {kind!r}")


def _sendable(masks: Any) -> Any:
    """Return class ids of any integer type in one that a message can hold; anything else as it is."""
    if masks.dtype.kind in "iu" and masks.dtype.str not in DTYPES:
        return masks.astype("<i8")
    return masks


def _describe(error: Exception) -> dict[str, str]:
    return {"message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def serve(model_class: Any) -> None:
    """Serve `model_class` until the other side closes the pipe."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # What the model prints must not end up between messages.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    hello, _ = read_message(requests)
    if hello.get("version") != PROTOCOL_VERSION:
        write_message(
            answers,
            "error",
            {"message": f"avsrobust_worker.py speaks protocol {PROTOCOL_VERSION}, avsrobust {hello.get('version')!r}"},
        )
        return
    try:
        model = model_class(hello["checkpoint"], hello["device"], hello["options"])
        ready = {"version": PROTOCOL_VERSION, "audio": _audio_of(model), "python": sys.version.split()[0]}
    except Exception as error:
        traceback.print_exc()
        write_message(answers, "error", _describe(error))
        return
    write_message(answers, "ready", ready)
    encoded: dict[int, Any] = {}
    while True:
        try:
            header, arrays = read_message(requests)
        except EOFError:
            return
        try:
            kind, fields, results = _answer(model, encoded, header, arrays)
            parts = encode_message(kind, fields, results)
        except Exception as error:
            write_message(answers, "error", _describe(error))
            continue
        write_parts(answers, parts)
