"""Make ``docs/report.png``: the top of the page that ``avsrobust demo`` writes, as a browser shows it.

    avsrobust demo && python docs/_build/make_pictures.py avsrobust-demo/report.html

Needs Chromium (Debian: ``apt-get install chromium``), found as ``chromium``, ``chromium-browser`` or ``google-chrome``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURE = Path(__file__).resolve().parents[1] / "report.png"
# Pixels: one table with its bars and the beginning of the next, at the width of the README.
WIDTH, HEIGHT = 1280, 1250
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A fresh browser that asks no other host for anything; a container's root has no sandbox.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--blink-settings=preferredColorScheme=1",  # Light, whatever the desktop says.
)


def browser() -> str:
    """Return the path of an installed browser, or end the program where there is none."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise SystemExit(f"make_pictures.py: found none of {', '.join(BROWSERS)}; install Chromium")


def photograph(page: Path, picture: Path) -> None:
    """Write the top of an HTML file as a PNG of `WIDTH` x `HEIGHT` pixels."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            browser(),
            *OPTIONS,
            f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={folder}/picture.png",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        shutil.copyfile(f"{folder}/picture.png", picture)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_pictures.py REPORT.html")
    photograph(Path(sys.argv[1]), PICTURE)
