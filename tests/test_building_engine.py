"""Engines: results in the order of the tasks, clear refusals."""

from __future__ import annotations

import time

import pytest

from avsrobust.building import engine
from avsrobust.building.engine import check_engine, open_engine
from avsrobust.errors import AudioError, OptionError


def slow_at_first(number: int) -> int:
    time.sleep(0.2 if number == 0 else 0)
    return number * number


def refuse_slowly_at_first(number: int) -> int:
    time.sleep(1 if number == 0 else 0)
    return refuse(number)


def refuse(number: int) -> int:
    raise AudioError(f"{number}.wav: found 0 samples")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    with open_engine("local", workers) as pool:
        assert list(pool.map(slow_at_first, range(20))) == [number * number for number in range(20)]
        assert list(pool.map(slow_at_first, [])) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_back_as_they_are(workers):
    with open_engine("local", workers) as pool, pytest.raises(AudioError, match=r"^3.wav: found 0 samples$"):
        list(pool.map(refuse, [3, 4]))


def test_the_error_is_that_of_the_first_task_whatever_fails_first():
    with open_engine("local", 2) as pool, pytest.raises(AudioError, match=r"^0.wav: found 0 samples$") as raised:
        list(pool.map(refuse_slowly_at_first, range(4)))
    assert "refuse_slowly_at_first" in str(raised.value.__cause__)


def test_a_running_dask_cluster_is_used_by_its_address():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        with open_engine("dask", 1, cluster.scheduler_address) as remote:
            assert list(remote.map(slow_at_first, range(5))) == [0, 1, 4, 9, 16]
            with pytest.raises(AudioError, match=r"^3.wav: found 0 samples$"):
                list(remote.map(refuse, [3]))
        assert cluster.status.name == "running"


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(engine, "_CONNECT_SECONDS", 0.5)
    with (
        pytest.raises(OptionError, match=r"--scheduler tcp://127.0.0.1:9: cannot be reached .*such as tcp://host:8786"),
        open_engine("dask", 1, "tcp://127.0.0.1:9"),
    ):
        pass


@pytest.mark.parametrize("address", ["nonsense://x", "tcp://"])
def test_an_address_that_is_none_is_named(monkeypatch, address):
    monkeypatch.setattr(engine, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(OptionError, match=f"--scheduler {address}: cannot be reached"), open_engine("dask", 1, address):
        pass


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="--engine ray: expected one of local, dask"):
        check_engine("ray", 1, None)
    with pytest.raises(OptionError, match="--workers 0: expected 1 or more"):
        check_engine("local", 0, None)
    with pytest.raises(OptionError, match="--scheduler tcp://a:1: only --engine dask uses one; add that option"):
        check_engine("local", 1, "tcp://a:1")
