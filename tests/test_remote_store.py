"""A remote folder that fsspec opens: addresses that are refused, what lies in it, and errors in words."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from avsrobust.errors import OptionError
from avsrobust.remote import messages, telling
from avsrobust.remote.store import Store

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store() -> Store:
    return Store.open(f"memory://{secrets.token_hex(4)}/x")


@pytest.mark.parametrize("place", ["lab/../x", "lab//x", "lab/./x", "lab/x/.."])
def test_addresses_that_no_folder_can_have(place: str) -> None:
    with pytest.raises(
        OptionError, match=rf"s3://{place}: has an empty part, '.' or '..'; expected s3://bucket/folder"
    ):
        Store.open(f"s3://{place}")
    assert Store.open("memory://lab/ä b/1%20+#?/").url == "memory://lab/ä b/1%20+#?"


def test_a_few_files_are_looked_at_again_in_as_few_requests_as_can_be(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        store.write(name, name.encode())
    listings = []
    find = type(store.system).find
    monkeypatch.setattr(
        type(store.system), "find", lambda *args, **options: listings.append(1) or find(*args, **options)
    )
    assert store.look_again(names[:2], 3).keys() == set(names)
    assert len(listings) == 1
    # Of thousands a listing takes several.
    assert store.look_again(names[:2], 2000).keys() == set(names[:2])
    assert store.look_again(names[:1], 3).keys() == {"a"}
    assert len(listings) == 1


def test_a_session_that_names_another_endpoint_or_new_keys_means_it(
    s3: Any, serve: Callable[..., AbstractContextManager[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store.open("s3://lab/x")
    first.write("a", b"first")
    assert Store.open("s3://lab/x").system is first.system
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
    with serve(lambda port: [*command, str(port)], tmp_path) as port:
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(OptionError, match="s3://lab/x"):
            Store.open("s3://lab/x").write("a", b"second")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    again = Store.open("s3://lab/x")
    assert again.read("a") == b"first"
    keys = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    found = []
    for number in range(2):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        keys.write_text(f"[default]\naws_access_key_id = key{number}\naws_secret_access_key = {'x' * (number + 1)}\n")
        store = Store.open("s3://lab/x")
        store.listing()
        found.append(store.system._s3._request_signer._credentials.access_key)
    assert found == ["key0", "key1"]


class ReadTimeoutError(Exception):
    """Named as botocore's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("Access Denied"), "check the keys, and what they may do there"),
        (
            OSError(errno.EBUSY, "Please reduce your request rate."),
            "the store is overloaded or out of order: run the same",
        ),
        (ReadTimeoutError("on http://x"), r"check the network and the endpoint \(AWS_ENDPOINT_URL\), and run the same"),
        (ValueError("what"), "check the address, the keys and the endpoint"),
    ],
)
def test_errors_say_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    for name, call in (("find", store.listing), ("info", lambda: store.look(["a"]))):
        monkeypatch.setattr(type(store.system), name, fails)
        with pytest.raises(OptionError, match=rf"^{store.url}: cannot be \w+.*{type(error).__name__}: .*; {expected}"):
            call()


def test_a_store_that_does_not_answer_is_told_of(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    find = type(store.system).find

    def waits(self: Any, *arguments: Any, **options: Any) -> Any:
        while not told:
            time.sleep(0.01)
        return find(self, *arguments, **options)

    monkeypatch.setattr(type(store.system), "find", waits)
    monkeypatch.setattr(messages, "SILENCE_S", 0.05)
    with telling(told.append):
        assert store.listing() == {}
    assert told == [
        f"{store.url}: no answer for 0.05 s, still trying; check the network and the endpoint (AWS_ENDPOINT_URL)"
    ]
    monkeypatch.setattr(type(store.system), "find", find)
    with telling(told.append):
        store.listing()
    assert len(told) == 1
