"""Formats of a report, by name; packages and files of a user's can add some.

Conventions
    A format is a callable from a `Table` to text or bytes, with a file suffix. The built-in ones are the modules of
    `avsrobust.reporting.render`, each named as its format. Packages register a `Format` in the entry-point group
    `avsrobust.report_formats`; ``file.py:OBJECT`` names one without registering it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avsrobust.errors import OptionError, did_you_mean
from avsrobust.plugins import Registry, one_line
from avsrobust.reporting.model import Table

# The version of json's keys and parquet's columns.
REPORT_VERSION = 2
Renderer = Callable[[Table], str | bytes]
_PLAIN = ("", ".txt", ".markdown")
_RENDERERS = f"{__package__}.render"


@dataclass(frozen=True)
class Format:
    """One format of a report.

    Attributes:
        name: Name, for messages.
        suffix: Suffix of a file in this format, with its dot.
        renderer: Returns a table as text, or as bytes where the format is binary. Equal tables give equal results.
    """

    name: str
    suffix: str
    renderer: Renderer

    def __call__(self, table: Table) -> str | bytes:
        """Return `table` in this format.

        Raises:
            OptionError: A plug-in's renderer raises something, or returns neither text nor bytes.
        """
        if self.renderer.__module__.startswith(_RENDERERS):
            return self.renderer(table)
        with one_line(f"--format {self.name}: rendering", OptionError):
            content = self.renderer(table)
        if not isinstance(content, str | bytes):
            raise OptionError(f"--format {self.name}: returned {type(content).__name__}; expected str or bytes")
        return content


def find_format(spec: str) -> Format:
    """Return the format of a name, of ``package.module:OBJECT`` or of ``file.py:OBJECT``.

    The object is a `Format`, or a function from a `Table` to str or bytes, whose attribute `suffix` is the file suffix
    (".txt" where it has none).

    Raises:
        OptionError: The name is unknown, or the object is no format.

    >>> find_format("csv").suffix, find_format("md").suffix
    ('.csv', '.md')
    """
    return _REGISTRY.find(spec)


def format_of_file(path: Path) -> str:
    """Return the name of the format that a file's suffix means; "md" where it has none, or that of a plain text.

    Raises:
        OptionError: No format has this suffix.

    >>> format_of_file(Path("table.TEX")), format_of_file(Path("table.csv")), format_of_file(Path("table"))
    ('latex', 'csv', 'md')
    """
    suffix = path.suffix.lower()
    if suffix in _PLAIN:
        return "md"
    known: dict[str, str] = {}
    for name in format_names():
        try:
            known.setdefault(find_format(name).suffix, name)
        except OptionError:  # A plug-in that cannot be imported: the message of --format says so.
            continue
    if suffix not in known:
        raise OptionError(
            f"--output {path.name}: no format has the suffix '{suffix}'; expected {', '.join(known)}"
            f"{did_you_mean(suffix, known)}; or name one with --format"
        )
    return known[suffix]


def format_names() -> tuple[str, ...]:
    """Return the names of all formats: the built-in ones, then those that packages register.

    >>> format_names()[:6]
    ('csv', 'html', 'json', 'latex', 'md', 'parquet')
    """
    return _REGISTRY.names()


def _check(spec: str, found: object) -> Format:
    if isinstance(found, Format):
        return found
    if callable(found) and not isinstance(found, type):
        return Format(getattr(found, "__name__", spec), getattr(found, "suffix", ".txt"), found)
    raise OptionError(
        f"--format {spec}: is {type(found).__name__}; expected an avsrobust.reporting.formats.Format, or a function from a "
        "Table to str or bytes"
    )


_REGISTRY = Registry(
    noun="report format",
    option="--format",
    group="avsrobust.report_formats",
    built_in={
        module.name: f"{_RENDERERS}.{module.name}:FORMAT"
        for module in pkgutil.iter_modules([str(Path(__file__).parent / "render")])
    },
    check=_check,
    error=OptionError,
)
