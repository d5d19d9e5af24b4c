"""The whole chain on the procedural data set: toy -> build -> evaluate -> report, without any download.

Conventions
    Everything lies below one folder, each step where the command line would put it: ``data``, ``robust``, ``results``.
    Run again in the same folder, only what is missing is made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avsrobust.adapters.catalogue import known_adapters, obstacle
from avsrobust.adapters.lookup import load_adapter
from avsrobust.building.build import build
from avsrobust.callbacks import MessageCallback
from avsrobust.conditions.recipe import load_recipe
from avsrobust.datasets.read import list_dataset
from avsrobust.evaluation.runner import evaluate
from avsrobust.files import write_text
from avsrobust.gallery.collect import make_gallery
from avsrobust.manifest import load_manifest
from avsrobust.reporting.columns import percent
from avsrobust.reporting.earlier import require_replaceable
from avsrobust.reporting.escape import text_table
from avsrobust.reporting.report import report
from avsrobust.results import Scores, read_scores
from avsrobust.toy.write import write_toy
from avsrobust.vocabulary import BASELINES

SEED = 42
TOY_SEED = 0
TOY_CLIPS = {"s4": 160, "ms3": 160}
BUNDLED = ("m2f", "m2f_debias", "m2f_robust")
PROTOCOLS = ("strict", "avsbench")
# Of each data set: as many as take seconds to prepare.
GALLERY_CLIPS = 4

SPLIT = "test"
COLUMNS = ("mIoU", "F", "G_mIoU", "G_F", "G_FPR")


@dataclass(frozen=True)
class DemoReport:
    """The G scores as one table, and where the page with all numbers lies."""

    table: str
    page: Path


def run_demo(
    output: Path | str,
    models: Sequence[str] | None = None,
    clips: Mapping[str, int] = TOY_CLIPS,
    on_message: MessageCallback = lambda _message: None,
) -> DemoReport:
    """Run the demo.

    Args:
        output: Folder of everything that the demo makes.
        models: Names of adapters; None: the bundled ones that can run here, and the baselines.
        clips: Number of toy clips per data set.
        on_message: Called with a line for people before each step, and with every model that is skipped.

    Returns:
        The table and the page.
    """
    import torch

    output = Path(output)
    page = output / "report.html"
    require_replaceable(page, "html")
    if models is None:
        models = (*_runnable(BUNDLED, on_message), *BASELINES)
    scores: list[Scores] = []
    for dataset, count in clips.items():
        on_message(f"toy: {count} procedural clips in the layout of {dataset}")
        write_toy(output / "data", dataset, clips=count, seed=TOY_SEED)
        on_message(f"build: {dataset} under silence, noise and off-screen sound")
        table = list_dataset(dataset, output / "data", splits=[SPLIT]).checked(whole_sounds=True)
        built = build(table, load_recipe("standard"), SEED, output / "robust" / f"{dataset}-seed{SEED}")
        manifest = load_manifest(built.manifest)
        for model in models:
            on_message(f"evaluate: {model} on {dataset}")
            adapter = load_adapter(model, checkpoint=None, device=torch.device("cpu"), options={})
            folder = output / "results" / model / f"{dataset}-seed{SEED}"
            # The demo's own results: those of a model that has changed since give way.
            outcome = evaluate(manifest, adapter, name=model, output=folder, replace=True, save_masks=True)
            scores.append(read_scores(outcome.scores))
    on_message(f"report: {page}")
    gallery = make_gallery(scores, GALLERY_CLIPS, relative_to=output)
    write_text(page, str(report(scores, PROTOCOLS, None, "html", gallery=gallery, compare=True).content))
    return DemoReport(_summary(scores), page)


def _runnable(names: Sequence[str], on_message: MessageCallback) -> Iterator[str]:
    entries = {entry.name: entry for entry in known_adapters()}
    for name in names:
        reason = obstacle(entries[name])
        if reason:
            on_message(f"skipped: {name} ({reason})")
        else:
            yield name


def _summary(scores: Sequence[Scores]) -> str:
    lines = csv.DictReader(io.StringIO(str(report(scores, PROTOCOLS, None, "csv").content)))
    header = ["dataset", "protocol", "model", *(f"{name.replace('_', '-')} %" for name in COLUMNS)]
    rows = [
        [line["dataset"], line["protocol"], line["model"], *(percent(_number(line[name])) for name in COLUMNS)]
        for line in lines
    ]
    return text_table(header, rows, numeric_from=3) + "\n"


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
