from __future__ import annotations

from pathlib import Path

from avsrobust.training.logs import LOSSES, RunLog, _CsvLog, write_parameters


def test_lines_beyond_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    table = _CsvLog(path, ("loss",), 0)
    for step in range(1, 6):
        table.add(step, {"loss": step / 3})
    table.close()
    whole = path.read_text()
    with path.open("a") as stream:
        stream.write("6,0.12")
    again = _CsvLog(path, ("loss",), 3)
    for step in (4, 5):
        again.add(step, {"loss": step / 3})
    again.close()
    assert path.read_text() == whole


def test_a_file_of_other_columns_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,other\n1,2\n")
    _CsvLog(path, ("loss",), 5).close()
    assert path.read_text() == "step,loss\n"


def test_undefined_is_empty(tmp_path: Path) -> None:
    table = _CsvLog(tmp_path / "log.csv", ("a", "b"), 0)
    table.add(1, {"a": None, "b": 0.5})
    table.close()
    assert (tmp_path / "log.csv").read_text() == "step,a,b\n1,,0.5\n"


def test_both_logs(tmp_path: Path) -> None:
    with RunLog(tmp_path, ["bce"], 0) as log:
        log.losses(1, {"loss": 1.0, "bce": 1.0, "lr": 0.1, "gradient_norm": 2.0})
        log.validation(1, "s4", {"clips": 2, "mIoU": 0.5, "G_mIoU": None})
    assert (tmp_path / LOSSES).read_text() == "step,loss,bce,lr,gradient_norm\n1,1.0,1.0,0.1,2.0\n"
    assert (tmp_path / "validation.csv").read_text().splitlines()[1] == "1,s4,2,0.5,,,,,"
    assert list((tmp_path / "tensorboard").iterdir())


def test_parameters_are_listed(tmp_path: Path) -> None:
    write_parameters(tmp_path / "p.csv", {"a.weight": ((2, 3), True), "a.bias": ((2,), False)})
    assert (tmp_path / "p.csv").read_text() == "name,shape,trained\na.weight,2x3,yes\na.bias,2,no\n"
