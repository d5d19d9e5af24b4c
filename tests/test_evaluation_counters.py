"""Counting in threads beside the adapter."""

from __future__ import annotations

from unittest.mock import patch

import torch

from avsrobust.evaluation import counters as counters_module
from avsrobust.evaluation.counters import Counters


def test_threads_that_count_share_the_cores_but_the_adapters_and_leave_torchs_elsewhere() -> None:
    before = torch.get_num_threads()
    for cores, counters, share in ((16, None, 3), (8, 1, 7), (2, 4, 1), (2, None, 1), (1, None, 1)):
        with (
            patch.object(counters_module, "usable_cores", return_value=cores),
            Counters(counters, keep_masks=False, as_foreground=False) as counting,
        ):
            assert counting._pool.submit(torch.get_num_threads).result() == share
        assert torch.get_num_threads() == before
