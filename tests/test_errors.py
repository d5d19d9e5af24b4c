"""The family of errors."""

from __future__ import annotations

import pytest

import avsrobust.errors as errors


def test_every_error_belongs_to_the_family() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 9
    assert all(issubclass(kind, errors.AvsRobustError) for kind in kinds)


def test_only_near_names_are_suggested() -> None:
    assert errors.did_you_mean("visual-prior", ["oracle", "visual_prior"]) == "; did you mean 'visual_prior'?"
    assert errors.did_you_mean("segmentanything", ["oracle", "visual_prior"]) == ""


@pytest.mark.parametrize("kind", [errors.AvsRobustError, errors.DataSetError, errors.MetricInputError])
def test_a_message_is_one_inert_line_whatever_it_quotes(kind: type[errors.AvsRobustError]) -> None:
    error = kind("a.yaml: found 'x\ny\x1b[31m\u2028\u202e'; expected a name")
    assert str(error) == r"a.yaml: found 'x y\x1b[31m \u202e'; expected a name"
    assert str(kind("größe: 3 %")) == "größe: 3 %"
