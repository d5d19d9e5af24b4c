"""Redirects for a checkout's code: calls to a GPU go to the checkout's device, downloads are refused.

Conventions
    Published code names GPUs in many ways: ``x.cuda()``, ``module.cuda()``, ``x.to("cuda")``, ``x.to("cuda:0")``,
    ``torch.zeros(3, device="cuda")``, ``torch.load(path, map_location="cuda")``, weights that were saved on a GPU. In the
    block of `cuda_means` each of them means one device, whatever that is.
    In the block of `no_downloads` nothing is fetched. A hub's cache is read where the file is in it; where it is not, an
    `AdapterError` of one line names the file and where to put it, instead of minutes of waiting or a trace of errors.
    Both concern the thread that entered the block alone.
"""

from __future__ import annotations

import inspect
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from avsrobust.errors import AdapterError

# How far a refused connection is traced back to the function that knows the file's name.
_DEEPEST = 60


class _CudaMode(TorchFunctionMode):
    """Replaces devices "cuda.." in calls of torch; modes are each thread's own."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func` with the checkout's device in place of a GPU."""
        named = dict(kwargs or {})
        if func is Tensor.cuda:
            return args[0].to(self._device)
        if _is_cuda(named.get("device")):
            named["device"] = self._device
        if func is Tensor.to and len(args) > 1 and _is_cuda(args[1]):
            args = (args[0], self._device, *args[2:])
        return func(*args, **named)


@contextmanager
def cuda_means(device: torch.device) -> Iterator[None]:
    """Send whatever this thread sends to a GPU to `device`, which need not be one."""
    thread, original = threading.get_ident(), torch.load

    def load(f: Any, map_location: Any = None, *arguments: Any, **named: Any) -> Any:
        if threading.get_ident() == thread:
            if _is_cuda(map_location):
                map_location = device
            elif map_location is None:
                map_location = _from_gpu(device)
        return original(f, map_location, *arguments, **named)

    torch.load = load
    try:
        with _CudaMode(device):
            yield
    finally:
        torch.load = original


def _is_cuda(device: object) -> bool:
    """Return whether a device of any form, a number included, is a GPU."""
    if isinstance(device, bool) or not isinstance(device, str | torch.device):
        return False
    return str(device).partition(":")[0] == "cuda"


def _from_gpu(device: torch.device) -> Callable[[Any, str], Any]:
    """Return a `map_location` that puts storages of GPUs on a device and leaves the others where they were saved."""

    def place(storage: Any, location: str) -> Any:
        if not _is_cuda(location):
            return storage
        return storage if device.type == "cpu" else storage.to(device=device)

    return place


@contextmanager
def no_downloads(root: str) -> Iterator[None]:
    """Refuse downloads of this thread in the block.

    Args:
        root: The checkout, for messages.
    """
    thread = threading.get_ident()

    def to_file(url: str, dst: Any, *arguments: Any, **named: Any) -> Any:
        if threading.get_ident() != thread:
            return originals["download_url_to_file"](url, dst, *arguments, **named)
        raise AdapterError(
            f"{root}: its code would download {url}; avsrobust downloads nothing for it: put that file at {dst} yourself, or "
            "leave it out where --checkpoint holds all weights"
        )

    def repository(github: str, *arguments: Any, **named: Any) -> Any:
        if threading.get_ident() != thread:
            return originals["_get_cache_or_reload"](github, *arguments, **named)
        folder = Path(torch.hub.get_dir()) / str(github).partition(":")[0].replace("/", "_")
        raise AdapterError(
            f"{root}: its code would load {github} from torch.hub; avsrobust downloads nothing for it: clone that repository to "
            f"{folder} and have the code load it from there (source='local')"
        )

    def connect(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if threading.get_ident() != thread or host in (None, "localhost", "127.0.0.1", "::1"):
            return address(host, port, *arguments, **named)
        _refuse_connection(root, host)

    originals = {name: getattr(torch.hub, name) for name in ("download_url_to_file", "_get_cache_or_reload")}
    address = socket.getaddrinfo
    torch.hub.download_url_to_file = to_file
    torch.hub._get_cache_or_reload = repository
    socket.getaddrinfo = connect
    try:
        yield
    finally:
        socket.getaddrinfo = address
        for name, original in originals.items():
            setattr(torch.hub, name, original)


def _refuse_connection(root: str, host: object) -> NoReturn:
    wanted, where = _hub_file(inspect.currentframe())
    if wanted:
        raise AdapterError(
            f"{root}: its code would download {wanted} from {host}; avsrobust downloads nothing for it: put that file into "
            f"{where} yourself, or name a folder that holds it where the code names the hub"
        )
    raise AdapterError(
        f"{root}: its code would connect to {host}; avsrobust downloads nothing for it: put what it looks for where it looks "
        "first, as its README says"
    )


def _hub_file(frame: FrameType | None) -> tuple[str, str]:
    """Return repository and file that huggingface_hub is asked for, and its cache's folder; empty where it is not."""
    for _ in range(_DEEPEST):
        if frame is None:
            break
        if frame.f_code.co_name in ("hf_hub_download", "cached_file", "cached_files", "cached_path"):
            known = frame.f_locals
            repository = known.get("repo_id") or known.get("path_or_repo_id")
            name = known.get("filename") or known.get("filenames")
            if repository and name:
                names = name if isinstance(name, str) else ", ".join(map(str, name))
                folder = f"models--{str(repository).replace('/', '--')}/snapshots"
                return f"{names} of {repository}", str(Path(known.get("cache_dir") or _hub_cache()) / folder)
        frame = frame.f_back
    return "", ""


def _hub_cache() -> Path:
    """Return the folder of huggingface_hub's cache, which is not imported for it."""
    loaded = sys.modules.get("huggingface_hub.constants")
    return Path(getattr(loaded, "HF_HUB_CACHE", None) or Path("~/.cache/huggingface/hub").expanduser())
