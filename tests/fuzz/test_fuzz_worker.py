"""Messages of any content, at both ends of a worker's pipe."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from typing import Any

import pytest

from avsrobust.adapters.pipes import WorkerProcess
from avsrobust.adapters.remote import avsrobust_worker as protocol


def read_here(path: Path) -> None:
    """Start a worker that answers our greeting with the file's bytes, and nothing after them."""
    program = f"cat {shlex.quote(str(path))}; exec cat >/dev/null"
    worker = WorkerProcess(f"sh -c {shlex.quote(program)}", {}, 20)
    worker.close()


def read_there(path: Path) -> None:
    protocol.read_message(io.BytesIO(path.read_bytes()))


def test_answers(fuzz: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process waits for more, and is given this long to end by itself before it is ended.
    monkeypatch.setattr("avsrobust.adapters.child_process._GRACE_S", 0.2)
    fuzz("messages", read_here, good=False, share=0.2)


def test_requests(fuzz: Any) -> None:
    fuzz("messages", read_there, EOFError, protocol.ProtocolError)
