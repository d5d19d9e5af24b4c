"""Failures of a store, in words: each file system of fsspec has errors of its own."""

from __future__ import annotations

import errno

_DISK = (errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_RENEW = "the keys have expired: renew them, and run the same command again; what is finished is kept"
CHECK = "check the address, the keys and the endpoint"
# What s3fs makes of answers such as SlowDown, and of errors of the server.
_BUSY = (errno.EBUSY, errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO))


def reason(error: BaseException) -> str:
    """Return the cause of an error; of the commonest in plain words."""
    kind = type(error).__name__
    if kind == "NoCredentialsError":
        return "found no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, FileNotFoundError) and "bucket" in str(error):
        return "there is no such bucket"
    if isinstance(error, ValueError) and "Invalid endpoint" in str(error):
        return f"{words(error)}; expected AWS_ENDPOINT_URL to be such as http://HOST:PORT"
    return f"{kind}: {words(error)}"


def because(error: BaseException) -> str:
    """Return the cause of an error, in brackets, and the remedy."""
    kind = type(error).__name__
    if is_expired(error):
        advice = _RENEW
    elif isinstance(error, PermissionError):
        advice = "check the keys, and what they may do there"
    elif isinstance(error, OSError) and error.errno in _BUSY:
        advice = "the store is overloaded or out of order: run the same command again later"
    elif "Timeout" in kind or "Connect" in kind:
        advice = "check the network and the endpoint (AWS_ENDPOINT_URL), and run the same command again"
    else:
        advice = CHECK
    return f"({reason(error)}); {advice}"


def advice_of_fetching(error: BaseException) -> str:
    """Return the remedy where files cannot be fetched that are there."""
    if is_expired(error):
        return _RENEW
    again = "run the same command again"
    return f"check the keys, and what they may do there; {again}" if isinstance(error, PermissionError) else again


def is_expired(error: BaseException) -> bool:
    """Return whether keys that hold for a time do so no more."""
    return "expired" in str(error).lower()


def stays(error: BaseException) -> bool:
    """Return whether a failure to fetch stays, however often it is tried: of the file, the keys or the disk here."""
    is_disk = isinstance(error, OSError) and error.errno in _DISK
    return is_disk or is_expired(error) or isinstance(error, FileNotFoundError | PermissionError)


def words(error: BaseException) -> str:
    """Return an error's own text, in one line of bounded length."""
    return " ".join(str(error).split())[:300]
