"""Fuzzing: small good files, damaged in every way, for every reader of files and messages.

A reader returns, or raises one of its own errors with a message of one line, within bounded memory; anything else is a failure.
`AVSROBUST_FUZZ_EXAMPLES` = N runs N random examples per reader; without it, a small fixed number, the same ones every time.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from avsrobust.errors import AvsRobustError

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = os.environ.get("AVSROBUST_FUZZ_EXAMPLES", "")
FEW = 60
# What a reader may take beyond what the process has: the largest of the limits on what it reads, and room for copies.
MEMORY = 3 << 30
GROWTH = 1 << 30
PATIENCE_S = 10

# Sizes at which programs err, in fields of 1, 2, 4 and 8 bytes.
NUMBERS = sorted(
    {
        base + by
        for base in (0, *(1 << bits for bits in (7, 8, 15, 16, 24, 31, 32, 40, 62, 63, 64)))
        for by in (-1, 0, 1)
    }
)
# What means something in one format or another.
TOKENS = (
    *(
        b"\0",
        b"\xff",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b",",
        b"[",
        b"]",
        b"{",
        b"}",
        b"(",
        b"- ",
        b": ",
        b"& ",
        b"&a ",
        b"*a ",
        b"<<: ",
    ),
    *(
        b"!!python/name:os.system ",
        b"!!binary ",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-1",
        b"null",
        b"true",
        b"\\u0000",
        b"\\ud800",
    ),
    *(
        b"9" * 40,
        b"9" * 5000,
        b"[" * 2000,
        b'{"a":' * 2000,
        b"../",
        b"/etc/passwd",
        b"\x1b[31m",
        b"\xe2\x80\xae",
        b"\xef\xbb\xbf",
    ),
    *(
        b"PK\x05\x06",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"\xff\xd8",
        b"\xff\xd9",
        b"data",
        b"fmt ",
        b"PAR1",
    ),
    *(b"AVSR", b"cbuiltins\nbytearray\n", b"R", b"."),
)
Change = tuple[str, int, int, int]


def damaged(content: bytes, others: Sequence[bytes], changes: Sequence[Change]) -> bytes:
    """Return `content` with `changes`: (kind, where, and two numbers that mean something to the kind)."""
    for kind, where, first, second in changes:
        at = where % (len(content) + 1)
        before, behind = content[:at], content[at:]
        if kind == "flip" and behind:
            content = before + bytes([behind[0] ^ (1 << first % 8)]) + behind[1:]
        elif kind == "byte" and behind:
            content = before + bytes([first % 256]) + behind[1:]
        elif kind == "cut":
            content = before
        elif kind == "remove":
            content = before + behind[first % 64 + 1 :]
        elif kind == "repeat":
            content = before + behind[: first % 64] * (second % 64) + behind
        elif kind == "token":
            content = before + TOKENS[first % len(TOKENS)] + behind[second % 8 :]
        elif kind == "number":
            width = (1, 2, 4, 8)[first % 4]
            value = NUMBERS[second % len(NUMBERS)] % (1 << 8 * width)
            content = before + value.to_bytes(width, "big" if first & 4 else "little") + behind[width:]
        elif kind == "splice":
            other = others[first % len(others)]
            content = before + other[second % (len(other) + 1) :]
    return content


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("flip", "byte", "cut", "remove", "repeat", "token", "number", "splice")),
        # Headers are where sizes stand.
        st.one_of(st.integers(0, 63), st.integers(0, 1 << 16)),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    max_size=5,
)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let the process take `MEMORY` more than it has, where the system can say how much that is."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def not_for_ever() -> Iterator[None]:
    """End the block with an error where it hangs, as on a pipe that nobody writes to."""

    def give_up(_number: int, _frame: object) -> NoReturn:
        raise TimeoutError(f"gave no answer within {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


Read = Callable[[Path], object]


@pytest.fixture
def fuzz(tmp_path: Path, peak_above: Callable[[Callable[[], object]], int | None]) -> Callable[..., None]:
    """Return the function that fuzzes one reader; see `run`."""

    def run(
        folder: str, read: Read, *expected: type[Exception], good: bool = True, share: float = 1, change: Any = None
    ) -> None:
        """Give `read` damaged files of the corpus's `folder`.

        `expected`: its errors beside `AvsRobustError`. `good`: the undamaged files are read without one. `share` of the
        examples. `change` (path, draw, damaged) damages a file in its own way.
        """
        corpus = {path.name: path.read_bytes() for path in sorted((CORPUS / folder).iterdir())}
        for name, content in corpus.items():
            (tmp_path / name).write_bytes(content)
            with nullcontext() if good else suppress(AvsRobustError):
                read(tmp_path / name)

        @settings(
            max_examples=max(1, round(int(EXAMPLES or FEW) * share)),
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data(), st.sampled_from(sorted(corpus)), CHANGES)
        def survives(data: st.DataObject, name: str, changes: list[Change]) -> None:
            path = tmp_path / name
            path.write_bytes(corpus[name])
            if change is None:
                path.write_bytes(damaged(corpus[name], list(corpus.values()), changes))
            else:
                change(path, data.draw, lambda content: damaged(content, [content], changes))
            try:
                with bounded_memory():
                    read(path)
            except (AvsRobustError, *expected) as error:
                message = str(error)
                assert message
                assert len(message.splitlines()) == 1, message

        grown = peak_above(survives)
        assert grown is None or grown < GROWTH, f"took {grown:,} bytes"

    return run


@pytest.fixture
def damage() -> Callable[[bytes, Sequence[bytes], Sequence[Change]], bytes]:
    """`damaged`."""
    return damaged


@pytest.fixture
def refuses_what_is_no_file(tmp_path: Path) -> Callable[[str, Read], None]:
    """Return the function that gives a reader a pipe, a device, a folder and nothing at all under a name it may like."""

    def run(name: str, read: Read) -> None:
        odd = {kind: tmp_path / kind / name for kind in ("pipe", "device", "folder", "nothing")}
        for path in odd.values():
            path.parent.mkdir(exist_ok=True)
        os.mkfifo(odd["pipe"])
        odd["device"].symlink_to("/dev/zero")
        odd["folder"].mkdir()
        for path in odd.values():
            with pytest.raises(AvsRobustError, match=name) as caught, not_for_ever(), bounded_memory():
                read(path)
            assert len(str(caught.value).splitlines()) == 1

    return run
