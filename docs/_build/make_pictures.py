"""Make ``docs/report.png`` and ``docs/gallery.png``: the page that ``avsrobust demo`` writes, as a browser shows it.

    avsrobust demo && python docs/_build/make_pictures.py avsrobust-demo/report.html

Needs Chromium (Debian: ``apt-get install chromium``), found as ``chromium``, ``chromium-browser`` or ``google-chrome``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
PICTURE = DOCS / "report.png"
GALLERY = DOCS / "gallery.png"
# Pixels: one table with its bars and the beginning of the next, at the width of the README.
WIDTH, HEIGHT = 1280, 1250
GALLERY_HEIGHT = 920
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


def photograph(page: Path, picture: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write the top of an HTML file as a PNG of `width` x `height` pixels."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            browser(),
            *OPTIONS,
            f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}",
            f"--screenshot={folder}/picture.png",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        shutil.copyfile(f"{folder}/picture.png", picture)


def photograph_gallery(page: Path, picture: Path) -> None:
    """Write the first clip of a page's gallery as a PNG: of a copy of the page that shows nothing else of it."""
    text = page.read_text(encoding="utf-8")
    if '<section class="gallery"' not in text:
        raise SystemExit(f"make_pictures.py: {page} has no gallery; make it with 'avsrobust demo'")
    only = "main > section:not(:has(.gallery)), main > section:has(.gallery) ~ section, main > section > :not(.gallery), header, .findings, " \
        ".clip ~ .clip { display: none } body { padding: 1rem } .gallery { margin: 0; border: 0 }"  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "gallery.html"
        copy.write_text(text.replace("</style>", f"{only}</style>", 1), encoding="utf-8")
        photograph(copy, picture, WIDTH, GALLERY_HEIGHT)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make_pictures.py REPORT.html")
    photograph(Path(sys.argv[1]), PICTURE)
    photograph_gallery(Path(sys.argv[1]), GALLERY)
