"""The family of errors."""

from __future__ import annotations

import avsrobust.errors as errors


def test_every_error_belongs_to_the_family() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 9
    assert all(issubclass(kind, errors.AvsRobustError) for kind in kinds)


def test_only_near_names_are_suggested() -> None:
    assert errors.did_you_mean("visual-prior", ["oracle", "visual_prior"]) == "; did you mean 'visual_prior'?"
    assert errors.did_you_mean("segmentanything", ["oracle", "visual_prior"]) == ""
