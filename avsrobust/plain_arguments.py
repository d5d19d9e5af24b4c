"""Arguments of the public functions as callers have them: numbers of numpy's, from a range or a table, are numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def with_plain_arguments(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function, given Python's own int, float, bool or str in place of a scalar of numpy's.

    Those are no `int` or `bool` to checks, and JSON cannot hold them. Lists, tuples and dicts are looked into, one level deep.
    """

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        # Nobody has a scalar of numpy's without numpy.
        if "numpy" not in sys.modules:
            return function(*args, **kwargs)
        plain: Any = function
        result: Result = plain(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})
        return result

    return call


def _plain(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(map(_scalar, value))
    if type(value) is dict:
        return {key: _scalar(entry) for key, entry in value.items()}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, sys.modules["numpy"].generic) else value
