"""The page in headless Chromium: its controls, its sounds, its widths and themes. Skipped where no browser is installed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from avsrobust.adapters.lookup import load_adapter
from avsrobust.evaluation.runner import evaluate
from avsrobust.gallery.collect import make_gallery
from avsrobust.manifest import load_manifest
from avsrobust.reporting.loading import load_results
from avsrobust.reporting.report import report
from avsrobust.reporting.reported import load_reported
from avsrobust.results import Scores

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 900, 1600)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
           "--disable-sync", "--no-first-run", "--hide-scrollbars", "--force-device-scale-factor=1",
           "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe")  # fmt: skip

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium (Debian: apt-get install chromium)")


class Browser:
    """A page in Chromium, spoken to by the DevTools protocol over a pipe.

    Attributes:
        complaints: Errors and warnings of the console, exceptions, and everything that was asked of the network.
    """

    def __init__(self, folder: Path) -> None:
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        # The browser reads commands from file 3 and writes answers to file 4.
        launcher = (
            "import fcntl, os, sys; a, b = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]); "
            "os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", launcher, str(read_commands), str(write_answers), str(BROWSER), *OPTIONS,
             f"--user-data-dir={folder}/profile", "about:blank"],
            pass_fds=(read_commands, write_answers),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.complaints: list[str] = []
        target = next(info for info in self("Target.getTargets")["targetInfos"] if info["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, page: Path) -> None:
        self._loaded = False
        self("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._note(self._next())

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def width(self, pixels: int) -> None:
        self("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def theme(self, name: str) -> None:
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path, *, whole: bool = False) -> bytes:
        content = base64.b64decode(self("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        path.write_bytes(content)
        return content

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        self("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        os.write(self._commands, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            content = os.read(self._answers, 1 << 20)
            assert content, "the browser has ended"
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert")
        ):
            self.complaints.append(json.dumps(parameters))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(("file:", "data:")):
            self.complaints.append(parameters["request"]["url"])


CLIPS, CONDITIONS = 3, 4
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def page(toy_builds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three models, one with a name that would be markup, with a gallery."""
    folder = tmp_path_factory.mktemp("page")
    manifest = load_manifest(toy_builds / "robust/s4-seed42")
    for adapter, name in (("visual_prior", HOSTILE), ("oracle", "oracle"), ("visual_prior", "visual_prior")):
        loaded = load_adapter(adapter, checkpoint=None, device=torch.device("cpu"), options={})
        output = folder / f"results/{len(list(folder.glob('results/*')))}/s4-seed42"
        evaluate(manifest, loaded, name=name, output=output, save_masks=True, check=False)
    results = load_results([folder / "results"])
    rendered = report(
        results,
        ["strict", "avsbench"],
        "category",
        "html",
        gallery=make_gallery(results, CLIPS, relative_to=folder),
        intervals=True,
        reported=load_reported(),
    )
    assert isinstance(rendered.content, str)
    (folder / "report.html").write_text(rendered.content, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(running: Browser, page: Path) -> Browser:
    running.complaints.clear()
    running.width(1280)
    running.theme("light")
    running.open(page)
    return running


def test_the_console_is_quiet_and_the_network_too(browser: Browser) -> None:
    assert browser.js("document.title") == "avsrobust: does the model listen?"
    assert browser.js("document.querySelectorAll('.controls:not([hidden])').length") == 2
    assert browser.complaints == []


def test_the_policy_lets_nothing_else_run(browser: Browser) -> None:
    refused = browser.js(
        "new Promise(done => { document.addEventListener('securitypolicyviolation', e => done(e.effectiveDirective));"
        " const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s); })"
    )
    assert refused == "script-src-elem"
    assert browser.js("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert browser.js("document.title") == "avsrobust: does the model listen?"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(browser: Browser, tmp_path: Path, width: int, theme: str) -> None:
    browser.width(width)
    browser.theme(theme)
    browser.js("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.js("document.documentElement.scrollWidth") <= width
    beyond = browser.js(
        "Array.from(document.querySelectorAll('body *')).filter(e => !e.closest('.scroll, .spoken, svg') && "
        "e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    )
    assert beyond == []
    assert len(browser.picture(tmp_path / "page.png")) > 10_000
    assert browser.complaints == []


@pytest.fixture(scope="module")
def page_with_a_model(toy_builds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a model and two baselines, whose scores stand in a table of their own."""
    folder = tmp_path_factory.mktemp("page_with_a_model")
    manifest = load_manifest(toy_builds / "robust/s4-seed42")
    (folder / "grey.py").write_text(
        "from avsrobust.adapters.base import Adapter\n"
        "class Grey(Adapter):\n"
        "    def segment(self, frames, audio):\n"
        "        return frames.float().mean(2) / 255\n"
    )
    for adapter in ("visual_prior", "match_gate", f"{folder}/grey.py:Grey"):
        loaded = load_adapter(adapter, checkpoint=None, device=torch.device("cpu"), options={})
        name = adapter.rpartition(":")[2]
        evaluate(manifest, loaded, name=name, output=folder / f"results/{name}/s4-seed42", check=False)
    rendered = report(load_results([folder / "results"]), ["strict", "avsbench"], None, "html", intervals=True)
    (folder / "report.html").write_text(str(rendered.content), encoding="utf-8")
    return folder / "report.html"


def test_tables_fit_a_common_screen_with_intervals_too(browser: Browser, page_with_a_model: Path) -> None:
    browser.width(1280)
    browser.open(page_with_a_model)
    browser.js("document.querySelectorAll('details').forEach(part => part.open = true)")
    tables = "Array.from(document.querySelectorAll('.scroll'))"
    names = f"{tables}.map(part => part.getAttribute('aria-labelledby'))"
    wider = f"{tables}.filter(part => part.scrollWidth > part.clientWidth).map(part => part.getAttribute('aria-labelledby'))"
    assert "baselines" in browser.js(names)
    assert browser.js(wider) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_a_very_long_name_leaves_the_table_its_place(browser: Browser, page: Path, tmp_path: Path, width: int) -> None:
    name = "a_name_with_everything_in_it" * 8
    content = page.read_text(encoding="utf-8")
    cell = '<th scope="row">oracle</th>'
    assert cell in content
    (tmp_path / "page.html").write_text(content.replace(cell, f'<th scope="row">{name}</th>'), encoding="utf-8")
    browser.width(width)
    browser.open(tmp_path / "page.html")
    browser.js("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert browser.js("document.documentElement.scrollWidth") <= width
    shown = f"Array.from(document.querySelectorAll('th')).filter(head => head.textContent === '{name}')"
    widths = browser.js(f"{shown}.map(head => head.clientWidth)")
    assert widths
    assert max(widths) <= min(22 * 16, 0.6 * width)
    # Cut off with dots where there is room for one line, and then told when it is pointed at.
    told = browser.js(
        f"{shown}.filter(head => head.getClientRects().length).every(head => head.title === head.textContent)"
    )
    assert told or browser.js(f"{shown}.every(head => head.scrollWidth <= head.clientWidth)")
    assert browser.complaints == []


def test_themes_differ(browser: Browser, tmp_path: Path) -> None:
    light = browser.js("getComputedStyle(document.body).backgroundColor")
    browser.theme("dark")
    assert browser.js("getComputedStyle(document.body).backgroundColor") != light


def test_every_sound_has_its_duration(browser: Browser) -> None:
    durations = browser.js(
        "Promise.all(Array.from(document.querySelectorAll('audio')).map(a => new Promise((done, failed) => {"
        " if (a.readyState) done(a.duration); a.onloadedmetadata = () => done(a.duration);"
        " a.onerror = () => failed(a.error.message); a.load(); })))"
    )
    assert len(durations) == CLIPS * CONDITIONS
    assert durations == pytest.approx([5.0] * len(durations), abs=0.02)


def test_one_sound_plays_at_a_time(browser: Browser) -> None:
    browser.js(
        "(async () => { const a = document.querySelectorAll('audio'); await a[0].play(); await a[1].play(); })()"
    )
    assert browser.js("Array.from(document.querySelectorAll('audio')).map(a => a.paused).slice(0, 2)") == [True, False]


def test_every_picture_is_there(browser: Browser) -> None:
    browser.js("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert (
        browser.js(
            "Promise.all(Array.from(document.querySelectorAll('img')).map(i => i.decode().then(() => i.naturalWidth > 0)))"
            ".then(all => all.every(Boolean) && all.length)"
        )
        == CLIPS * CONDITIONS
    )
    sizes = browser.js(
        "Array.from(document.querySelectorAll('.views svg')).filter(s => s.getClientRects().length)"
        ".map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )
    assert len(sizes) == CLIPS * CONDITIONS * 2
    assert all(width > 100 and height > 20 for width, height in sizes)
    targets = browser.js(
        "Array.from(document.querySelectorAll('.views use')).every(u => document.getElementById(u.getAttribute('href').slice(1)))"
    )
    assert targets is True


def test_tables_sort_by_mouse_and_keyboard(browser: Browser) -> None:
    names = "Array.from(document.querySelector('table').tBodies[0].rows).map(r => r.cells[0].textContent)"
    column = (
        "Array.from(document.querySelector('table').tBodies[0].rows).filter(r => !r.classList.contains('trivial'))"
        ".map(r => parseFloat(r.cells[2].textContent))"
    )
    bounds = [name for name in browser.js(names) if name.startswith(("trivial", "ceiling"))]
    button = "document.querySelector('table thead tr:last-child').cells[2].querySelector('button')"
    browser.js(f"{button}.click()")
    assert browser.js(column) == sorted(browser.js(column), reverse=True)
    browser.js(f"{button}.focus()")
    browser.press("Enter", 13)
    assert browser.js(column) == sorted(browser.js(column))
    assert browser.js(f"{button}.closest('th').getAttribute('aria-sort')") == "ascending"
    assert browser.js(names)[-len(bounds) :] == bounds


def set_value(browser: Browser, selector: str, value: str) -> None:
    browser.js(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
        f"(document.querySelector({json.dumps(selector)}))"
    )


def test_scores_have_intervals_and_published_numbers_a_table(browser: Browser, page: Path) -> None:
    cells = "Array.from(document.querySelectorAll('td small')).map((entry) => entry.textContent)"
    shown = browser.js(cells)
    assert len(shown) > 50
    assert all(re.fullmatch(r"\[\d+\.\d\d, \d+\.\d\d\]", text) for text in shown)
    # The first score and its interval stand in one cell, one below the other.
    assert browser.js("getComputedStyle(document.querySelector('td small')).display") == "block"
    assert "reported by others, not measured here" in page.read_text(encoding="utf-8")


def test_the_filter_hides_rows_and_charts(browser: Browser) -> None:
    shown = "Array.from(document.querySelectorAll('[data-name]:not([hidden])')).map(e => e.dataset.name)"
    assert HOSTILE in browser.js(shown)
    set_value(browser, "[data-filter=text]", "ORACLE")
    assert set(browser.js(shown)) == {"oracle"}
    set_value(browser, "[data-filter=text]", "")
    browser.js("document.querySelector('[data-filter=baselines]').click()")
    assert "oracle" not in browser.js(shown)
    parts = "Array.from(document.querySelectorAll('[data-part]:not([hidden])')).map(e => e.dataset.part)"
    category = browser.js(parts)[0] if browser.js(parts) else ""
    set_value(browser, "[data-filter=part]", category)
    assert all(category in part for part in browser.js(parts))
    set_value(browser, "[data-filter=text]", "no such model")
    assert browser.js("document.querySelector('.filter output').value") == "nothing matches"


def test_the_slider_moves_table_and_charts(browser: Browser) -> None:
    row = "Array.from(document.querySelector('tr[data-curves]').cells).slice(1).map(c => c.textContent)"
    curves = browser.js("document.querySelector('tr[data-curves]').dataset.curves").split("|")
    set_value(browser, ".threshold input", "254")
    assert browser.js(row) == [curve.split(" ")[254] for curve in curves]
    assert browser.js("document.querySelector('.threshold output').value") == "1.000"
    line = "document.querySelector('.at-threshold')"
    assert float(browser.js(f"{line}.getAttribute('x1')")) == float(browser.js(f"{line}.dataset.right"))


def choose(browser: Browser, name: str, value: str) -> None:
    selector = f"[id$='.gallery.{name}']"
    set_value(browser, selector, value)


def test_the_gallery_shows_what_is_chosen(browser: Browser) -> None:
    models = "Array.from(document.querySelectorAll('.views figure:not([hidden]) figcaption b')).map(e => e.textContent)"
    assert len(set(browser.js(models))) == 2
    choose(browser, "second", "")
    assert len(set(browser.js(models))) == 1
    options = browser.js(
        "Array.from(document.querySelector(\"[id$='.gallery.first']\").options).map(o => o.textContent)"
    )
    assert HOSTILE in options
    choose(browser, "first", str(options.index("oracle")))
    assert set(browser.js(models)) == {"oracle"}
    conditions = (
        "new Set(Array.from(document.querySelectorAll('.row:not([hidden]) .sound b')).map(e => e.textContent)).size"
    )
    assert browser.js(conditions) == CONDITIONS
    choose(browser, "condition", "1")
    assert browser.js(conditions) == 1
    clips = "document.querySelectorAll('.clip:not([hidden])').length"
    assert browser.js(clips) == CLIPS
    choose(browser, "category", "0")
    assert 1 <= browser.js(clips) < CLIPS
    assert browser.js("document.querySelector('.gallery output').value").startswith(str(browser.js(clips)))
    choose(browser, "category", "")
    browser.js("document.querySelector(\"[id$='.gallery.truth']\").click()")
    assert browser.js("getComputedStyle(document.querySelector('.truth')).display") == "none"


def test_the_gallery_is_worst_first(browser: Browser) -> None:
    for order in ("0", "1", "2"):
        choose(browser, "order", order)
        ranks = browser.js(
            "Array.from(document.querySelectorAll('.clip')).map(c => "
            f"c.dataset.ranks.split('|')[{order}].split(' ')[document.querySelector(\"[id$='.gallery.first']\").value])"
        )
        values = [float("-inf") if rank == "-" else float(rank) for rank in ranks]
        assert values == sorted(values, reverse=True)


def test_links_lead_to_the_files(browser: Browser, page: Path) -> None:
    links = browser.js("Array.from(document.querySelectorAll('.links a')).map(a => decodeURI(a.getAttribute('href')))")
    assert links
    assert all((page.parent / link).is_file() for link in links)


def test_provenance_is_open_on_paper(browser: Browser) -> None:
    assert browser.js("document.querySelector('details.provenance').open") is False
    browser("Page.printToPDF")
    browser.js("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.js("document.querySelector('details.provenance').open") is True
    browser.js("window.dispatchEvent(new Event('afterprint'))")
    assert browser.js("document.querySelector('details.provenance').open") is False


def test_controls_have_names(browser: Browser) -> None:
    nameless = browser.js(
        "Array.from(document.querySelectorAll('input, select, audio, img')).filter(e => "
        "!(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.alt).map(e => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []


def test_the_page_is_small_and_the_same_again(page: Path) -> None:
    results = load_results([page.parent / "results"])
    gallery = make_gallery(results, CLIPS, relative_to=page.parent)
    choices = {"gallery": gallery, "intervals": True, "reported": load_reported()}
    again = report(results, ["strict", "avsbench"], "category", "html", **choices).content  # type: ignore[arg-type]
    assert again == page.read_text(encoding="utf-8")
    assert len(again) < 3_000_000


AXE_VERSION = "4.10.3"
AXE_SHA512 = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core: the file that AVSROBUST_AXE names, else npm's package, by its checksum."""
    if named := os.environ.get("AVSROBUST_AXE"):
        return Path(named).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, or axe.min.js of axe-core in AVSROBUST_AXE")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "pack", "--silent", f"axe-core@{AXE_VERSION}"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=120).returncode:
        pytest.skip("npm cannot get axe-core here")
    archive = folder / f"axe-core-{AXE_VERSION}.tgz"
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == AXE_SHA512
    with tarfile.open(archive) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def leaky(share: float) -> Callable[[Any, str, int], Any]:
    """A model with the right mask, which it shows under negatives too, in `share` of the clips."""
    return lambda targets, condition, clip: targets * float(condition == "clean" or clip < 6 * share)


@pytest.fixture(scope="module")
def overview_page(make_scores: Callable[..., Scores], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three models and a baseline on two data sets, with pairs, levels and categories."""
    results = [
        make_scores(leaky(share), model=f"model {share:g}", dataset=dataset, levels=(-3.0, 0.0, 3.0))
        for share in (0.2, 0.5, 0.8)
        for dataset in ("s4", "ms3")
    ]
    results.append(make_scores("oracle", levels=(-3.0, 0.0, 3.0)))
    page = tmp_path_factory.mktemp("overview") / "overview.html"
    content = report(results, ["strict", "avsbench"], "category", "html", scores=["levels"], compare=True).content
    page.write_text(str(content), encoding="utf-8")
    return page


@pytest.fixture
def overview(running: Browser, overview_page: Path) -> Browser:
    """The browser with the overview's page."""
    running.complaints.clear()
    running.width(1280)
    running.theme("light")
    running.open(overview_page)
    return running


OPEN_ALL = "document.querySelectorAll('details').forEach(part => part.open = true)"
VIOLATIONS = (
    "axe.run(document, {resultTypes: ['violations']})"
    ".then(found => found.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 120)]))"
)


def assert_axe_is_clean(browser: Browser, axe: str) -> None:
    browser.js(OPEN_ALL)
    browser.js(f"{axe}; 0")
    for theme in ("light", "dark"):
        browser.theme(theme)
        for width in (WIDTHS[0], WIDTHS[-1]):
            browser.width(width)
            assert browser.js(VIOLATIONS) == [], (theme, width)


def test_axe_finds_nothing_in_the_gallery(browser: Browser, axe: str) -> None:
    assert_axe_is_clean(browser, axe)


def test_axe_finds_nothing_in_the_overview(overview: Browser, axe: str) -> None:
    assert_axe_is_clean(overview, axe)


def test_axe_would_find_something(overview: Browser, axe: str) -> None:
    overview.js(OPEN_ALL)
    overview.js(f"{axe}; 0")
    overview.js("document.querySelector('select').labels[0].remove()")
    assert [entry[0] for entry in overview.js(VIOLATIONS)] == ["select-name"]


# Texts of one chart that lie over one another, and texts that leave their chart.
OVERLAPS = """
Array.from(document.querySelectorAll('svg')).filter(s => s.getClientRects().length).flatMap(svg => {
  const texts = Array.from(svg.querySelectorAll('text')).map(t => [t.textContent, t.getBoundingClientRect()]);
  const frame = svg.getBoundingClientRect();
  const outside = texts.filter(([, r]) => r.left < frame.left - 1 || r.right > frame.right + 1 || r.bottom > frame.bottom + 2);
  const over = texts.flatMap(([one, a], i) => texts.slice(i + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3
  ).map(([other]) => `${one} over ${other}`));
  return [...outside.map(([text]) => `${text} outside`), ...over];
})
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overlaps(overview: Browser, tmp_path: Path, width: int) -> None:
    overview.js(OPEN_ALL)
    for theme in ("light", "dark"):
        overview.width(width)
        overview.theme(theme)
        assert overview.js("document.documentElement.scrollWidth") <= width
        assert overview.js(OVERLAPS) == []
        assert len(overview.picture(tmp_path / f"{theme}-{width}.png", whole=True)) > 10_000
    assert overview.js("document.querySelectorAll('text').length") > 100
    assert overview.complaints == []


def test_pairs_can_be_chosen(overview: Browser) -> None:
    shown = (
        "Array.from(document.querySelector('.pairs').querySelectorAll('tbody tr')).filter(r => !r.matches('.unpaired'))"
        ".map(r => r.dataset.name)"
    )
    overview.js(OPEN_ALL)
    assert len(overview.js(shown)) == 3
    set_value(overview, "select[data-pair=one]", "0")
    assert overview.js(shown) == ["model 0.2 model 0.5", "model 0.2 model 0.8"]
    set_value(overview, "select[data-pair=other]", "2")
    assert overview.js(shown) == ["model 0.2 model 0.8"]
    assert overview.js("document.querySelector('.pairs output').value") == "1 pair"


def test_the_leaderboard_comes_first_and_sorts(overview: Browser) -> None:
    board = "document.querySelector('#leaderboard').parentElement"
    names = f"Array.from({board}.querySelector('tbody').rows).map(r => r.cells[0].textContent)"
    assert overview.js(names) == ["model 0.2", "model 0.5", "model 0.8"]
    assert overview.js("document.querySelector('main h2').id") == "leaderboard"
    best = f"Array.from({board}.querySelector('tbody').rows).map(r => r.cells[1].classList.contains('best'))"
    assert overview.js(best) == [True, False, False]
    heads = f"{board}.querySelector('thead tr:last-child')"
    overview.js(f"{heads}.cells[1].querySelector('button').click()")
    overview.js(f"{heads}.cells[1].querySelector('button').click()")
    assert overview.js(names) == ["model 0.8", "model 0.5", "model 0.2"]


def test_keys_reach_every_control(overview: Browser) -> None:
    """Tab comes by every control that is shown, and back to none twice."""
    count = overview.js(
        "Array.from(document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]'))"
        ".filter(e => e.checkVisibility() && e.getClientRects().length).length"
    )
    overview.js("window.reached = new Set(); document.addEventListener('focusin', e => reached.add(e.target))")
    for _ in range(count):
        overview.press("Tab", 9)
    assert overview.js("reached.size") == count


def test_the_page_prints_on_few_pages(overview: Browser) -> None:
    content = base64.b64decode(overview("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12


def test_the_gallery_says_by_what_it_is_sorted(browser: Browser) -> None:
    ranks = "Array.from(document.querySelectorAll('.clip .rank')).map(e => e.textContent)"
    for order, title in enumerate(
        ("largest mask under a negative", "lowest IoU under clean", "least change between sounds")
    ):
        choose(browser, "order", str(order))
        shown = browser.js(ranks)
        assert all(re.fullmatch(rf" · {title}: \d+\.\d\d %", text) for text in shown), shown
        values = [float(text.rpartition(": ")[2][:-2]) for text in shown]
        assert values == sorted(values, reverse=order == 0)
        assert browser.js("Array.from(document.querySelectorAll('.clip')).map(c => c.open)") == [True, True, False]
