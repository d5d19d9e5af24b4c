"""`benchmarks/gpu.sh`: the toy chain to its end, its weights, cards and table.

Python is a stand-in here, which writes the files that each command would: trainings take minutes. The commands themselves are
parsed by the real command line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from avsrobust.cli.main import main as command_line
from avsrobust.training.recipe import load_train_recipe

ROOT = Path(__file__).parents[1]
CHAIN = ("m2f_sound_toy", "m2f_debias_toy", "m2f_toy", "m2f_robust_toy")
STAND_IN = """#!{python}
import json, os, sys, time
from pathlib import Path

arguments = sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments[:1] == ["-c"]:
    print("torch 0 no GPU")
elif arguments == ["-"]:
    compile(sys.stdin.read(), "toys", "exec")
    print(os.environ["CHAIN_CLIPS"] or "all", "clips")
elif arguments[0].endswith("roofline.py"):
    if os.environ.get("FAILING") == "roofline":
        sys.exit(3)
    if os.environ.get("ENDLESS") == "roofline":
        # With a child, which is to end too.
        os.fork()
        time.sleep(600)
    print("training: 1.0 frames/s estimated")
elif arguments[:3] == ["-m", "avsrobust", "train"]:
    recipe = arguments[arguments.index("--recipe") + 1]
    if recipe == os.environ.get("FAILING"):
        sys.exit(3)
    run = Path("training") / recipe
    run.mkdir(parents=True)
    other = {{"m2f_toy": "m2f_debias_toy", "m2f_debias_toy": "m2f_toy"}}.get(recipe)
    end = time.monotonic() + 60
    while other and other != os.environ.get("FAILING") and not (Path("training") / other).is_dir():
        # Both are under way at once, or neither ends.
        if time.monotonic() > end:
            sys.exit(4)
        time.sleep(0.01)
    (run / "best.safetensors").write_text(recipe)
    (run / "log.csv").write_text("step,loss\\n3,0.5\\n4,0.25\\n")
    (run / "validation.csv").write_text("step,dataset,clips\\n2,s4,9\\n2,ms3,9\\n4,s4,9\\n4,ms3,9\\n")
elif arguments[:3] == ["-m", "avsrobust", "evaluate"]:
    print("## s4, test")
    print("| model | G-mIoU |")
elif arguments[:4] == ["-m", "avsrobust", "export", "model"]:
    folder = Path(arguments[4])
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# " + arguments[arguments.index("--name") + 1] + "\\n")
else:
    sys.exit(5)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for Python; it notes its calls in calls.txt."""
    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    for name in ("DATA", "WHEELS", "SOUND", "CHAIN_STEPS", "CHAIN_CLIPS", "GRAPH", "COMPILE", "WORKERS"):
        monkeypatch.delenv(name, raising=False)
    return path


def run(stand_in: Path, folder: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    environment = {**os.environ, "PYTHON": str(stand_in), "DEVICE": "cpu", "PARTS": "toys chain cards", **variables}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    calls = [json.loads(line) for line in Path(os.environ["CALLS"]).read_text(encoding="utf-8").splitlines()]
    return done, calls


def recipes(calls: list[list[str]]) -> list[str]:
    return [call[call.index("--recipe") + 1] for call in calls if call[2:3] == ["train"]]


def test_the_chain_is_rehearsed_to_its_end(stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done, calls = run(stand_in, out, QUICK="1")
    assert done.returncode == 0, done.stdout + done.stderr
    trained = recipes(calls)
    assert (trained[0], sorted(trained[1:3]), trained[3]) == ("m2f_sound_toy", ["m2f_debias_toy", "m2f_toy"], CHAIN[3])
    for call in calls:
        if call[:2] == ["-m", "avsrobust"]:
            parse(call[2:])
    for call in (call for call in calls if call[2:3] == ["train"]):
        assert call[call.index("--steps") + 1] == "4"
        assert [name.rsplit("/", 1)[-1] for name in call if "/robust/" in name] == ["s4-60-seed42", "ms3-60-seed42"]
    assert {path.name for path in (out / "weights").iterdir()} == {
        *(f"{recipe}.safetensors" for recipe in CHAIN),
        *(f"{recipe}.md" for recipe in CHAIN[1:]),
    }
    assert (out / "weights/m2f_robust_toy.safetensors").read_text(encoding="utf-8") == "m2f_robust_toy"
    card = (out / "weights/m2f_debias_toy.md").read_text(encoding="utf-8")
    for line in ("# m2f_debias", "`avsrobust train --recipe m2f_debias_toy`, 4 steps.", "    4,s4,9", "    4,ms3,9"):
        assert line in card.splitlines()
    assert "| train_m2f_debias_toy | done |" in card
    table = (out / "table.md").read_text(encoding="utf-8")
    for part in ("toys", *(f"train_{recipe}" for recipe in CHAIN), "cards"):
        assert f"| {part} | done |" in table
    assert "## s4, test\n\n| model | G-mIoU |" in table
    assert done.stdout == table


def test_the_recipes_are_trained_whole_without_a_rehearsal(stand_in: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound.safetensors"
    sound.write_text("made before", encoding="utf-8")
    done, calls = run(stand_in, tmp_path / "out", PARTS="chain", SOUND=str(sound))
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(recipes(calls)) == sorted(CHAIN[1:])
    assert all("--steps" not in call and "--manifest" not in call for call in calls)
    # What the toys' builds are named by in a rehearsal.
    assert all(load_train_recipe(name).data.toy.seed == 1000 for name in CHAIN)  # type: ignore[union-attr]
    assert (tmp_path / "out/weights/m2f_sound_toy.safetensors").read_text(encoding="utf-8") == "made before"


def test_a_training_that_fails_is_named_and_the_other_branch_goes_on(stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done, calls = run(stand_in, out, QUICK="1", FAILING="m2f_toy")
    assert done.returncode == 1
    assert "m2f_robust_toy" not in recipes(calls)
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| train_m2f_toy | failed, status 3 (logs/train_m2f_toy.txt) |" in table
    assert "| train_m2f_debias_toy | done |" in table
    assert {path.name for path in (out / "weights").glob("*.md")} == {"m2f_debias_toy.md"}


@pytest.mark.parametrize("outcome", ["done", "failed, status 3 (logs/roofline.txt)"])
def test_estimates_are_made_beside_the_toys(stand_in: Path, tmp_path: Path, outcome: str) -> None:
    failing = "" if outcome == "done" else "roofline"
    done, calls = run(stand_in, tmp_path / "out", QUICK="1", PARTS="toys roofline", FAILING=failing)
    assert done.returncode == (1 if failing else 0), done.stdout + done.stderr
    assert f"| roofline | {outcome} |" in done.stdout
    assert "| toys | done |" in done.stdout
    assert ("- training: 1.0 frames/s estimated" in done.stdout) is not bool(failing)
    estimates = [call for call in calls if call[0].endswith("roofline.py")]
    assert [("recipe" in call, "--toy" in call) for call in estimates] == [(False, True), (True, True)]


def test_what_goes_over_the_budget_is_cut_off_with_its_children_and_named(stand_in: Path, tmp_path: Path) -> None:
    done, _ = run(stand_in, tmp_path / "out", QUICK="1", PARTS="toys roofline", ENDLESS="roofline", BUDGET_S="8")
    assert done.returncode == 1
    assert re.search(r"^\| roofline \| cut off after \d+ s \|", done.stdout, re.M)
    assert "| roofline_recipe | not begun | |" in done.stdout
    assert "| toys | done |" in done.stdout
    assert not [line for line in _processes() if str(stand_in) in line]


def test_cards_need_weights(stand_in: Path, tmp_path: Path) -> None:
    done, _ = run(stand_in, tmp_path / "out", PARTS="cards")
    assert done.returncode == 1
    assert "| cards | failed, status 1 (logs/cards.txt) |" in done.stdout
    log = (tmp_path / "out/logs/cards.txt").read_text(encoding="utf-8")
    assert "found no weights in training/; expected those of the chain; run it first" in log


def _processes() -> list[str]:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def parse(arguments: list[str]) -> None:
    """Let the real command line read the arguments, without doing anything. Raises `click.ClickException`."""
    command: click.Command = command_line
    context = click.Context(command_line)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, arguments[0]
        command, arguments = found, arguments[1:]
    command.make_context(command.name, list(arguments), parent=context)
