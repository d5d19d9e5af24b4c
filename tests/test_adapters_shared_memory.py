"""Memory that a worker maps too: areas, their pool, and what is seen of them."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from avsrobust.adapters.remote import avsrobust_worker as protocol
from avsrobust.adapters.shared_memory import AreaPool, view_arrays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="such memory is Linux's; elsewhere the pipe serves")
MEGABYTE = 1 << 20


def pool(most: int = 2, most_bytes: int = 8 * MEGABYTE) -> tuple[AreaPool, list[int]]:
    closed: list[int] = []
    return AreaPool(most, most_bytes, itertools.count(), closed), closed


def test_the_other_side_sees_what_is_written_and_answers_there() -> None:
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    theirs = protocol.SharedMemory()
    number, memory = theirs.area(area.named)
    sent = [np.arange(7, dtype=np.float32), np.zeros((0, 3)), np.array(True), np.arange(5, dtype=np.uint8)[::-1]]
    parts = protocol.encode_message("segmented", {}, sent, (number, memory))
    assert len(parts) == 1
    header = protocol.parse_header(parts[0][8:])
    assert header["area"] == area.number
    for found, expected in zip(view_arrays(areas, area, header["arrays"]), sent, strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    lent = {**header, "lent": area.named}
    assert all(np.array_equal(one, other) for one, other in zip(theirs.arrays(lent), sent, strict=True))


def test_what_does_not_fit_follows_in_the_pipe() -> None:
    areas, _ = pool()
    area = areas.take(1)
    assert area is not None
    large = np.zeros(area.size + 1, np.uint8)
    parts = protocol.encode_message("segmented", {}, [large], (area.number, area.contents()))
    assert "area" not in protocol.parse_header(parts[0][8:])
    assert len(parts[1]) == len(large)


def test_an_area_is_used_again_when_nothing_shows_it() -> None:
    areas, _ = pool(most=1)
    area = areas.take(1000)
    assert area is not None
    (values,) = view_arrays(areas, area, [["<f4", [10]]])
    part = values[3:5]
    del values
    gc.collect()
    assert areas.take(1000) is None
    del part
    gc.collect()
    assert areas.take(1000) is area


def test_only_floating_point_is_a_view_as_it_is_copied_before_it_is_checked() -> None:
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    area.contents()[:] = 0
    described = [["<f4", [4]], ["|u1", [4]], ["|b1", [4]], ["<i8", [4]]]
    found = view_arrays(areas, area, described)
    area.contents()[:] = 1
    assert [bool(array.any()) for array in found] == [True, False, False, False]


def test_areas_cannot_be_shrunk_by_whoever_maps_them() -> None:
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    descriptor = os.open(area.named[1], os.O_RDWR)
    for size in (0, 2 * MEGABYTE):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    os.close(descriptor)


def test_arrays_beyond_an_area_are_refused() -> None:
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    with pytest.raises(protocol.ProtocolError, match=r"arrays of 1048640 bytes in 1048576 bytes of shared memory"):
        view_arrays(areas, area, [["|u1", [1]], ["|u1", [MEGABYTE]]])


def test_larger_areas_take_the_place_of_smaller_ones_within_the_bounds() -> None:
    areas, closed = pool(most=2, most_bytes=4 * MEGABYTE)
    small = areas.take(1)
    assert small is not None
    areas.give(small)
    large = areas.take(3 * MEGABYTE)
    assert large is not None
    assert closed == [small.number]
    assert areas.take(2 * MEGABYTE) is None
    assert areas.take(MEGABYTE) is not None
    assert areas.take(1) is None
    assert areas.take(5 * MEGABYTE) is None
    assert areas.take(0) is None
    areas.close()
    assert len(closed) == 3


def test_descriptors_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    values = view_arrays(areas, area, [["<f4", [10]]])
    areas.close()
    # What shows it keeps its memory.
    assert values[0].sum() == 0
    assert areas.take(1000) is None
    del values, area
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_path_that_names_something_else_is_not_mapped(tmp_path: Path) -> None:
    areas, _ = pool()
    area = areas.take(1000)
    assert area is not None
    number, path, name, size = area.named
    other = tmp_path / "other"
    other.write_bytes(bytes(size))
    theirs = protocol.SharedMemory()
    assert theirs.area([number, str(other), name, size]) is None
    assert theirs.area([number, path, name.replace("avsrobust-", "avsrobust+"), size]) is None
    assert theirs.area([number, path, name, -1]) is None
    assert theirs.area(None) is None
    assert theirs.area("what?") is None
    assert theirs.area(area.named) is not None
    with pytest.raises(protocol.ProtocolError, match="cannot be mapped here"):
        theirs.arrays({"arrays": [["<f4", [1 << 30]]], "area": number, "lent": area.named})


def test_without_such_memory_there_are_no_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(os, "posix_fallocate", none_left)
    areas, _ = pool()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert areas.take(1000) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert areas.take(1000) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
