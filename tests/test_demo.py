"""The demo: the whole chain, and a second run that only looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from avsrobust import demo
from avsrobust.demo import BASELINES, BUNDLED, DemoReport, run_demo
from avsrobust.errors import OptionError

CLIPS = {"s4": 20}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoReport]:
    """The folder and the outcome of a run of the baselines."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder, BASELINES, CLIPS)


def test_baselines_have_their_known_scores(ran: tuple[Path, DemoReport]) -> None:
    folder, outcome = ran
    lines = {tuple(cell.strip() for cell in line.split("|")[2:4]): line for line in outcome.table.splitlines()[2:]}
    strict = {name: lines["strict", name].split("|")[4:-1] for name in BASELINES}
    assert [float(cell) for cell in strict["oracle"]] == [100, 100, 100, 100, 0]
    assert [float(cell) for cell in strict["visual_prior"]][2:4] == [0, 0]
    assert "visual_prior" in outcome.page.read_text()
    scores = folder / "results/oracle/s4-seed42/scores.parquet"
    written = scores.stat().st_mtime_ns
    assert run_demo(folder, BASELINES, CLIPS).table == outcome.table
    assert scores.stat().st_mtime_ns == written


def test_a_page_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<html>mine</html>")
    with pytest.raises(OptionError, match=r"report.html: is there already, and is no report"):
        run_demo(tmp_path, models=[])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert page.read_text() == "<html>mine</html>"


def test_models_that_cannot_run_are_named(ran: tuple[Path, DemoReport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "obstacle", lambda entry: f"no packages; {entry.install}" if entry.packages else "")
    said: list[str] = []
    outcome = run_demo(ran[0], None, CLIPS, said.append)
    assert [line.split()[1] for line in said if line.startswith("skipped")] == list(BUNDLED)
    assert all("pip install" in line for line in said if line.startswith("skipped"))
    assert "m2f" not in outcome.table
