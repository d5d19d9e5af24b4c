from __future__ import annotations

import numpy as np
import pytest
import torch

from avsrobust.errors import AdapterError
from model_adapters.checkouts.small_packages import EasyDict, Mlp, Rearrange, logger, rearrange, repeat


def test_rearrange_splits_permutes_and_merges() -> None:
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    merged = rearrange(x, "b c h w -> b (h w) c")
    assert torch.equal(merged, x.permute(0, 2, 3, 1).reshape(2, 20, 3))
    assert torch.equal(rearrange(merged, "b (h w) c -> b c h w", h=4, w=5), x)
    # One part of an axis follows from the others.
    assert torch.equal(rearrange(merged, "b (h w) c -> b c h w", w=5), x)
    assert torch.equal(Rearrange("b c h w -> (b h) w c")(x), x.permute(0, 2, 3, 1).reshape(8, 5, 3))
    for row, column in np.ndindex(4, 5):
        assert torch.equal(merged[:, row * 5 + column], x[:, :, row, column])


@pytest.mark.parametrize("pattern", ["b c h -> b (c h)", "b c h w -> b c h", "b c h w -> b c h h"])
def test_patterns_that_do_not_fit_are_refused(pattern: str) -> None:
    with pytest.raises(AdapterError, match="install einops"):
        rearrange(torch.zeros(2, 3, 4, 5), pattern)


def test_repeat_is_refused_when_called() -> None:
    with pytest.raises(NotImplementedError, match="install einops"):
        repeat(torch.zeros(1), "a -> a b", b=2)


def test_mlp_has_timms_names_and_layers() -> None:
    mlp = Mlp(3, 5, 2)
    assert [name for name, _ in mlp.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    x = torch.randn(4, 3)
    torch.testing.assert_close(mlp(x), mlp.fc2(torch.nn.functional.gelu(mlp.fc1(x))))


def test_easydict_nests_and_stays_a_dict() -> None:
    settings = EasyDict({"a": {"b": 1}, "parts": [{"c": 2}]}, d=3)
    settings.e = {"f": 4}
    assert (settings.a.b, settings.parts[0].c, settings.d, settings["e"].f) == (1, 2, 3, 4)
    settings.update(d=5)
    assert settings.d == 5
    with pytest.raises(AttributeError):
        _ = settings.missing


def test_the_logger_takes_any_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.critical("loading")
    assert "critical: loading" in caplog.text
