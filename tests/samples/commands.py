"""`avsrobust ARGUMENTS` in this process, for tests of what a command does and not of how its process lives.

A process of its own costs two seconds of imports; each command is started as one at least once, most in test_cli_end_to_end.py.
"""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from avsrobust.cli.main import invoke


def call(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; return its exit status and what it wrote, as `subprocess.run` does."""
    words = [str(argument) for argument in arguments]
    # Bytes below, since some formats are written as such.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        for name, value in environment.items():
            patch.setenv(name, value)
        status = invoke(words)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(words, status, *texts)
