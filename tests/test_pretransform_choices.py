"""Choices for class files: what does not fit together is said before torch, the data or weights are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avsrobust.errors import OptionError
from avsrobust.pretransform.choices import Choices, check_choices, require_weights

RUN = """
import sys
from avsrobust.cli import main
sys.argv = ["avsrobust", "pretransform", "--manifest=nowhere", *sys.argv[1:]]
try:
    main.run()
finally:
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder=asd"], "--encoder asd: unknown; expected one of ast, beats"),
        (["--encoder=log_mel", "--classes"], "--classes: log_mel names no classes"),
        (["--encoder=log_mel", "--checkpoint=x"], "--checkpoint x: log_mel has no weights"),
        (["--encoder=vggish"], "--checkpoint: found none; expected the weights' file of VGGish"),
        (["--encoder=beats", "--checkpoint=x"], "--checkpoint x: found no file; expected the weights' file of BEATs"),
        (["--encoder=ast"], "--checkpoint: not given; expected a transformers checkpoint folder"),
        (["--encoder=clap", "--checkpoint=x"], "--checkpoint x: found no folder; expected a transformers checkpoint"),
        (["--encoder=ast", "--device=gpu"], "--device gpu: expected auto, cpu, cuda or cuda:N"),
        (["--encoder=log_mel", "--queries=10"], "--clusters 30: found 10 queries"),
        (["--encoder=log_mel", "--class-threshold=2"], "--class-threshold 2: expected a number between 0 and 1"),
        (["--encoder=log_mel", "--class-threshold=0.3"], "--class-threshold 0.3: has no part without classes"),
        (["--encoder=log_mel", "--seed=-1"], "seed"),
        (["--encoder=log_mel", "--clusters-from=x", "--clusters=3"], "--clusters: has no part with --clusters-from x"),
        (["--encoder=log_mel"], "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_torch_is_loaded(options: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]


def test_a_folder_of_another_model_is_told_apart_by_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(OptionError, match=r"found a model of type hubert; .*take --encoder hubert"):
        require_weights("ast", tmp_path)
    require_weights("hubert", tmp_path)


@pytest.mark.parametrize(
    "choices",
    [{"encoder": "log_mel"}, {"encoder": "log_mel", "queries": 3, "clusters": 3}, {"encoder": "log_mel", "seed": 0}],
)
def test_what_fits_is_taken(choices: dict[str, Any]) -> None:
    check_choices(Choices(**choices))
