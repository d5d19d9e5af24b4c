"""The one family of errors a user can meet.

Conventions
    Every message is one inert line (`avsrobust.inert`) and names the file or option, what was found, what was expected and what
    to do.
    The command line turns any `AvsRobustError` into that line on stderr and exit status 2; anything else is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from avsrobust.inert import inert_line


class AvsRobustError(Exception):
    """Root of all errors that the user can put right."""

    def __str__(self) -> str:
        # Messages quote files and arguments, whatever these hold.
        return inert_line(super().__str__())


class OptionError(AvsRobustError):
    """An option or argument has a value that cannot be used."""


class DataSetError(AvsRobustError):
    """The data set on disk is missing, incomplete or broken.

    `findings` holds one line per problem, for display above the summary in `str(error)`.
    """

    def __init__(self, message: str, findings: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class AudioError(AvsRobustError):
    """A recording cannot be read or is not of a kind that every front end reads alike."""


class RecipeError(AvsRobustError):
    """A recipe is unknown, malformed or asks for something impossible."""


class ManifestError(AvsRobustError):
    """A manifest cannot be read, is of another version, or does not fit the files beside it."""


class AdapterError(AvsRobustError):
    """An adapter cannot be found, loaded or run."""


class AdapterOutputError(AdapterError):
    """An adapter returned something else than its interface promises (shape, range, NaN)."""


class ClipError(AdapterError):
    """An adapter cannot do one clip, but may well do the others: that clip is listed and the evaluation goes on."""


class ResultsError(AvsRobustError):
    """Stored results cannot be read or do not fit together."""


class MetricInputError(AvsRobustError, ValueError):
    """A metric was given arrays it has no defined value for."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string.

    >>> did_you_mean("orcale", ["oracle", "empty"])
    "; did you mean 'oracle'?"
    >>> did_you_mean("zzz", ["oracle"]), did_you_mean("TEST", ["val", "test"])
    ('', "; did you mean 'test'?")
    """
    # Whoever writes Test means test; of two names that differ in that alone, the first.
    folded = {known_name.casefold(): known_name for known_name in reversed(list(known))}
    near = difflib.get_close_matches(name.casefold(), list(reversed(folded)), n=1)
    return f"; did you mean '{folded[near[0]]}'?" if near else ""


_OUT_OF_MEMORY = ("can't allocate memory", "can't start new thread")


def text_of(error: BaseException) -> str:
    """Return an exception's message, "" where its own code cannot say it: exceptions of others may raise another in ``__str__``.

    >>> text_of(ValueError("shape"))
    'shape'
    """
    try:
        return str(error)
    except Exception:
        return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory, the machine's or a GPU's, is used up; imports no torch.

    A thread that cannot be started lacks memory for its stack, or is one more than the user may have.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."))
    (True, True)
    >>> is_out_of_memory(RuntimeError("can't start new thread")), is_out_of_memory(ValueError("shape"))
    (True, False)
    """
    # torch's own class is OutOfMemoryError for a GPU; on the CPU it raises a RuntimeError.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(text in text_of(error) for text in _OUT_OF_MEMORY)
    )
