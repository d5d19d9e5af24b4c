import dataclasses

import pytest

from avsrobust.errors import OptionError
from avsrobust.metrics import DEFAULT_PROTOCOL, PROTOCOLS, get_protocol


def test_the_contract_names_these_protocols_with_these_constants() -> None:
    constants = {protocol.name: (protocol.threshold, protocol.beta2) for protocol in PROTOCOLS.values()}
    assert constants == {"avsbench": (0.5, 0.3), "bias_in_avs": (0.4, 0.1), "strict": (0.5, 0.3), "pooled": (0.5, 0.3)}
    assert DEFAULT_PROTOCOL == "avsbench"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_found_by_its_name_and_says_where_it_comes_from(name: str) -> None:
    protocol = get_protocol(name)
    assert protocol.name == name
    assert protocol.description
    assert protocol.source


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(OptionError, match=r"found 'stric'; expected one of avsbench, .*; did you mean 'strict'\?"):
        get_protocol("stric")


def test_protocols_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="threshold"):
        get_protocol("strict").threshold = 0.4  # type: ignore[misc]
    with pytest.raises(TypeError, match="does not support item assignment"):
        PROTOCOLS["strict"] = PROTOCOLS["pooled"]  # type: ignore[index]
