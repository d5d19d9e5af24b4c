"""Running other people's code: isolation, CUDA calls, what is missing."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from avsrobust.errors import AdapterError
from model_adapters.checkouts.imports import Checkout

CPU = torch.device("cpu")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def two(tmp_path: Path) -> tuple[Checkout, Checkout]:
    """Two checkouts whose modules have the same names."""
    files = {
        "model/__init__.py": "from utils.helper import NAME\ndef late():\n    from config import NAME as late\n    return late\n",
        "utils/helper.py": "NAME = '{}'\n",
        "config.py": "NAME = 'late {}'\n",
        "data/clip/frame.txt": "no code here\n",
    }
    roots = [
        write(tmp_path / name, {path: text.format(name) for path, text in files.items()}) for name in ("one", "other")
    ]
    return Checkout(roots[0], CPU), Checkout(roots[1], CPU)


def test_two_checkouts_do_not_meet(two: tuple[Checkout, Checkout]) -> None:
    models = [checkout.import_module("model") for checkout in two]
    assert [model.NAME for model in models] == ["one", "other"]
    for checkout, model, name in zip(reversed(two), reversed(models), ("other", "one"), strict=True):
        with checkout.active():
            assert model.late() == f"late {name}"
    assert two[0].import_module("model") is models[0]


def test_nothing_is_left_behind(two: tuple[Checkout, Checkout]) -> None:
    before = set(sys.modules), list(sys.path), list(sys.meta_path), sys.stdout, torch.Tensor.cuda
    two[0].import_module("model")
    assert (set(sys.modules), list(sys.path), list(sys.meta_path), sys.stdout, torch.Tensor.cuda) == before
    assert not list(two[0].root.rglob("__pycache__"))


def test_nothing_is_left_behind_by_code_that_fails(tmp_path: Path) -> None:
    checkout = Checkout(write(tmp_path, {"model.py": "import helper\nquit()\n", "helper.py": ""}), CPU)
    before = set(sys.modules), list(sys.meta_path), torch.Tensor.cuda
    with pytest.raises(SystemExit):
        checkout.import_module("model")
    assert (set(sys.modules), list(sys.meta_path), torch.Tensor.cuda) == before


def test_modules_of_the_users_own_come_back(two: tuple[Checkout, Checkout], monkeypatch: pytest.MonkeyPatch) -> None:
    own = object()
    monkeypatch.setitem(sys.modules, "utils", own)
    assert two[0].import_module("model").NAME == "one"
    assert sys.modules["utils"] is own


def test_a_folder_without_init_goes_before_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "installed", {"ops/__init__.py": "HERE = False\n"})
    monkeypatch.syspath_prepend(tmp_path / "installed")
    root = write(tmp_path / "checkout", {"ops/functions/__init__.py": "HERE = True\n"})
    assert Checkout(root, CPU).import_module("ops.functions").HERE


def test_the_standard_library_stays(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"json.py": "raise ValueError('shadow')\n", "model.py": "import json\nNAME = json.dumps(1)\n"}
    )
    assert Checkout(root, CPU).import_module("model").NAME == "1"


def test_a_module_may_be_borrowed(tmp_path: Path) -> None:
    root = write(tmp_path / "a", {"model/__init__.py": "", "model/net.py": "from model.pvt import NAME\n"})
    beside = write(tmp_path / "b", {"pvt.py": "NAME = 'borrowed'\n"}) / "pvt.py"
    assert Checkout(root, CPU, {"model.pvt": beside}).import_module("model.net").NAME == "borrowed"
    with pytest.raises(AdapterError, match=r"importing 'model.net' found no module 'model.pvt'; install"):
        Checkout(root, CPU).import_module("model.net")


def test_prints_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Checkout(write(tmp_path, {"model.py": "print('==> loaded')\n"}), CPU).import_module("model")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "==> loaded\n")


def test_cuda_calls_go_to_the_checkouts_device(tmp_path: Path) -> None:
    code = "import torch\nT = torch.zeros(2).cuda()\nM = torch.nn.Linear(1, 1).cuda(0)\nP = M.weight.cuda(non_blocking=True)\n"
    root = write(tmp_path, {"model.py": code})
    module = Checkout(root, CPU).import_module("model")
    assert {module.T.device, module.M.weight.device, module.P.device} == {CPU}
    assert Checkout(root, torch.device("meta")).import_module("model").T.device.type == "meta"


def test_other_threads_keep_their_own_cuda(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine where .cuda() fails")
    checkout = Checkout(write(tmp_path, {"model.py": ""}), CPU)
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            torch.zeros(1).cuda()
        except (RuntimeError, AssertionError) as error:
            raised.append(error)

    with checkout.active():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert torch.zeros(1).cuda().device == CPU
    assert len(raised) == 1


STAND_INS = """
import MultiScaleDeformableAttention as MSDA
import torchvision.models as models
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from timm.models.registry import register_model
from timm.models.vision_transformer import _cfg

@register_model
def make():
    return DropPath(0.5), to_2tuple(7), to_2tuple((1, 2)), _cfg(url="x")
"""


def test_helpers_of_missing_packages_are_stood_in_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = [name for name in ("timm", "torchvision", "MultiScaleDeformableAttention") if not _installed(name)]
    if len(missing) < 3:
        pytest.skip(f"only {missing} are not installed here")
    checkout = Checkout(write(tmp_path, {"model.py": STAND_INS}), CPU)
    with caplog.at_level(logging.WARNING):
        module = checkout.import_module("model")
        checkout.import_module("model")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{checkout.root}: not installed, avsrobust's stand-ins are used: MultiScaleDeformableAttention, timm, torchvision"
    ]
    drop, both, pair, settings = module.make()
    assert (both, pair, settings) == ((7, 7), (1, 2), {"url": "x"})
    assert torch.equal(drop.eval()(torch.ones(3)), torch.ones(3))
    with pytest.raises(NotImplementedError, match="install timm to train"):
        drop.train()(torch.ones(3))
    with pytest.raises(
        AttributeError, match=r"torchvision.models.resnet50 is not in avsrobust's stand-in; install torchvision"
    ):
        module.models.resnet50  # noqa: B018
    assert not any(name.partition(".")[0] in missing for name in sys.modules)


def test_installed_packages_win_over_stand_ins(tmp_path: Path) -> None:
    installed = write(tmp_path / "site", {"timm/__init__.py": "", "timm/layers.py": "DropPath = 'the real one'\n"})
    root = write(tmp_path / "checkout", {"model.py": "from timm.layers import DropPath\n"})
    code = (
        "import pathlib, torch; from model_adapters.checkouts.imports import Checkout; "
        f"print(Checkout(pathlib.Path({str(root)!r}), torch.device('cpu')).import_module('model').DropPath)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        cwd=Path(__file__).parents[1],
    )
    assert (answer.stdout, answer.stderr) == ("the real one\n", "")


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
