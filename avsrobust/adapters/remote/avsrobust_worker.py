"""The other end of avsrobust's `worker` adapter: serve a model from its own environment.

Copy this one file next to your model. It needs Python 3.7 or later and numpy, nothing else.

    import avsrobust_worker

    class MyModel:
        audio = "log_mel"                      # or "embedding", ("waveform", 16000), or "native"; see below

        def __init__(self, checkpoint, device, options):
            ...                                # a path or None, "cpu" or "cuda:0", a dict of strings

        def encode_frames(self, frames):       # uint8 [B, T, 3, H, W], RGB
            return frames                      # whatever segment needs; it stays on this side

        def segment(self, encoded, audio):     # float32 [B, T, 1, 96, 64], [B, samples] or [B, T, 128]
            return probabilities               # see below

        needs_clips = True                     # optional: both methods get a further argument, a list of B clips
        needs_seed = True                      # optional: one clip at a time, generators seeded with its seed before

        def extras(self):                      # optional: further values of the last segment,
            return {"similarity": values}      # float [B, T] by name, stored with the scores

    avsrobust_worker.serve(MyModel)

Conventions
    `segment` returns one of three, of any h and w; the array's type and shape say which:
    probabilities, floating point [B, T, h, w] in [0, 1], that a pixel belongs to a sounding object;
    class logits, floating point [B, T, C, h, w], class 0 background, C = 71 on avss; or
    class ids, integers [B, T, h, w] in 0..70, 0 background. A binary mask must not be returned as integers, nor as bool.
    Classes are AVSBench-semantic's 71, in its order. The arrays are numpy's, on the CPU.
    Or it returns ``Segmentation(probabilities, mask, readouts)``: a mask that was decided in another way (bool [B, T, h, w],
    integer class ids beside classes), and further answers by name, each an array or a Segmentation.
    ``audio = ("waveform", 16000, {"resampler": "torchaudio", "mono": False})`` chooses the resampler ("resampy", "torchaudio",
    "soxr") and both channels, [B, 2, samples]. ``audio = "native"`` gives a list of B sounds with the attributes samples
    (float32 [S, channels]), sample_rate and path (None where the condition has no file).
    A clip has the attributes dataset, split, clip_id, condition, level, draw, seed, frames (paths), sound (a path or None),
    num_frames and sample_rate; in encode_frames condition is "" and sound None. Paths are those of avsrobust's machine.
    A message is 4 bytes ``AVSR``, the length of its header as a little-endian uint32, the header as JSON, then the bytes of its
    arrays one after the other, in C order. The header holds ``type``, fields, and ``arrays``: a list of [dtype, shape].
    On one Linux machine arrays go through memory that both sides map instead: the other side names an area of it in "lent" for
    its own arrays, in "room" for those of the answer, as [number, path, name, bytes], and in "closed" areas it will not name
    again. Where a header has "area", a number, the arrays lie in that area, each at the next multiple of 64 bytes, and none
    follow. Who cannot map the area of the greeting, in a container or on another machine, leaves "memory" out of the answer.
    Requests come on stdin, answers go to stdout; whatever the model prints once it is served goes to stderr, C code included.
    What was printed before (banners, imports) is skipped on the other side. No pickle anywhere.
    Sizes are checked before memory is taken: a message has at most MAX_MESSAGE bytes of arrays, times the factor of the
    environment variable AVSROBUST_RAISE_LIMITS.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import numpy as np

PROTOCOL_VERSION = 2
# Version 2 adds clips, seeds, native sounds, masks apart and readouts; a model that needs none of them is served in either.
PROTOCOL_VERSIONS = (1, 2)
MAGIC = b"AVSR"
MAX_HEADER = 1 << 20
MAX_MESSAGE = 2 << 30
MAX_ARRAYS = 64
MAX_DIMENSIONS = 8
MAX_LENGTH = 1 << 31
ALIGNMENT = 64
DTYPES = ("|u1", "|b1", "<f2", "<f4", "<f8", "<i4", "<i8")


class Segmentation:
    """An answer of ``segment`` with its mask apart from the probabilities, and further readouts."""

    def __init__(self, probabilities: Any, mask: Any = None, readouts: Any = None) -> None:
        self.probabilities = probabilities
        self.mask = mask
        self.readouts = dict(readouts or {})


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
        if len(header["arrays"]) > MAX_ARRAYS:
            raise ProtocolError(f"{len(header['arrays'])} arrays in a message; at most {MAX_ARRAYS}")
        for dtype, shape in header["arrays"]:
            # True is an int too; len() of a shape refuses what is no list.
            sizes_fit = all(type(size) is int and 0 <= size <= MAX_LENGTH for size in shape)
            if dtype not in DTYPES or not sizes_fit or len(shape) > MAX_DIMENSIONS:
                raise ProtocolError(f"array of dtype {str(dtype)[:20]!r} and shape {str(shape)[:80]}")
        if not isinstance(header["type"], str):
            raise ProtocolError("a type that is no text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"unreadable header ({str(error)[:200]})") from error
    return header


def array_bytes(dtype: str, shape: list[int]) -> int:
    """Return how many bytes an array takes, in Python's integers, which do not wrap."""
    count = int(np.dtype(dtype).itemsize)
    for size in shape:
        count *= size
    return count


def check_sizes(header: dict[str, Any], limit: float) -> None:
    """Raise ProtocolError where the arrays of a message are larger than `limit` bytes together."""
    total = sum(array_bytes(dtype, shape) for dtype, shape in header["arrays"])
    if total > limit:
        raise ProtocolError(f"a message of {total} bytes; at most {int(limit)}")


def as_array(raw: bytearray, dtype: str, shape: list[int]) -> Any:
    """Return the array of its bytes."""
    if not raw:
        try:
            return np.zeros(shape, dtype=dtype)
        except ValueError as error:
            raise ProtocolError(f"array of shape {shape} ({error})") from error
    if dtype == "|b1":
        # Any byte may come; numpy's own booleans are 0 and 1.
        return (np.frombuffer(raw, dtype="|u1") != 0).reshape(shape)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def read_message(stream: Any) -> tuple[dict[str, Any], list[Any]]:
    """Return (header, arrays) of the next message, no arrays where they lie in shared memory.

    Raise EOFError at the end, ProtocolError for anything else.
    """
    start = bytes(read_exactly(stream, 8))
    if start[:4] != MAGIC:
        raise ProtocolError(f"expected {MAGIC!r}, got {start!r}")
    (length,) = struct.unpack("<I", start[4:])
    if length > MAX_HEADER:
        raise ProtocolError(f"a header of {length} bytes")
    header = parse_header(read_exactly(stream, length))
    check_sizes(header, MAX_MESSAGE * float(os.environ.get("AVSROBUST_RAISE_LIMITS") or 1))
    if "area" in header:
        return header, []
    arrays = [
        as_array(read_exactly(stream, array_bytes(dtype, shape)), dtype, shape) for dtype, shape in header["arrays"]
    ]
    return header, arrays


def place(described: list[Any]) -> tuple[list[int], int]:
    """Return where each array begins in an area of shared memory, and where the last one ends; `described`: [dtype, shape]."""
    starts = []
    end = 0
    for dtype, shape in described:
        starts.append(-(-end // ALIGNMENT) * ALIGNMENT)
        end = starts[-1] + array_bytes(dtype, shape)
    return starts, end


def encode_message(kind: str, fields: Any = None, arrays: Any = (), area: Any = None) -> list[Any]:
    """Return the parts (bytes-like) of a message; its arrays are laid into `area`, (number, uint8 array), where they fit."""
    given = [np.asarray(array) for array in arrays]
    for array in given:
        if array.dtype.str not in DTYPES:
            expected = ", ".join(str(np.dtype(dtype)) for dtype in DTYPES)
            raise ProtocolError(f"the model returned an array of dtype {array.dtype}; expected one of {expected}")
    header = dict(fields or {}, type=kind, arrays=[[array.dtype.str, list(array.shape)] for array in given])
    starts, end = place(header["arrays"])
    if area is not None and 0 < end <= len(area[1]):
        header["area"], memory = area
        for start, array in zip(starts, given):  # noqa: B905
            np.copyto(memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape), array)
        given = []
    raw = json.dumps(header).encode("utf-8")
    parts: list[Any] = [MAGIC + struct.pack("<I", len(raw)) + raw]
    parts.extend(np.ascontiguousarray(array).reshape(array.shape).data.cast("B") for array in given if array.size)
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


class SharedMemory:
    """The areas of memory that the other side has named so far."""

    def __init__(self) -> None:
        self._maps: dict[int, mmap.mmap] = {}

    def area(self, named: Any) -> Any:
        """Return (number, uint8 array) of an area, [number, path, name, bytes]; None where there is none, or not this one."""
        try:
            number, path, name, size = named
            if number not in self._maps:
                # In another container the path may be that of some other process's file.
                if os.readlink(path) != name:  # noqa: PTH115
                    return None
                descriptor = os.open(path, os.O_RDWR)
                try:
                    self._maps[number] = mmap.mmap(descriptor, size)
                finally:
                    os.close(descriptor)
            return number, np.frombuffer(self._maps[number], dtype=np.uint8)
        except (OSError, OverflowError, ValueError, TypeError):
            return None

    def arrays(self, header: dict[str, Any]) -> list[Any]:
        """Return copies of the arrays of a message that lie in the area it lends."""
        area = self.area(header.get("lent"))
        starts, end = place(header["arrays"])
        if area is None or header["area"] != area[0] or end > len(area[1]):
            raise ProtocolError("arrays in shared memory that cannot be mapped here")
        return [
            as_array(bytearray(area[1][start : start + array_bytes(dtype, shape)]), dtype, shape)
            for start, (dtype, shape) in zip(starts, header["arrays"])  # noqa: B905
        ]

    def close(self, numbers: Any) -> None:
        """Give areas up."""
        for number in numbers:
            self._maps.pop(number, None)


def _audio_of(model: Any) -> list[Any]:
    audio = model.audio
    if isinstance(audio, str):
        return [audio, None]
    return [str(audio[0]), int(audio[1])] + [dict(options) for options in audio[2:]]


def _answer(
    model: Any, encoded: dict[int, Any], header: dict[str, Any], arrays: list[Any]
) -> tuple[str, dict[str, Any], list[Any]]:
    kind = header["type"]
    for handle in header.get("release", ()):
        encoded.pop(handle, None)
    more = ([SimpleNamespace(**clip) for clip in header["clips"]],) if getattr(model, "needs_clips", False) else ()
    if getattr(model, "needs_seed", False):
        _seed(int(header["clips"][0]["seed"]))
    if kind == "encode":
        encoded[header["handle"]] = model.encode_frames(arrays[0], *more)
        return "encoded", {}, []
    if kind == "segment":
        audio = arrays[0]
        if "sounds" in header:
            audio = _sounds(header["sounds"], arrays[0])
        returned = model.segment(encoded[header["handle"]], audio, *more)
        extras = model.extras() if hasattr(model, "extras") else {}
        values = [np.asarray(value) for value in extras.values()]
        if not hasattr(returned, "probabilities"):
            return "segmented", {"extras": list(extras)}, [_sendable(np.asarray(returned)), *values]
        parts = [("", returned), *getattr(returned, "readouts", {}).items()]
        has_mask = []
        masks = []
        for name, part in parts:
            mask = getattr(part, "mask", None)
            has_mask.append([name, mask is not None])
            masks.append(_sendable(np.asarray(getattr(part, "probabilities", part))))
            if mask is not None:
                masks.append(_sendable(np.asarray(mask)))
        return "segmented", {"extras": list(extras), "parts": has_mask}, [*masks, *values]
    raise ProtocolError(f"unknown request {kind!r}")


def _sounds(described: list[dict[str, Any]], flat: Any) -> list[Any]:
    """Return the native sounds that lie in one array, one after the other."""
    sounds = []
    start = 0
    for sound in described:
        length, channels = (int(size) for size in sound["shape"])
        samples = flat[start : start + length * channels].reshape(length, channels)
        start += length * channels
        sounds.append(SimpleNamespace(samples=samples, sample_rate=sound["sample_rate"], path=sound["path"]))
    return sounds


def _seed(seed: int) -> None:
    """Seed the global generators as avsrobust seeds them in process."""
    random.seed(seed)
    # Research code draws from the global generators.
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _sendable(masks: Any) -> Any:
    """Return class ids of any integer type in one that a message can hold; anything else as it is."""
    if masks.dtype.kind in "iu" and masks.dtype.str not in DTYPES:
        return masks.astype("<i8")
    return masks


def _describe(error: Exception) -> dict[str, str]:
    try:
        text = str(error)
    except Exception:
        # Of an exception whose own code fails.
        text = ""
    return {"message": f"{type(error).__name__}: {text}", "traceback": traceback.format_exc()}


def serve(model_class: Any) -> None:
    """Serve `model_class` until the other side closes the pipe."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # What the model prints must not end up between messages, and what reads stdin must not take one.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    hello, _ = read_message(requests)
    # Version 1 sends one number; later ones send, beside it, all that they speak.
    offered = hello.get("versions") or [hello.get("version")]
    common = [version for version in PROTOCOL_VERSIONS if version in offered]
    if not common:
        message = f"avsrobust_worker.py speaks protocol {PROTOCOL_VERSION}, avsrobust {hello.get('version')!r}"
        write_message(answers, "error", {"message": message})
        return
    try:
        model = model_class(hello["checkpoint"], hello["device"], hello["options"])
        needs = {name: bool(getattr(model, name, False)) for name in ("needs_clips", "needs_seed")}
        if max(common) < 2 and any(needs.values()):
            raise ProtocolError("needs clips, which this avsrobust does not send; update it")
        ready = {"version": max(common), "audio": _audio_of(model), "python": sys.version.split()[0]}
        ready.update(needs)
    except Exception as error:
        traceback.print_exc()
        write_message(answers, "error", _describe(error))
        return
    memory = SharedMemory()
    if memory.area(hello.get("memory")) is not None:
        ready["memory"] = True
    write_message(answers, "ready", ready)
    encoded: dict[int, Any] = {}
    while True:
        try:
            header, arrays = read_message(requests)
        except EOFError:
            return
        try:
            memory.close(header.get("closed", ()))
            if "area" in header:
                arrays = memory.arrays(header)
            kind, fields, results = _answer(model, encoded, header, arrays)
            parts = encode_message(kind, fields, results, memory.area(header.get("room")))
        except Exception as error:
            write_message(answers, "error", _describe(error))
            continue
        write_parts(answers, parts)
