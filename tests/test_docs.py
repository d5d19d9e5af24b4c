"""The documentation says what is so: its snippets run, its links lead somewhere, and it names what the code has.

A fenced block right below ``<!-- runnable -->`` is run here, the blocks of a page in order, in one folder that holds a toy
(``data``) and its build (``robust/s4-seed42``); below ``<!-- runnable: empty folder -->`` in an empty one. Of a ``console``
block the lines behind ``$`` are commands, the others what they print (``...`` is anything); below
``<!-- runnable: exit 2 -->`` that status is expected, and the lines are those of stderr. A block with a title is a file.
"""

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from avsrobust import limits, manifest, results
from avsrobust.adapters.catalogue import BUILT_IN
from avsrobust.adapters.lookup import load_adapter
from avsrobust.audio import definitions
from avsrobust.cli import main as cli
from avsrobust.conditions.recipe import load_recipe
from avsrobust.conditions.registry import CONDITIONS
from avsrobust.datasets.taxonomy import AVSS_SUPERCATEGORY, S4_SUPERCATEGORY, SUPERCATEGORIES
from avsrobust.evaluation.runner import evaluate
from avsrobust.mask_overlaps import OVERLAPS_FIELD
from avsrobust.metrics import PROTOCOLS, SEMANTIC_PROTOCOLS
from avsrobust.pretransform.write import CLASSES_FORMAT
from avsrobust.reporting.columns import CSV_COLUMNS, METRICS
from avsrobust.reporting.formats import format_names
from avsrobust.training.checkpoints import TRAINING_FORMAT
from avsrobust.vocabulary import DATASETS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SITE = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PAGES = [*SITE, README, ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md", ROOT / "model_adapters/m2f/README.md"]
# The place of AVSBench in the pages' examples.
EXAMPLE_ROOT = "/data/avsbench"
# Options of other programs that the pages name.
FOREIGN = {
    "--backend-store-uri",
    "--num_processes",
    "--nproc_per_node",
    "--logdir",
    "--no-capture-output",
    "--tpavi_vv_flag",
    "--bfloat16",
}

_SNIPPET = re.compile(
    r"^<!-- runnable(?P<how>[^>]*) -->\n```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"^```(?P<language>\w*).*?\n(?P<code>.*?)\n```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DEFINITION_OPERATIONS = {
    kind.model_fields["op"].default: kind
    for kind in vars(definitions).values()
    if isinstance(kind, type) and "op" in getattr(kind, "model_fields", {})
}


@dataclass(frozen=True)
class Snippet:
    """A block to run: its language, the file it is (or None), how it is marked, and its text."""

    language: str
    title: str | None
    how: str
    code: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def snippets(page: Path) -> list[Snippet]:
    found = _SNIPPET.finditer(page.read_text(encoding="utf-8"))
    return [Snippet(f["language"], f["title"], f["how"].strip(": "), f["code"]) for f in found]


def markers(page: Path) -> int:
    return len(re.findall(r"^<!-- runnable", page.read_text(encoding="utf-8"), re.MULTILINE))


RUNNABLE = [page for page in PAGES if markers(page)]


@pytest.fixture
def workplace(tmp_path: Path, toy_builds: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, without the user's settings; a page's imports and paths end with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVSROBUST_DATA", raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_snippets_run(
    page: Path, workplace: Path, toy_builds: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    found = snippets(page)
    _furnish(workplace, toy_builds, empty=found[0].how == "empty folder")
    for snippet in found:
        if snippet.how == "empty folder":
            monkeypatch.delenv("AVSROBUST_DATA", raising=False)
            _furnish(workplace, toy_builds, empty=True)
        if snippet.title is not None:
            (workplace / snippet.title).write_text(snippet.code + "\n", encoding="utf-8")
        elif snippet.language == "console":
            _run_console(snippet, toy_builds, capfd, monkeypatch)
        else:
            assert snippet.language == "python", f"{page}: cannot run {snippet.language}"
            exec(compile(snippet.code, f"{page.name} ({snippet.code.splitlines()[0]})", "exec"), namespace)


def _furnish(folder: Path, toy_builds: Path, *, empty: bool) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if not empty:
        (folder / "data").symlink_to(toy_builds, target_is_directory=True)
        shutil.copytree(toy_builds / "robust/s4-seed42", folder / "robust/s4-seed42", symlinks=True)


def _run_console(
    snippet: Snippet, toy_builds: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = int(snippet.how.removeprefix("exit ")) if snippet.how.startswith("exit ") else 0
    for command, printed in commands(snippet.code):
        words = shlex.split(command.replace(EXAMPLE_ROOT, str(toy_builds)), comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            monkeypatch.setenv(name, value)
            continue
        assert words[0] == "avsrobust", f"cannot run: {command}"
        capfd.readouterr()
        found = cli.invoke(words[1:])
        output = capfd.readouterr()
        assert found == status, f"{command}: exit status {found}\n{output.err}"
        if printed:
            shown = (output.err if status else output.out).rstrip()
            pattern = re.escape(printed).replace(r"\.\.\.", ".*")
            assert re.fullmatch(pattern, shown, re.DOTALL), f"{command} printed\n{shown}\nnot\n{printed}"


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what it prints there."""
    for block in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, printed = block.partition("\n")
        yield command.strip(), printed.strip()


def test_every_marker_has_its_block() -> None:
    for page in PAGES:
        assert len(snippets(page)) == markers(page), page


def test_snippets_are_checked_against_what_is_printed(
    workplace: Path, toy_builds: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for code, complaint in (
        ("$ avsrobust --version\navsrobust, version ...", None),
        ("$ avsrobust --version\nanother program", "printed"),
        ("$ avsrobust evaluate --adapter nobody", "exit status 2"),
        ("$ rm -r everything", "cannot run"),
    ):
        snippet = Snippet("console", None, "", code)
        if complaint is None:
            _run_console(snippet, toy_builds, capfd, monkeypatch)
        else:
            with pytest.raises(AssertionError, match=complaint):
                _run_console(snippet, toy_builds, capfd, monkeypatch)


# Links


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page}: {target}"
        assert not anchor or anchor in anchors(file), f"{page}: {target}"
    for name in re.findall(r"\]\[(avsrobust[\w.]*)\]", text):
        assert found(name) is not None, f"{page}: {name}"


def found(name: str) -> object:
    """What a dotted name stands for, None where there is nothing; a module's name may also be that of a function beside it."""
    for dots in range(name.count(".") + 1):
        module, *attributes = name.rsplit(".", dots)
        try:
            value: object = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for attribute in attributes:
            value = getattr(value, attribute, None)
        return value
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """Code spans that name a file of the repository."""
    for path in re.findall(
        r"`((?:docs|examples|benchmarks|tests|avsrobust|recipes|model_adapters)/[\w./]+)`", prose(page)
    ):
        assert (ROOT / path).exists(), f"{page}: {path}"


def prose(page: Path) -> str:
    """A page without its fenced blocks, and with what it includes."""
    text = re.sub(r'^--8<-- "(.+)"$', "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return _FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    if found := re.fullmatch(r'--8<-- "(.+)"\s*', text):
        text = (ROOT / found[1]).read_text(encoding="utf-8")
    headings = _HEADING.findall(_FENCE.sub("", text))
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


# The command line


def options_of(name: str) -> set[str]:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None, name
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    parameters = [parameter for entry in (command, *inner) for parameter in entry.params]
    found = {text for parameter in parameters for text in (*parameter.opts, *parameter.secondary_opts)}
    return {text for text in found if text.startswith("--")} | {"--help"}


def common_options() -> set[str]:
    return {text for parameter in cli.main.params for text in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = [
        line for found in _FENCE.finditer(text) if found["language"] != "python" for line in found["code"].splitlines()
    ]
    code += re.findall(r"`([^`\n]+)`", prose(page))
    everywhere = {option for name in cli.COMMANDS for option in options_of(name)} | {"--version"} | FOREIGN
    for line in code:
        unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", "", line)
        if found := re.search(r"(?:^|[$\s])(?<!import )avsrobust ([a-z]+)\b(.*)", unquoted):
            assert found[1] in cli.COMMANDS, f"{page}: {line}"
            for option in re.findall(r"(?<!\S)--[a-zA-Z][\w-]*", found[2].partition("#")[0]):
                assert option in options_of(found[1]), f"{page}: {line}"
        elif option := re.match(r"--[a-zA-Z][\w-]*", unquoted):
            assert option[0] in everywhere, f"{page}: {line}"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = section_of(page, name)
    missing = options_of(name) - common_options() - set(re.findall(r"`(--[\w-]+)", section))
    assert not missing, f"commands.md, {name}: {missing}"


def test_every_common_option_is_documented() -> None:
    opening = (DOCS / "commands.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert not common_options() - set(re.findall(r"`(--[\w-]+)", opening))


def test_every_exit_status_is_documented() -> None:
    statuses = {value for key, value in vars(cli).items() if key.startswith("STATUS_")} | {0}
    for page in ("commands.md", "quick_start.md"):
        section = section_of((DOCS / page).read_text(encoding="utf-8"), "Exit status")
        assert {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)} == statuses


# Schemas and registries


def section_of(page: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row in a text, without the code marks."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.split("|")] for line in lines]


def type_text(entry: pa.Field) -> str:
    kind = entry.type
    if pa.types.is_fixed_size_list(kind):
        text = f"{kind.list_size} x {kind.value_type}"
    elif pa.types.is_list(kind):
        text = f"list of {'struct' if pa.types.is_struct(kind.value_type) else kind.value_type}"
    else:
        text = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
    return text + (", null" if entry.nullable else "")


@pytest.mark.parametrize(
    ("title", "schema"),
    [
        ("manifest.parquet", manifest.SCHEMA),
        (
            "Columns that a manifest may lack",
            pa.schema([entry.arrow_field for entry in manifest.COLUMNS.values() if entry.is_optional]),
        ),
        ("scores.parquet", results.SCHEMA.append(OVERLAPS_FIELD).append(results.CLASSES_FIELD)),
    ],
)
def test_every_column_is_documented_with_its_type(title: str, schema: pa.Schema) -> None:
    rows = rows_of(section_of((DOCS / "formats.md").read_text(encoding="utf-8"), title))
    documented = {row[0]: row[1] for row in rows if len(row) in (3, 4)}
    del documented["column"]
    documented = {name: text for name, text in documented.items() if set(name) != {"-"}}
    assert documented == {entry.name: type_text(entry) for entry in schema}


def test_every_metadata_key_and_run_entry_is_documented(toy_builds: Path, tmp_path: Path) -> None:
    build = toy_builds / "robust/s4-seed42"
    adapter = load_adapter("oracle", checkpoint=None, device=torch.device("cpu"), options={})
    evaluate(manifest.load_manifest(build), adapter, name="oracle", output=tmp_path / "scores")
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    for title, file in (
        ("manifest.parquet", build / "manifest.parquet"),
        ("scores.parquet", tmp_path / "scores/scores.parquet"),
    ):
        found = {key.decode() for key in pq.read_schema(file).metadata if key.startswith(b"avsrobust.")}
        assert set(re.findall(r"^\| `(avsrobust\.\w+)`", section_of(page, title), re.MULTILINE)) == found
    run = json.loads((tmp_path / "scores/run.json").read_text(encoding="utf-8"))
    keys = [row[0] for row in rows_of(section_of(page, "run.json"))[2:]]
    assert {name for cell in keys for name in re.findall(r"\w+", cell)} == set(run)


def test_every_format_is_documented_with_its_number() -> None:
    rows = rows_of(section_of((DOCS / "formats.md").read_text(encoding="utf-8"), "Versions of formats"))[2:]
    assert {row[0]: int(row[1]) for row in rows} == {
        "build": manifest.BUILD_FORMAT,
        "results": results.SCORES_FORMAT,
        "training": TRAINING_FORMAT,
        "classes": CLASSES_FORMAT,
    }


def test_every_protocol_is_documented_with_its_numbers() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    binary = {row[0].split("`")[0]: row for row in rows_of(section_of(page, "Protocols"))}
    for name, protocol in PROTOCOLS.items():
        assert [float(cell) for cell in binary[name][1:3]] == [protocol.threshold, protocol.beta2]
        assert binary[name][-1] == protocol.average
        assert f"### `{name}`" in page
    semantic = {row[0]: row for row in rows_of(section_of(page, "Semantic segmentation (AVSS)"))}
    for name, by_class in SEMANTIC_PROTOCOLS.items():
        assert semantic[name][2] == by_class.headline


def test_every_condition_is_documented_with_its_polarity() -> None:
    page = (DOCS / "conditions.md").read_text(encoding="utf-8")
    standard = {row[0]: row[1] for row in rows_of(section_of(page, "Recipe `standard` (the default)"))}
    rows = rows_of(section_of(page, "Recipe `extended`"))
    extended = {name.strip(" `"): row[1] for row in rows if len(row) == 6 for name in row[0].split(",")}
    polarities = {name: CONDITIONS.find(name).polarity for name in CONDITIONS.built_in}
    assert {name: extended[name] for name in polarities} == polarities
    assert {name: standard[name] for name in load_recipe("standard").condition_names}.items() <= polarities.items()


def test_the_levels_of_extended_are_those_of_its_recipe() -> None:
    page = (DOCS / "conditions.md").read_text(encoding="utf-8")
    rows = [row for row in rows_of(section_of(page, "Recipe `extended`")) if len(row) == 6]
    documented = {name.strip(" `"): row[2:4] for row in rows for name in row[0].split(",")}
    for entry in load_recipe("extended").entries:
        levels, unit = documented[entry.condition.name]
        assert unit == (entry.condition.level_unit or "")
        numbers = {float(number) for number in re.findall(r"-?\d+", levels)}
        assert {level for level in entry.condition.levels if level is not None} <= numbers


def test_every_operation_of_sounds_is_documented_with_its_keys() -> None:
    rows = rows_of(section_of((DOCS / "formats.md").read_text(encoding="utf-8"), "Definitions of sounds"))[2:]
    expected = {name: [key for key in kind.model_fields if key != "op"] for name, kind in DEFINITION_OPERATIONS.items()}
    assert {row[0]: row[1].split(", ") for row in rows} == expected


def limit_text(limit: limits.Limit) -> str:
    size, of = limit.unit.partition(" ")[0], limit.unit.removeprefix("bytes")
    if size != "bytes":
        return f"{limit.value:,} {limit.unit}"
    power = max(power for power in (10, 20, 30) if limit.value % (1 << power) == 0)
    return f"{limit.value >> power} {({10: 'KiB', 20: 'MiB', 30: 'GiB'})[power]}{of}"


def test_every_limit_is_documented_with_its_reason() -> None:
    rows = rows_of(section_of((DOCS / "security.md").read_text(encoding="utf-8"), "Limits"))[2:]
    known = [value for value in vars(limits).values() if isinstance(value, limits.Limit)]
    assert {row[2]: row[1] for row in rows} == {limit.reason: limit_text(limit) for limit in known}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("adapters.md", [entry.name for entry in BUILT_IN]),
        ("reports.md", list(format_names())),
        ("reports.md", [*METRICS, "model", "dataset", "split", "protocol", "clips"]),
        ("commands.md", [*PROTOCOLS, *SEMANTIC_PROTOCOLS, *format_names()]),
        ("conditions.md", ["standard", "reference", "extended", *CONDITIONS.built_in]),
        ("formats.md", sorted(DEFINITION_OPERATIONS)),
    ],
)
def test_every_name_is_documented(page: str, names: list[str]) -> None:
    spans = set(re.findall(r"`([\w-]+)`", (DOCS / page).read_text(encoding="utf-8")))
    assert not set(names) - spans


def test_the_csv_header_is_documented() -> None:
    section = section_of((DOCS / "formats.md").read_text(encoding="utf-8"), "The csv of `report`")
    assert ",".join(CSV_COLUMNS) in section.splitlines()


def test_every_category_is_documented_under_its_supercategory() -> None:
    page = (DOCS / "data_sets.md").read_text(encoding="utf-8")
    rows = {row[0]: row[1:] for row in rows_of(section_of(page, "Categories and supercategories"))}
    for column, kinds in enumerate((S4_SUPERCATEGORY, AVSS_SUPERCATEGORY)):
        for kind in SUPERCATEGORIES:
            assert rows[kind][column].split(", ") == sorted(name for name in kinds if kinds[name] == kind)


# The glossary


def test_the_glossary_is_in_order_and_names_what_reports_and_manifests_use() -> None:
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(\w.*)\n:   ", page, re.MULTILINE)
    assert terms == sorted(terms, key=str.casefold)
    known = {term.casefold() for entry in terms for term in entry.split(", ")}
    wanted = {
        "manifest",
        "condition",
        "protocol",
        "recipe",
        "release",
        "split",
        "level",
        "source clip",
        "supercategory",
        "row",
    }
    assert wanted | {kind.casefold() for kind in DATASETS} <= known


# The site's own build


@pytest.fixture
def build_tool() -> Callable[[str], Any]:
    """Load a module of ``docs/_build``."""

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "_build" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_docstrings_become_markdown(build_tool: Callable[[str], Any]) -> None:
    pytest.importorskip("griffe", reason="needs the extra docs")
    as_markdown = build_tool("docstrings").as_markdown
    text = "Title.\n\nConventions\n    One.\n    Two, which\n    goes on.\n\n>>> 1\n1\n\nArgs:\n    x: A number."
    assert as_markdown(text) == (
        "Title.\n\n**Conventions**\n\nOne.\n\nTwo, which\ngoes on.\n\n```pycon\n>>> 1\n1\n```\n\nArgs:\n    x: A number."
    )


@pytest.mark.parametrize(
    ("html", "refused"),
    [
        ('<script src="https://example.org/a.js"></script>', True),
        ('<link rel="stylesheet" href="//example.org/a.css">', True),
        ('<img alt="" src="http://example.org/a.png">', True),
        ('<a href="https://example.org">there</a><img src="report.png">', False),
    ],
)
def test_pages_load_nothing_from_other_hosts(
    html: str, refused: bool, build_tool: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Page:
        class file:  # noqa: N801 - mkdocs' name
            src_uri = "a.md"

    build_tool("hooks").on_post_page(html, page=Page)
    assert bool(caplog.records) == refused
