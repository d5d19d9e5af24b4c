from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from avsrobust import plugin_sources, plugins
from avsrobust.adapters.baselines import Empty, Oracle
from avsrobust.adapters.catalogue import BUILT_IN, ENTRY_POINT_GROUP, AdapterEntry, known_adapters
from avsrobust.adapters.lookup import find_adapter, load_adapter
from avsrobust.errors import AdapterError

CPU = torch.device("cpu")
METHODS = "\n    def encode_frames(self, frames): ...\n    def segment(self, encoded, audio): ...\n"
MODEL = """
import torch

class Model:
    audio = "log_mel"

    @classmethod
    def load(cls, checkpoint, device, size="3"):
        model = cls()
        model.size = int(size)
        return model

    def encode_frames(self, frames):
        return frames

    def segment(self, encoded, audio):
        return torch.zeros(encoded.shape[0], encoded.shape[1], self.size, self.size)
"""


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture(autouse=True)
def restored_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("_FOLDERS", "_WORKING", "_ADDED"):
        monkeypatch.setattr(plugin_sources, name, set())


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch):
    def apply(*points: EntryPoint) -> None:
        monkeypatch.setattr(plugins, "_entry_points", lambda group, _: points if group == ENTRY_POINT_GROUP else ())

    return apply


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_every_built_in_can_be_found(entry: AdapterEntry) -> None:
    assert f"{find_adapter(entry.name).__module__}:{find_adapter(entry.name).__qualname__}" == entry.target
    assert entry.description


def test_unknown_names_get_suggestions_and_the_list() -> None:
    with pytest.raises(AdapterError, match=r"--adapter orcale: unknown; .*oracle, visual_prior.*did you mean 'oracle'"):
        find_adapter("orcale")


def test_a_file_names_a_class(tmp_path: Path) -> None:
    path = write(tmp_path / "model.py", MODEL)
    found = find_adapter(f"{path}:Model")
    assert found.load(None, CPU, size="7").size == 7


def test_a_file_imports_its_neighbours_also_later(tmp_path: Path) -> None:
    write(tmp_path / "a" / "eager_part.py", "NAME = 'a'")
    write(tmp_path / "a" / "late_part.py", "NAME = 'late'")
    late = MODEL.replace("model = cls()", "from late_part import NAME; model = cls(); model.late = NAME")
    path = write(tmp_path / "a" / "model.py", "import eager_part\nNAME = eager_part.NAME\n" + late)
    adapter = find_adapter(f"{path}:Model")
    assert sys.modules[adapter.__module__].NAME == "a"
    assert adapter.load(None, CPU).late == "late"


def test_two_files_have_neighbours_of_one_name(tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b"):
        write(tmp_path / folder / "shared_name_part.py", f"NAME = '{folder}'")
        path = write(tmp_path / folder / "model.py", "import shared_name_part\nNAME = shared_name_part.NAME\n" + MODEL)
        adapter = find_adapter(f"{path}:Model")
        names.append(sys.modules[adapter.__module__].NAME)
    assert names == ["a", "b"]


def test_a_module_beside_the_user_names_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "their_package" / "their_module.py", MODEL)
    monkeypatch.chdir(tmp_path)
    assert find_adapter("their_package.their_module:Model").__name__ == "Model"


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (
            "def broken(:\n",
            "m.py:Model",
            r"m\.py: importing it raised SyntaxError: invalid syntax \([^()]*m\.py, line 1\); put that right",
        ),
        ("import json\njson.loads('{')\n", "m.py:Model", r"raised JSONDecodeError: .*m\.py, line 2\)"),
        ("import no_such_module_here\n", "m.py:Model", "raised ModuleNotFoundError: .*no_such_module_here.*line 1"),
        ("x = 1\nraise RuntimeError('two\\nlines')\n", "m.py:Model", r"RuntimeError: two lines \(.*m\.py, line 2\)"),
        ("quit()\n", "m.py:Model", "raised (SystemExit|NameError)"),
        (MODEL, "m.py:Modle", "has no class 'Modle'; did you mean 'Model'"),
        (MODEL, "m.py:Xyz", "has no class 'Xyz'; it has Model"),
        (MODEL, "m.py", "names no class; expected file.py:Class"),
        ("Model = 3\n", "m.py:Model", "is a int; expected a class with load, encode_frames, segment"),
        ("class Model:\n    def load(): pass\n", "m.py:Model", "class Model has no encode_frames, segment"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, content: str, spec: str, message: str) -> None:
    write(tmp_path / "m.py", content)
    with pytest.raises(AdapterError, match=message) as caught:
        find_adapter(f"{tmp_path}/{spec}")
    assert "\n" not in str(caught.value)


def test_missing_file_and_module_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"none\.py: not found"):
        find_adapter(f"{tmp_path}/none.py:Model")
    with pytest.raises(AdapterError, match="found no module no_such_package; install"):
        find_adapter("no_such_package.models:Model")
    with pytest.raises(AdapterError, match=r"found no module avsrobust\.no_such; install"):
        find_adapter("avsrobust.no_such:Model")


def test_a_name_that_lacks_its_colon_or_a_part_is_explained() -> None:
    with pytest.raises(AdapterError, match=r"my_models\.avs\.Net: unknown; .*; did you mean 'my_models\.avs:Net'\?"):
        find_adapter("my_models.avs.Net")
    with pytest.raises(AdapterError, match=r"--adapter :Net: names no module; expected package\.module:Class"):
        find_adapter(":Net")
    with pytest.raises(AdapterError, match=r"--adapter models:: names no class; expected package\.module:Class"):
        find_adapter("models:")


def test_a_module_that_misses_a_dependency_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "needy_module.py", "import detectron_not_here\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterError, match=r"importing needy_module raised ModuleNotFoundError: .*detectron_not_here"):
        find_adapter("needy_module:Model")


def test_registered_names_are_found_and_listed(register) -> None:
    register(EntryPoint("theirs", "avsrobust.adapters.baselines:Empty", ENTRY_POINT_GROUP))
    assert find_adapter("theirs") is Empty
    names = [entry.name for entry in known_adapters()]
    assert names[0] == "theirs"
    assert {"m2f_debias", "oracle"} <= set(names)


def test_a_users_definition_wins_over_a_built_in_with_a_warning(register, caplog: pytest.LogCaptureFixture) -> None:
    register(EntryPoint("oracle", "avsrobust.adapters.baselines:Empty", ENTRY_POINT_GROUP))
    assert find_adapter("oracle") is Empty
    assert "baselines:Empty (an installed package) is used instead of the built-in avsrobust" in caplog.text
    assert [entry.name for entry in known_adapters()].count("oracle") == 1


def test_two_packages_with_one_name_are_refused(register) -> None:
    register(EntryPoint("theirs", "a:A", ENTRY_POINT_GROUP), EntryPoint("theirs", "b:B", ENTRY_POINT_GROUP))
    with pytest.raises(AdapterError, match=r"'theirs': registered by .* and by .*uninstall one"):
        find_adapter("theirs")


def test_load_adapter_keeps_the_runners_options_to_itself() -> None:
    adapter = load_adapter("oracle", checkpoint=None, device=CPU, options={"vggish": "w.pth"})
    assert isinstance(adapter, Oracle)


def test_load_adapter_explains_what_goes_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "model.py", MODEL)
    spec = f"{path}:Model"
    with pytest.raises(AdapterError, match=r"--option sise: unknown to .*takes size; did you mean 'size'"):
        load_adapter(spec, checkpoint=None, device=CPU, options={"sise": "3"})
    with pytest.raises(AdapterError, match=r"load raised ValueError: invalid literal.*model\.py, line 10"):
        load_adapter(spec, checkpoint=None, device=CPU, options={"size": "x"})
    with pytest.raises(AdapterError, match=r"--checkpoint .*w\.pth: not found; expected the weights of"):
        load_adapter(spec, checkpoint=tmp_path / "w.pth", device=CPU, options={})


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("def load(cls): ...", r"load is defined as load\(\) .*expected a class method load\(cls, checkpoint, device"),
        ("def load(cls, checkpoint, device, repo, *, depth): ...", "needs --option repo=VALUE, --option depth=VALUE"),
        (
            "def load(cls, checkpoint, device): ...",
            "load returned None, which has no encode_frames, segment.*'return adapter'",
        ),
        ("def load(cls, checkpoint, device): return [1]", "load returned a list, which has no encode_frames"),
        (
            "def load(cls, checkpoint, device): return cls()",
            "m.py:Model: attribute audio: found 'log_mels'; expected AudioInput",
        ),
    ],
)
def test_loads_that_make_no_adapter_are_explained(tmp_path: Path, load: str, message: str) -> None:
    write(tmp_path / "m.py", "class Model:\n    audio = 'log_mels'\n    @classmethod\n    " + load + METHODS)
    with pytest.raises(AdapterError, match=message):
        load_adapter(f"{tmp_path}/m.py:Model", checkpoint=None, device=CPU, options={})


def test_a_load_of_the_instance_is_refused_and_given_options_are_enough(tmp_path: Path) -> None:
    write(tmp_path / "m.py", "class Model:\n    def load(self, checkpoint, device): ..." + METHODS)
    with pytest.raises(AdapterError, match=r"load\(self, checkpoint, device\) .*expected a class method"):
        load_adapter(f"{tmp_path}/m.py:Model", checkpoint=None, device=CPU, options={})
    load = "    audio = 'log_mel'\n    @classmethod\n    def load(cls, checkpoint, device, repo): return cls()"
    write(tmp_path / "n.py", "class Model:\n" + load + METHODS)
    load_adapter(f"{tmp_path}/n.py:Model", checkpoint=None, device=CPU, options={"repo": "x"})
    with pytest.raises(AdapterError, match=r"--option q: unknown to .*, which takes repo"):
        load_adapter(f"{tmp_path}/n.py:Model", checkpoint=None, device=CPU, options={"repo": "x", "q": "3"})


def test_load_adapter_takes_a_class_and_needs_its_audio() -> None:
    class NoAudio:
        @classmethod
        def load(cls, checkpoint, device):
            return cls()

        def encode_frames(self, frames): ...

        def segment(self, encoded, audio): ...

    with pytest.raises(AdapterError, match="audio: found None; expected AudioInput"):
        load_adapter(NoAudio, checkpoint=None, device=CPU, options={})
    NoAudio.audio = "embedding"  # type: ignore[attr-defined]
    assert isinstance(load_adapter(NoAudio, checkpoint=None, device=CPU, options={}), NoAudio)
