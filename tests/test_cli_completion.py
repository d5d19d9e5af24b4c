"""Shell completion through the installed command, as bash asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AVSROBUST = Path(sys.executable).parent / "avsrobust"


def completed(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_AVSROBUST_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("avsrobust", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run([AVSROBUST], env=environment, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("build", "--dataset", "m"), ["ms3"]),
        (("build", "--recipe", "st"), ["standard"]),
        (("train", "--recipe", "m2f_debias_s"), ["m2f_debias_s4"]),
        (("evaluate", "--adapter", "visual"), ["visual_prior"]),
        (("report", "--protocol", "avs"), ["avsbench", "avsbench_padded"]),
        (("compare", "--protocol", "bias"), ["bias_in_avs"]),
        (("rep",), ["report"]),
    ],
)
def test_names_are_completed(words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(*words) == expected
