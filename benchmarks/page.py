"""How long the page of a demo takes to build after its evaluations, by part, and how large it is.

    avsrobust demo --output avsrobust-demo && python benchmarks/page.py avsrobust-demo

With all that a page can hold: a gallery, intervals, pairs of models, categories and extra scores. Times are CPU time, the
least of some repetitions in one process, so without Python's start and the imports; sounds are encoded in threads, so that the
time on the clock of an idle machine is less. Budget: 3 s for s4 and ms3 as the demo makes the page, and 15 MB.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avsrobust.demo import GALLERY_CLIPS, PROTOCOLS
from avsrobust.gallery.collect import make_gallery
from avsrobust.reporting.loading import load_results
from avsrobust.reporting.report import report

BUDGET_S, BUDGET_BYTES = 3.0, 15_000_000
MODELS = ("m2f", "m2f_debias", "m2f_robust", "oracle", "visual_prior", "empty")


def least(repeat: int, function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU time in seconds, and what the function returned."""
    durations, found = [], None
    for _ in range(repeat):
        started = time.process_time()
        found = function()
        durations.append(time.process_time() - started)
    return min(durations), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder that 'avsrobust demo' made")
    parser.add_argument(
        "--models", nargs="+", default=MODELS, metavar="NAME", help="models (default: six of the demo's)"
    )
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folders = [arguments.demo / "results" / name for name in arguments.models]

    load_s, results = least(arguments.repeat, lambda: load_results(folders))
    gallery_s, gallery = least(
        arguments.repeat, lambda: make_gallery(results, GALLERY_CLIPS, relative_to=arguments.demo)
    )
    print(f"{len(results)} results of {len(folders)} models")
    print(f"{'reading the results':28} {load_s:6.2f} s")
    print(f"{f'gallery of {len(gallery.clips)} clips':28} {gallery_s:6.2f} s")
    choices: dict[str, dict[str, Any]] = {
        "tables": {},
        "with the gallery": {"gallery": gallery},
        "and pairs, as the demo": {"gallery": gallery, "compare": True},
        "and intervals": {"gallery": gallery, "compare": True, "intervals": True},
        "and categories, all scores": {
            "gallery": gallery,
            "compare": True,
            "intervals": True,
            "by": "category",
            "scores": ["all"],
        },
    }
    for name, options in choices.items():
        report_s, page = least(arguments.repeat, lambda: report(results, PROTOCOLS, format="html", **options))  # noqa: B023
        size = len(str(page.content).encode())
        total = load_s + gallery_s * ("gallery" in options) + report_s
        print(
            f"{name:28} {report_s:6.2f} s  {size / 1e6:5.2f} MB  in all {total:5.2f} s "
            f"({total / BUDGET_S:.0%} of {BUDGET_S:g} s, {size / BUDGET_BYTES:.0%} of 15 MB)"
        )


if __name__ == "__main__":
    main()
