"""Limits on declared sizes: what is above them is refused in one line that says how to raise them."""

from __future__ import annotations

import pytest

from avsrobust.errors import AudioError, OptionError
from avsrobust.limits import ENVIRONMENT, Limit

LIMIT = Limit(100, "pixels", "enough")


def test_the_limit_itself_is_accepted() -> None:
    LIMIT.check(100, "a.png", AudioError)


def test_what_is_above_is_refused_with_the_factor_that_lets_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match=r"a\.png: found 1,001 pixels; expected at most 100 .*--raise-limits 11"):
        LIMIT.check(1001, "a.png", AudioError)
    monkeypatch.setenv(ENVIRONMENT, "11")
    LIMIT.check(1001, "a.png", AudioError)


@pytest.mark.parametrize("text", ["0.5", "-1", "x", "nan", "inf", "1e9"])
def test_a_factor_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(ENVIRONMENT, text)
    with pytest.raises(OptionError, match=f"{ENVIRONMENT}={text}: expected a factor from 1 to 1000000"):
        LIMIT.check(101, "a.png", AudioError)
    # Limits are only ever raised: what is below needs no factor.
    LIMIT.check(100, "a.png", AudioError)
