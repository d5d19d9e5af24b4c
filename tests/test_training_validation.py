"""Validation in training scores as an evaluation does."""

from __future__ import annotations

import pytest
import torch

from avsrobust.adapters.base import Adapter
from avsrobust.adapters.baselines import Oracle, VisualPrior
from avsrobust.errors import DataSetError, OptionError
from avsrobust.manifest import Manifest
from avsrobust.training.data import TrainingBuild
from avsrobust.training.validation import Validation, validate


def run(build: Manifest, adapter: Adapter, *, split: str = "test", clips: int = 0) -> Validation:
    builds = [TrainingBuild(build, build.data_root())]
    return validate(adapter, builds, split=split, clips=clips, device=torch.device("cpu"), vggish=None)


def test_baselines_score_as_they_must(tiny_build: Manifest) -> None:
    assert run(tiny_build, Oracle()).g_miou == 1.0
    assert run(tiny_build, VisualPrior()).g_miou == 0.0
    columns = run(tiny_build, Oracle()).columns("s4")
    assert (columns["clips"], columns["mIoU"], columns["silence_mIoU"], columns["G_FPR"]) == (4, 1.0, 0.0, 0.0)


def test_a_limit_takes_fewer_clips(tiny_build: Manifest) -> None:
    assert run(tiny_build, Oracle(), clips=2).scores["s4"].clips == 2


def test_a_split_without_clips_and_a_damaged_clip_are_named(make_build) -> None:
    build = make_build(clips=2)
    with pytest.raises(OptionError, match="has no clip of split 'val'"):
        run(build, Oracle(), split="val")
    (build.data_root() / build.rows[0].frames[0]).write_bytes(b"damaged")
    with pytest.raises(DataSetError, match=f"test/{build.rows[0].clip_id}: "):
        run(build, Oracle())
